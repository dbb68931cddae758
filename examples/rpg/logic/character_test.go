package logic_test

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

var (
	rules logic.Character
	none  concern.Context
)

func items(ids ...string) []*rpgv1.Item {
	var out []*rpgv1.Item
	for _, id := range ids {
		out = append(out, &rpgv1.Item{Id: id, Description: "the " + id})
	}
	return out
}

func numbered(n int) []*rpgv1.Item {
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprint("i", i))
	}
	return items(ids...)
}

func TestCharacterValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*rpgv1.Character)
		code   txn.Code
		field  string
	}{
		"as it must be":       {func(*rpgv1.Character) {}, 0, ""},
		"without money":       {func(c *rpgv1.Character) { c.Currency = nil }, 0, ""},
		"without player":      {func(c *rpgv1.Character) { c.PlayerId = "" }, txn.CodeInvalidArgument, "player_id"},
		"without name":        {func(c *rpgv1.Character) { c.Fullname = " " }, txn.CodeInvalidArgument, "fullname"},
		"name too long":       {func(c *rpgv1.Character) { c.Fullname = strings.Repeat("x", logic.MaxNameBytes+1) }, txn.CodeInvalidArgument, "fullname"},
		"gold below 0":        {func(c *rpgv1.Character) { c.Currency.Gold = -1 }, txn.CodeInvalidArgument, "currency.gold"},
		"faction_0 below 0":   {func(c *rpgv1.Character) { c.Currency.Faction_0 = -1 }, txn.CodeInvalidArgument, "currency.faction_0"},
		"faction_1 below 0":   {func(c *rpgv1.Character) { c.Currency.Faction_1 = -1 }, txn.CodeInvalidArgument, "currency.faction_1"},
		"faction_2 below 0":   {func(c *rpgv1.Character) { c.Currency.Faction_2 = math.MinInt64 }, txn.CodeInvalidArgument, "currency.faction_2"},
		"item without id":     {func(c *rpgv1.Character) { c.Items = items("a", "") }, txn.CodeInvalidArgument, "items"},
		"an item twice":       {func(c *rpgv1.Character) { c.Items = items("a", "b", "a") }, txn.CodeAlreadyExists, "items"},
		"all it can carry":    {func(c *rpgv1.Character) { c.Items = numbered(logic.MaxItems) }, 0, ""},
		"more than that":      {func(c *rpgv1.Character) { c.Items = numbered(logic.MaxItems + 1) }, txn.CodeFailedPrecondition, "items"},
		"as much as there is": {func(c *rpgv1.Character) { c.Currency.Gold = math.MaxInt64 }, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := &rpgv1.Character{Id: "c", PlayerId: "p", Fullname: "Anna", Currency: &rpgv1.Currency{Gold: 1}, Items: items("x")}
			c.change(in)
			want := proto.CloneOf(in)
			refused(t, rules.ValidateUpdate(none, &rpgv1.Character{}, in), c.code, c.field)
			if !proto.Equal(in, want) {
				t.Errorf("the rule has changed what it was asked about: %v", in)
			}
			refused(t, rules.ValidateCreate(none, in), c.code, c.field)
			if c.code == 0 && in.GetCurrency() == nil {
				t.Error("a created character has no purse")
			}
		})
	}
}

