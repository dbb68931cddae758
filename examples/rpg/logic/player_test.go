package logic_test

import (
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// refused checks the code of an error and what it names.
func refused(t *testing.T, err error, code txn.Code, field string, words ...string) {
	t.Helper()
	if code == 0 {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	if err == nil {
		t.Errorf("not refused, want %v", code)
		return
	}
	e := txn.AsError(err)
	if e.Code != code || e.Details[txn.DetailField] != field {
		t.Errorf("%v with field %q, want %v with %q: %v", e.Code, e.Details[txn.DetailField], code, field, err)
	}
	for _, w := range words {
		if !strings.Contains(e.Message, w) {
			t.Errorf("the message lacks %q: %v", w, err)
		}
	}
}

func TestPlayer(t *testing.T) {
	for _, c := range []struct {
		username string
		code     txn.Code
	}{
		{"brock01", 0},
		{strings.Repeat("x", logic.MaxNameBytes), 0},
		{strings.Repeat("x", logic.MaxNameBytes+1), txn.CodeInvalidArgument},
		{strings.Repeat("ü", logic.MaxNameBytes/2+1), txn.CodeInvalidArgument},
		{"", txn.CodeInvalidArgument},
		{" \t\u2003", txn.CodeInvalidArgument},
	} {
		p := &rpgv1.Player{Id: "p", Username: c.username}
		refused(t, logic.Player{}.ValidateCreate(concern.Context{}, p), c.code, "username")
		refused(t, logic.Player{}.ValidateUpdate(concern.Context{}, &rpgv1.Player{Id: "p", Username: "before"}, p), c.code, "username")
	}
}
