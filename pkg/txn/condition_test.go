package txn

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestSkips(t *testing.T) {
	result := &rkcyv1.PlatformConfig{Name: "n", EdgeSlots: 5, Concerns: []*rkcyv1.ConcernConfig{{ProcessRetentionMs: -3}}}
	value, err := proto.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	results := []*rkcyv1.StepResult{{Value: value}}
	on := func(path string, op Operator, value string) *rkcyv1.Condition {
		return &rkcyv1.Condition{FromType: "rkcy.v1.PlatformConfig", FromPath: path, Operator: op, Value: value}
	}
	for _, c := range []struct {
		on   []*rkcyv1.Condition
		want bool
	}{
		{nil, false},
		{[]*rkcyv1.Condition{on("name", Equal, "n")}, true},
		{[]*rkcyv1.Condition{on("name", NotEqual, "n")}, false},
		{[]*rkcyv1.Condition{on("name", Less, "o")}, true},
		{[]*rkcyv1.Condition{on("edge_slots", Equal, "5")}, true},
		{[]*rkcyv1.Condition{on("edge_slots", GreaterOrEqual, "5")}, true},
		{[]*rkcyv1.Condition{on("edge_slots", Greater, "5")}, false},
		{[]*rkcyv1.Condition{on("edge_slots", LessOrEqual, "4")}, false},
		{[]*rkcyv1.Condition{on("edge_slots", Set, "")}, true},
		{[]*rkcyv1.Condition{on("environment", NotSet, "")}, true},
		{[]*rkcyv1.Condition{on("environment", Equal, "")}, true},
		{[]*rkcyv1.Condition{on("concerns", Set, "")}, true},
		{[]*rkcyv1.Condition{on("name", Equal, "n"), on("edge_slots", Equal, "6")}, false},
		{[]*rkcyv1.Condition{on("name", Equal, "n"), on("edge_slots", Equal, "5")}, true},
	} {
		got, err := Skips(&rkcyv1.Step{SkipWhen: c.on}, results)
		if err != nil || got != c.want {
			t.Errorf("%v: got %v, %v", c.on, got, err)
		}
	}
	for name, c := range map[string]*rkcyv1.Condition{
		"no operator":     on("name", 0, "n"),
		"no field":        on("nome", Equal, "n"),
		"empty path":      on("", Equal, "n"),
		"list":            on("concerns", Equal, "n"),
		"not a number":    on("edge_slots", Equal, "n"),
		"unknown type":    {FromType: "no.Such", FromPath: "x", Operator: Equal},
		"step not run":    {FromStep: 3, FromType: "rkcy.v1.PlatformConfig", FromPath: "name", Operator: Equal},
		"new operator":    on("name", 99, "n"),
		"enum as a name":  {FromType: "rkcy.v1.Error", FromPath: "code", Operator: Equal, Value: "CODE_INTERNAL"},
		"bool that is no": {FromType: "rkcy.v1.Marker", FromPath: "commit", Operator: Equal, Value: "yes"},
	} {
		if _, err := Skips(&rkcyv1.Step{SkipWhen: []*rkcyv1.Condition{c}}, results); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCompareByKind(t *testing.T) {
	fields := (&rkcyv1.Parked{}).ProtoReflect().Descriptor().Fields()
	for _, c := range []struct {
		field protoreflect.Name
		have  protoreflect.Value
		text  string
		want  int
	}{
		{"sequence", protoreflect.ValueOfUint64(1 << 63), "9223372036854775807", 1},
		{"due_ms", protoreflect.ValueOfInt64(-1), "1", -1},
		{"restart", protoreflect.ValueOfBool(true), "true", 0},
		{"restart", protoreflect.ValueOfBool(false), "true", -1},
		{"access", protoreflect.ValueOfEnum(1), "1", 0},
	} {
		if got, err := orderOf(fields.ByName(c.field), c.have, c.text); err != nil || got != c.want {
			t.Errorf("%s: got %d, %v", c.field, got, err)
		}
	}
}

func TestSkipWhenIsCheckedWhenBuilt(t *testing.T) {
	other := New()
	foreign := Add(other, thing("x", "z"))
	b := New()
	first := Add(b, thing("look", "z"))
	second := Add(b, thing("take", "a"))
	SkipWhen(b, second, first, "no_such", Equal, 1)
	SkipWhen(b, second, first, "attempt", Equal, "many")
	SkipWhen(b, first, second, "attempt", Equal, 1)
	SkipWhen(b, second, foreign, "attempt", Equal, 1)
	SkipWhen(b, second, first, "", Set, nil)
	_, err := b.Build(NewID(), time.UnixMilli(1), time.UnixMilli(2), nil)
	for _, want := range []string{`no field "no_such"`, `compares with "many"`, "earlier steps only", "another builder", "path is empty"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	b = New()
	first, second = Add(b, thing("look", "z")), Add(b, thing("take", "a"))
	SkipWhen(b, second, first, "attempt", Greater, 3)
	built, err := b.Build(NewID(), time.UnixMilli(1), time.UnixMilli(2), nil)
	if err != nil {
		t.Fatal(err)
	}
	// a comes before z by name; the condition makes it wait.
	if got := built.GetVisits()[0].GetSteps()[0]; got != 0 {
		t.Errorf("step %d runs before what its condition looks at", got)
	}
}

// An enum is compared by its number, which is what outlives its names.
func TestSkipWhenOnAnEnum(t *testing.T) {
	b := New()
	first := Add(b, NewStep("thing", "a", "look", rkcyv1.Access_ACCESS_READ, &rkcyv1.Empty{}, func() *rkcyv1.Error { return &rkcyv1.Error{} }))
	second := Add(b, thing("take", "b"))
	SkipWhen(b, second, first, "code", Equal, CodeNotFound)
	built, err := b.Build(NewID(), time.UnixMilli(1), time.UnixMilli(2), nil)
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[Code]bool{CodeNotFound: true, CodeAborted: false} {
		value, err := proto.Marshal(&rkcyv1.Error{Code: code})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Skips(built.GetSteps()[1], []*rkcyv1.StepResult{{Value: value}, nil}); err != nil || got != want {
			t.Errorf("%v: skipped %v, %v", code, got, err)
		}
	}
}

func TestNotBefore(t *testing.T) {
	b := New()
	Add(b, thing("x", "a"))
	b.NotBefore(time.UnixMilli(1500))
	built, err := b.Build(NewID(), time.UnixMilli(1000), time.UnixMilli(2000), nil)
	if err != nil || built.GetNotBeforeMs() != 1500 {
		t.Fatalf("got %v, %v", built, err)
	}
	b = New()
	Add(b, thing("x", "a"))
	b.NotBefore(time.UnixMilli(2000))
	if _, err := b.Build(NewID(), time.UnixMilli(1000), time.UnixMilli(2000), nil); CodeOf(err) != CodeInvalidArgument {
		t.Fatalf("a start at the deadline was accepted: %v", err)
	}
}

// A float is compared with the float that a number in decimal stands for.
func TestSkipsOnAFloat(t *testing.T) {
	value, err := proto.Marshal(wrapperspb.Float(0.1))
	if err != nil {
		t.Fatal(err)
	}
	skip, err := Skips(&rkcyv1.Step{SkipWhen: []*rkcyv1.Condition{
		{FromType: "google.protobuf.FloatValue", FromPath: "value", Operator: Equal, Value: "0.1"},
	}}, []*rkcyv1.StepResult{{Value: value}})
	if err != nil || !skip {
		t.Errorf("0.1 is not 0.1: %v, %v", skip, err)
	}
}

func TestSkippedIsTold(t *testing.T) {
	b := New()
	first, second, third := Add(b, thing("look", "z")), Add(b, thing("take", "a")), Add(b, thing("take", "b"))
	r := &Result{steps: []*rkcyv1.StepResult{{}, {Skipped: true}}}
	if first.Skipped(r) || !second.Skipped(r) || third.Skipped(r) {
		t.Error("the second step alone was skipped")
	}
}