func TestDebit(t *testing.T) {
	c := &rpgv1.Character{Id: "c1", Currency: &rpgv1.Currency{Gold: 10, Faction_2: 3}, Items: items("sword", "hat", "boot")}
	taken, err := rules.DebitFunds(none, c, &rpgv1.Funds{Currency: &rpgv1.Currency{Gold: 10, Faction_2: 1}, Items: []*rpgv1.Item{{Id: "hat"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := &rpgv1.Character{Id: "c1", Currency: &rpgv1.Currency{Faction_2: 2}, Items: items("sword", "boot")}
	if !proto.Equal(c, want) {
		t.Errorf("the character is %v, want %v", c, want)
	}
	// Items are told as they were, not as they were asked for.
	if w := (&rpgv1.Funds{Currency: &rpgv1.Currency{Gold: 10, Faction_2: 1}, Items: items("hat")}); !proto.Equal(taken, w) {
		t.Errorf("taken is %v, want %v", taken, w)
	}
	debit := func(in *rpgv1.Funds) error {
		_, err := rules.DebitFunds(none, proto.CloneOf(c), in)
		return err
	}
	refused(t, debit(&rpgv1.Funds{Currency: &rpgv1.Currency{Gold: 1}}), txn.CodeFailedPrecondition, "currency.gold", "c1", "0 gold, not 1")
	// Each kind is checked by itself: plenty of one does not pay for another.
	refused(t, debit(&rpgv1.Funds{Currency: &rpgv1.Currency{Faction_1: 1}}), txn.CodeFailedPrecondition, "currency.faction_1")
	refused(t, debit(&rpgv1.Funds{Currency: &rpgv1.Currency{Faction_2: 3}}), txn.CodeFailedPrecondition, "currency.faction_2")
	refused(t, debit(&rpgv1.Funds{Currency: &rpgv1.Currency{Faction_2: -1}}), txn.CodeInvalidArgument, "currency.faction_2", "-1")
	refused(t, debit(&rpgv1.Funds{Items: items("hat")}), txn.CodeFailedPrecondition, "items", "hat")
	refused(t, debit(&rpgv1.Funds{Items: items("boot", "boot")}), txn.CodeFailedPrecondition, "items", "boot")
	refused(t, debit(&rpgv1.Funds{}), 0, "")
}

func TestCredit(t *testing.T) {
	for name, add := range map[string]func(concern.Context, *rpgv1.Character, *rpgv1.Funds) (*rpgv1.Character, error){
		"Fund": rules.Fund, "CreditFunds": rules.CreditFunds,
	} {
		t.Run(name, func(t *testing.T) {
			c := &rpgv1.Character{Id: "c1", Items: items("hat")}
			got, err := add(none, c, &rpgv1.Funds{Currency: &rpgv1.Currency{Gold: 5, Faction_1: math.MaxInt64}, Items: items("boot")})
			if err != nil {
				t.Fatal(err)
			}
			want := &rpgv1.Character{Id: "c1", Currency: &rpgv1.Currency{Gold: 5, Faction_1: math.MaxInt64}, Items: items("hat", "boot")}
			if !proto.Equal(got, want) || !proto.Equal(c, want) {
				t.Errorf("the result is %v, the character %v, want %v", got, c, want)
			}
			credit := func(in *rpgv1.Funds) error {
				_, err := add(none, proto.CloneOf(c), in)
				return err
			}
			refused(t, credit(&rpgv1.Funds{Currency: &rpgv1.Currency{Gold: -1}}), txn.CodeInvalidArgument, "currency.gold")
			refused(t, credit(&rpgv1.Funds{Currency: &rpgv1.Currency{Faction_1: 1}}), txn.CodeFailedPrecondition, "currency.faction_1", "c1")
			refused(t, credit(&rpgv1.Funds{Items: items("hat")}), txn.CodeAlreadyExists, "items", "hat")
			refused(t, credit(&rpgv1.Funds{Items: []*rpgv1.Item{{Description: "nameless"}}}), txn.CodeInvalidArgument, "items")
			refused(t, credit(&rpgv1.Funds{Items: numbered(logic.MaxItems)}), txn.CodeFailedPrecondition, "items")
			refused(t, credit(&rpgv1.Funds{}), 0, "")
		})
	}
}

// amounts of the four kinds of money.
func amounts(c *rpgv1.Currency) [4]int64 {
	return [4]int64{c.GetGold(), c.GetFaction_0(), c.GetFaction_1(), c.GetFaction_2()}
}

// anyAmount prefers the edges of what an int64 can be.
func anyAmount(r *rand.Rand) int64 {
	switch r.IntN(6) {
	case 0:
		return math.MaxInt64 - r.Int64N(3)
	case 1:
		return math.MinInt64 + r.Int64N(3)
	case 2:
		return int64(r.Uint64()) //nolint:gosec // any bits
	default:
		return r.Int64N(20) - 4
	}
}

func anyCurrency(r *rand.Rand) *rpgv1.Currency {
	if r.IntN(8) == 0 {
		return nil
	}
	return &rpgv1.Currency{Gold: anyAmount(r), Faction_0: anyAmount(r), Faction_1: anyAmount(r), Faction_2: anyAmount(r)}
}

func anyItems(r *rand.Rand) []*rpgv1.Item {
	var out []*rpgv1.Item
	for range r.IntN(3) {
		out = append(out, items(fmt.Sprint("i", r.IntN(6)))...)
	}
	return out
}

// Whatever is tried, in whatever order: a command that is refused has done
// nothing (the platform drops what it did), no balance is negative, nothing is
// lost or made, and items are carried once.
func TestRandomCommands(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		characters := []*rpgv1.Character{
			{Id: "a", Currency: &rpgv1.Currency{Gold: 10, Faction_0: 10}, Items: items("i0", "i1")},
			{Id: "b"}, // no purse
			{Id: "c", Currency: &rpgv1.Currency{Faction_2: math.MaxInt64}, Items: items("i2")},
		}
		var total [4]big.Int
		for _, c := range characters {
			for k, n := range amounts(c.GetCurrency()) {
				total[k].Add(&total[k], big.NewInt(n))
			}
		}
		carried := 3
		succeeded := 0
		for range 300 {
			from, to := r.IntN(3), r.IntN(3)
			in := &rpgv1.Funds{Currency: anyCurrency(r), Items: anyItems(r)}
			asked := proto.CloneOf(in)
			// As the platform does: on copies, which count if all goes well.
			giver, taker := proto.CloneOf(characters[from]), proto.CloneOf(characters[to])
			if r.IntN(4) == 0 {
				if _, err := rules.Fund(none, taker, in); err != nil {
					continue
				}
				characters[to] = taker
				for k, n := range amounts(in.GetCurrency()) {
					total[k].Add(&total[k], big.NewInt(n))
				}
				carried += len(in.GetItems())
			} else {
				if from == to {
					taker = giver
				}
				taken, err := rules.DebitFunds(none, giver, in)
				if err != nil {
					continue
				}
				if amounts(taken.GetCurrency()) != amounts(in.GetCurrency()) || len(taken.GetItems()) != len(in.GetItems()) {
					t.Fatalf("seed %d: asked for %v, taken %v", seed, in, taken)
				}
				if _, err := rules.CreditFunds(none, taker, taken); err != nil {
					continue
				}
				characters[from], characters[to] = giver, taker
			}
			succeeded++
			if !proto.Equal(in, asked) {
				t.Fatalf("seed %d: the request was changed from %v to %v", seed, asked, in)
			}
			var sum [4]big.Int
			n := 0
			for _, c := range characters {
				seen := map[string]bool{}
				for k, amount := range amounts(c.GetCurrency()) {
					if amount < 0 {
						t.Fatalf("seed %d: %s has %v after %v", seed, c.GetId(), c.GetCurrency(), in)
					}
					sum[k].Add(&sum[k], big.NewInt(amount))
				}
				for _, i := range c.GetItems() {
					if seen[i.GetId()] {
						t.Fatalf("seed %d: %s carries %s twice", seed, c.GetId(), i.GetId())
					}
					seen[i.GetId()] = true
					n++
				}
			}
			for k := range sum {
				if sum[k].Cmp(&total[k]) != 0 {
					t.Fatalf("seed %d: kind %d sums up to %v, want %v, after %v", seed, k, &sum[k], &total[k], in)
				}
			}
			if n != carried {
				t.Fatalf("seed %d: %d items are carried, want %d", seed, n, carried)
			}
		}
		if succeeded < 5 {
			t.Errorf("seed %d: only %d commands succeeded", seed, succeeded)
		}
	}
}
