package logic

import (
	"slices"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// MaxItems is how many items a character can carry.
const MaxItems = 1000

// Character has the rules for characters. A balance is never negative, and an
// item is carried once.
type Character struct{}

// ValidateCreate refuses a character that belongs to nobody, or that starts
// with what no character can have.
func (Character) ValidateCreate(_ concern.Context, in *rpgv1.Character) error {
	if in.Currency == nil {
		in.Currency = &rpgv1.Currency{}
	}
	return checkCharacter(in)
}

// ValidateUpdate refuses the same of a change.
func (Character) ValidateUpdate(_ concern.Context, _, after *rpgv1.Character) error {
	return checkCharacter(after)
}

func checkCharacter(c *rpgv1.Character) error {
	if c.GetPlayerId() == "" {
		return txn.Errorf(txn.CodeInvalidArgument, "player_id is missing").With(txn.DetailField, "player_id")
	}
	if err := checkName("fullname", c.GetFullname()); err != nil {
		return err
	}
	if err := checkNotNegative(c.GetCurrency()); err != nil {
		return err
	}
	return addItems(&rpgv1.Character{Id: c.GetId()}, c.GetItems())
}

// Fund implements rpgv1.CharacterHandler.
func (Character) Fund(_ concern.Context, c *rpgv1.Character, in *rpgv1.Funds) (*rpgv1.Character, error) {
	return add(c, in)
}

// CreditFunds implements rpgv1.CharacterHandler.
func (Character) CreditFunds(_ concern.Context, c *rpgv1.Character, in *rpgv1.Funds) (*rpgv1.Character, error) {
	return add(c, in)
}

// DebitFunds implements rpgv1.CharacterHandler.
func (Character) DebitFunds(_ concern.Context, c *rpgv1.Character, in *rpgv1.Funds) (*rpgv1.Funds, error) {
	if err := checkNotNegative(in.GetCurrency()); err != nil {
		return nil, err
	}
	taken := &rpgv1.Funds{Currency: in.GetCurrency()}
	for _, k := range kinds {
		amount := *k.of(orZero(in.GetCurrency()))
		have := k.of(wallet(c))
		if *have < amount {
			return nil, txn.Errorf(txn.CodeFailedPrecondition, "character %q has %d %s, not %d", c.GetId(), *have, k.name, amount).
				With(txn.DetailField, "currency."+k.name)
		}
		*have -= amount
	}
	for _, want := range in.GetItems() {
		at := slices.IndexFunc(c.GetItems(), func(i *rpgv1.Item) bool { return i.GetId() == want.GetId() })
		if at < 0 {
			return nil, txn.Errorf(txn.CodeFailedPrecondition, "character %q does not carry item %q", c.GetId(), want.GetId()).
				With(txn.DetailField, "items")
		}
		taken.Items = append(taken.Items, c.GetItems()[at])
		c.Items = slices.Delete(c.Items, at, at+1)
	}
	return taken, nil
}

func add(c *rpgv1.Character, in *rpgv1.Funds) (*rpgv1.Character, error) {
	if err := checkNotNegative(in.GetCurrency()); err != nil {
		return nil, err
	}
	for _, k := range kinds {
		have, more := k.of(wallet(c)), *k.of(orZero(in.GetCurrency()))
		if *have+more < *have {
			return nil, txn.Errorf(txn.CodeFailedPrecondition, "character %q cannot hold %d %s more", c.GetId(), more, k.name).
				With(txn.DetailField, "currency."+k.name)
		}
		*have += more
	}
	return c, addItems(c, in.GetItems())
}

func addItems(c *rpgv1.Character, items []*rpgv1.Item) error {
	for _, i := range items {
		if i.GetId() == "" {
			return txn.Errorf(txn.CodeInvalidArgument, "an item has no id").With(txn.DetailField, "items")
		}
		if slices.ContainsFunc(c.GetItems(), func(have *rpgv1.Item) bool { return have.GetId() == i.GetId() }) {
			return txn.Errorf(txn.CodeAlreadyExists, "character %q carries item %q already", c.GetId(), i.GetId()).
				With(txn.DetailField, "items")
		}
		c.Items = append(c.Items, i)
	}
	if len(c.GetItems()) > MaxItems {
		return txn.Errorf(txn.CodeFailedPrecondition, "a character can carry %d items", MaxItems).With(txn.DetailField, "items")
	}
	return nil
}

// kind is one kind of money.
type kind struct {
	name string
	of   func(*rpgv1.Currency) *int64
}

var kinds = [...]kind{
	{"gold", func(c *rpgv1.Currency) *int64 { return &c.Gold }},
	{"faction_0", func(c *rpgv1.Currency) *int64 { return &c.Faction_0 }},
	{"faction_1", func(c *rpgv1.Currency) *int64 { return &c.Faction_1 }},
	{"faction_2", func(c *rpgv1.Currency) *int64 { return &c.Faction_2 }},
}

// wallet returns the money of a character, to be changed.
func wallet(c *rpgv1.Character) *rpgv1.Currency {
	if c.Currency == nil {
		c.Currency = &rpgv1.Currency{}
	}
	return c.Currency
}

func orZero(c *rpgv1.Currency) *rpgv1.Currency {
	if c == nil {
		return &rpgv1.Currency{}
	}
	return c
}

func checkNotNegative(c *rpgv1.Currency) error {
	if c == nil {
		return nil
	}
	for _, k := range kinds {
		if amount := *k.of(c); amount < 0 {
			return txn.Errorf(txn.CodeInvalidArgument, "%s is %d; an amount is not negative", k.name, amount).
				With(txn.DetailField, "currency."+k.name)
		}
	}
	return nil
}
