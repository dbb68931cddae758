package logic_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

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

// with returns a context of a player with characters c00, c01, ...
func with(characters int) concern.Context {
	ctx := concern.NewContext(txn.ID{}, rpgv1.PlayerConcern, "p", time.Time{})
	for i := range characters {
		id := fmt.Sprintf("c%02d", i)
		ctx = ctx.WithRelated(rpgv1.CharacterConcern, id, &rpgv1.Character{Id: id, Fullname: "name of " + id, Active: i%2 == 1})
	}
	return ctx
}

func TestPlayerShowsCharacters(t *testing.T) {
	p := &rpgv1.Player{Id: "p", Username: "anna", Active: true, LimitsId: "l"}
	got, err := logic.Player{}.Show(with(2), p, &emptypb.Empty{})
	want := &rpgv1.PlayerView{Id: "p", Username: "anna", Active: true, LimitsId: "l", Characters: []*rpgv1.CharacterSummary{
		{Id: "c00", Fullname: "name of c00"}, {Id: "c01", Fullname: "name of c01", Active: true},
	}}
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("shows %v, %v; want %v", got, err, want)
	}
	// Whatever a player has is shown.
	shown, fields := got.ProtoReflect().Descriptor().Fields(), p.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if shown.ByName(fields.Get(i).Name()) == nil {
			t.Errorf("field %s of a player is not shown", fields.Get(i).Name())
		}
	}
}

func TestPlayerWithCharactersIsKept(t *testing.T) {
	refused(t, logic.Player{}.ValidateDelete(with(0), &rpgv1.Player{Id: "p"}), 0, "")
	refused(t, logic.Player{}.ValidateDelete(with(3), &rpgv1.Player{Id: "p"}), txn.CodeFailedPrecondition, "", `"p"`, "3")
}

func TestLimitOfCharacters(t *testing.T) {
	limits := func(most map[string]int32) *concern.ConfigSet {
		set := map[string]proto.Message{}
		for id, n := range most {
			set[id] = &rpgv1.Limits{Id: id, MaxCharactersPerPlayer: n}
		}
		return (*concern.ConfigSet)(nil).With(1, rpgv1.LimitsConcern, set)
	}
	for name, c := range map[string]struct {
		limits *concern.ConfigSet
		id     string // limits_id of the player
		most   int
	}{
		"never published":  {nil, "gold", logic.DefaultMaxCharacters},
		"none":             {limits(nil), "gold", logic.DefaultMaxCharacters},
		"its own":          {limits(map[string]int32{"gold": 3, logic.DefaultLimits: 2}), "gold", 3},
		"default":          {limits(map[string]int32{"gold": 3, logic.DefaultLimits: 2}), "", 2},
		"unknown":          {limits(map[string]int32{"gold": 3, logic.DefaultLimits: 2}), "silver", 2},
		"no default":       {limits(map[string]int32{"gold": 3}), "", logic.DefaultMaxCharacters},
		"more than others": {limits(map[string]int32{"gold": 30}), "gold", 30},
	} {
		t.Run(name, func(t *testing.T) {
			p := &rpgv1.Player{Id: "p", LimitsId: c.id}
			add := func(have int, id string) error {
				got, err := logic.Player{}.AddCharacter(with(have).WithConfig(c.limits), p, &rpgv1.CharacterRef{Id: id})
				if err == nil && !proto.Equal(got, p) {
					t.Errorf("returned %v", got)
				}
				return err
			}
			refused(t, add(c.most-1, "new"), 0, "")
			refused(t, add(c.most, "new"), txn.CodeFailedPrecondition, "player_id", "max_characters_per_player", fmt.Sprint(c.most))
			refused(t, add(c.most+1, "new"), txn.CodeFailedPrecondition, "player_id")
			refused(t, add(c.most, "c00"), 0, "") // is there already
		})
	}
}

func TestLimits(t *testing.T) {
	for n, ok := range map[int32]bool{-1: false, 0: false, 1: true, logic.MostCharacters: true, logic.MostCharacters + 1: false} {
		if err := logic.ValidateLimits(&rpgv1.Limits{Id: "l", MaxCharactersPerPlayer: n}); (err == nil) != ok {
			t.Errorf("%d: %v", n, err)
		}
	}
}
