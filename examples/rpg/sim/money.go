package sim

import (
	"fmt"
	"strings"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// money is an amount of each kind.
type money [4]int64

var kinds = [...]string{"gold", "faction_0", "faction_1", "faction_2"}

func moneyOf(c *rpgv1.Currency) money {
	return money{c.GetGold(), c.GetFaction_0(), c.GetFaction_1(), c.GetFaction_2()}
}

func (m money) currency() *rpgv1.Currency {
	return &rpgv1.Currency{Gold: m[0], Faction_0: m[1], Faction_1: m[2], Faction_2: m[3]}
}

func (m money) plus(o money) money {
	for i := range m {
		m[i] += o[i]
	}
	return m
}

func (m money) minus(o money) money {
	for i := range m {
		m[i] -= o[i]
	}
	return m
}

// within reports whether every amount lies between those of low and high.
func (m money) within(low, high money) bool {
	for i := range m {
		if m[i] < low[i] || m[i] > high[i] {
			return false
		}
	}
	return true
}

// String returns the amounts that are not zero.
func (m money) String() string {
	var out []string
	for i, k := range kinds {
		if m[i] != 0 {
			out = append(out, fmt.Sprintf("%s=%d", k, m[i]))
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	return strings.Join(out, " ")
}
