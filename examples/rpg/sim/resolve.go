package sim

import (
	"fmt"
	"slices"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// maxChoices bounds the search for the operations of unknown outcome that took
// effect.
const maxChoices = 1_000_000

// resolve finds out which operations of unknown outcome took effect, from what
// the characters have in the end, and makes them count. It returns their
// number. Where no choice explains what is seen none is made, which a
// comparison then shows, and the reason becomes a fault.
//
// Nothing runs any more, and nothing of what is unknown can still take effect.
func (m *model) resolve(seen map[string]*rpgv1.Character) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := len(m.unknown)
	var open []*operation
	applied := 0
	for _, o := range m.unknown {
		// An item is in one place only.
		switch {
		case o.item == nil:
			open = append(open, o)
		case carries(seen[m.accounts[o.to].character.GetId()], o.item):
			m.settle(o)
			applied++
		default:
			o.item.busy = false
		}
	}
	m.unknown = nil
	for _, group := range m.groups(open) {
		chosen, err := m.choose(group, seen)
		if err != nil {
			m.fault("of %d operations of unknown outcome: %v", before, err)
			continue
		}
		for _, o := range chosen {
			m.settle(o)
			applied++
		}
	}
	return applied
}

func carries(c *rpgv1.Character, i *item) bool {
	return slices.ContainsFunc(c.GetItems(), func(have *rpgv1.Item) bool { return have.GetId() == i.thing.GetId() })
}

// groups puts operations together that share accounts, directly or over others.
func (m *model) groups(ops []*operation) [][]*operation {
	root := map[int]int{}
	var find func(int) int
	find = func(a int) int {
		if r, ok := root[a]; ok && r != a {
			root[a] = find(r)
			return root[a]
		}
		root[a] = a
		return a
	}
	for _, o := range ops {
		for _, p := range o.parts {
			root[find(p.account)] = find(o.parts[0].account)
		}
	}
	var order []int
	groups := map[int][]*operation{}
	for _, o := range ops {
		r := find(o.parts[0].account)
		if groups[r] == nil {
			order = append(order, r)
		}
		groups[r] = append(groups[r], o)
	}
	out := make([][]*operation, 0, len(order))
	for _, r := range order {
		out = append(out, groups[r])
	}
	return out
}

// choose finds operations whose sum is the difference between what accounts
// have and what is settled. It tries each one without and with, and gives up a
// branch as soon as those that are left cannot reach the difference of some
// account.
func (m *model) choose(ops []*operation, seen map[string]*rpgv1.Character) ([]*operation, error) {
	missing := map[int]money{}
	up, down := map[int]money{}, map[int]money{} // what those that are left can add and take away
	reach := func(o *operation, sign int64) {
		for _, p := range o.parts {
			u, d, delta := up[p.account], down[p.account], p.delta()
			for k, v := range delta {
				if v > 0 {
					u[k] += sign * v
				} else {
					d[k] += sign * v
				}
			}
			up[p.account], down[p.account] = u, d
		}
	}
	for _, o := range ops {
		for _, p := range o.parts {
			a := m.accounts[p.account]
			missing[p.account] = moneyOf(seen[a.character.GetId()].GetCurrency()).minus(a.settled)
		}
		reach(o, 1)
	}
	for at, want := range missing {
		if !want.within(down[at], up[at]) {
			return nil, fmt.Errorf("character %s has %v more than what is certain, which none of them explains",
				m.accounts[at].character.GetId(), want)
		}
	}
	var chosen []*operation
	tried := 0
	var try func(int) bool
	try = func(i int) bool {
		if tried++; tried > maxChoices {
			return false
		}
		if i == len(ops) {
			return true // what is left is nothing, and that is what is missing
		}
		o := ops[i]
		reach(o, -1)
		defer reach(o, 1)
		possible := func() bool {
			for _, p := range o.parts {
				if !missing[p.account].within(down[p.account], up[p.account]) {
					return false
				}
			}
			return true
		}
		if possible() && try(i+1) {
			return true
		}
		for _, p := range o.parts {
			missing[p.account] = missing[p.account].minus(p.delta())
		}
		chosen = append(chosen, o)
		if possible() && try(i+1) {
			return true
		}
		chosen = chosen[:len(chosen)-1]
		for _, p := range o.parts {
			missing[p.account] = missing[p.account].plus(p.delta())
		}
		return false
	}
	if try(0) {
		return chosen, nil
	}
	if tried > maxChoices {
		return nil, fmt.Errorf("%d of them touch the same characters, too many to find out which took effect", len(ops))
	}
	return nil, fmt.Errorf("no choice among %v explains what the characters have", ops)
}
