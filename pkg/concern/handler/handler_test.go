package handler_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/pkg/concern/handler"
)

type greeter interface{ Greet(name string) string }

type byValue struct{}

func (byValue) Greet(name string) string { return "hello " + name }

type byPointer struct{ greeting string }

func (p *byPointer) Greet(name string) string { return p.greeting + " " + name }

type another struct{}

func (another) Greet(name []byte) string { return string(name) }

type embedding struct{ byValue }

func TestOptionalFinds(t *testing.T) {
	for name, c := range map[string]struct {
		h    any
		want string // "": not found
	}{
		"value":            {byValue{}, "hello bob"},
		"pointer to value": {&byValue{}, "hello bob"},
		"pointer":          {&byPointer{"hi"}, "hi bob"},
		"embedded":         {embedding{}, "hello bob"},
		"no such method":   {struct{}{}, ""},
		"no methods":       {5, ""},
		"nil":              {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			v, ok := handler.Optional[greeter](c.h)
			if ok != (c.want != "") {
				t.Fatalf("found: %v", ok)
			}
			if ok && v.Greet("bob") != c.want {
				t.Errorf("greets with %q, want %q", v.Greet("bob"), c.want)
			}
			if !ok && v != nil {
				t.Errorf("not found, but %v", v)
			}
		})
	}
}

// A rule that would never be asked is a mistake, not an option.
func TestOptionalPanics(t *testing.T) {
	for name, c := range map[string]struct {
		h    any
		want []string
	}{
		"signature":            {another{}, []string{"handler_test.another", "method Greet is func(handler_test.another, []uint8) string, where func(string) string is needed"}},
		"pointer to signature": {&another{}, []string{"*handler_test.another", "method Greet"}},
		"pointer receiver":     {byPointer{}, []string{"handler_test.byPointer", "method Greet has a pointer receiver; pass a *handler_test.byPointer"}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				message := fmt.Sprint(recover())
				for _, want := range c.want {
					if !strings.Contains(message, want) {
						t.Errorf("panic %q lacks %q", message, want)
					}
				}
			}()
			handler.Optional[greeter](c.h)
			t.Error("no panic")
		})
	}
}
