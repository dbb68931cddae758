package suggest_test

import (
	"testing"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
)

func TestNearest(t *testing.T) {
	fields := []string{"id", "username", "active", "limits_id", "currency.gold", "faction_0"}
	for name, want := range map[string]string{
		"usernmae":      "username",
		"USERNAME":      "username",
		"user_name":     "username",
		"activ":         "active",
		"currency.glod": "currency.gold",
		"faction0":      "faction_0",
		"di":            "id",
		"completely":    "",
		"x":             "",
		"":              "",
	} {
		if got := suggest.Nearest(name, fields); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", name, got, want)
		}
	}
	if got := suggest.Hint("activ", fields); got != ` (did you mean "active"?)` {
		t.Errorf("Hint = %q", got)
	}
	if got := suggest.Hint("zzzzzz", fields); got != "" {
		t.Errorf("Hint = %q", got)
	}
}
