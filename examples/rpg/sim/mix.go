package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// mix says how often each kind of request is sent, in percent.
type mix struct {
	name              string
	read, fund, trade int
}

var mixes = []mix{
	{name: "heavy-read", read: 90, fund: 5, trade: 5},
	{name: "balanced", read: 34, fund: 33, trade: 33},
	{name: "fund", fund: 100},
	{name: "trade", trade: 100},
}

// Mixes returns the names of all mixes.
func Mixes() []string {
	var out []string
	for _, m := range mixes {
		out = append(out, m.name)
	}
	return out
}

func mixNamed(name string) (mix, error) {
	at := slices.IndexFunc(mixes, func(m mix) bool { return m.name == name })
	if at < 0 {
		return mix{}, fmt.Errorf("mix %q is not known; known are %s", name, strings.Join(Mixes(), ", "))
	}
	return mixes[at], nil
}

// The requests.
const (
	requestRead  = "read"
	requestFund  = "fund"
	requestTrade = "trade"
)

// plan is one request as the seed and its number decide it. Which item is
// traded depends on who has some.
type plan struct {
	request  string
	lhs, rhs int // accounts; a read, and a fund, is of lhs
	player   bool
	// what lhs gets (fund) or gives (trade), and what rhs gives.
	lhsGives, rhsGives money
	item               bool
	// tooMuch: lhs cannot have what it is to give.
	tooMuch bool
}

// tooMuch is more than any character ever has.
const tooMuch = 1 << 60

func (m mix) plan(seed uint64, number, characters int) plan {
	rng := rand.New(rand.NewPCG(seed, uint64(number)+1)) //nolint:gosec // to be repeatable
	p := plan{lhs: rng.IntN(characters), rhs: rng.IntN(characters - 1)}
	if p.rhs >= p.lhs {
		p.rhs++
	}
	some := func(most int64) money {
		var out money
		out[rng.IntN(len(out))] = 1 + rng.Int64N(most)
		out[rng.IntN(len(out))] += rng.Int64N(most)
		return out
	}
	switch n := rng.IntN(m.read + m.fund + m.trade); {
	case n < m.read:
		p.request, p.player = requestRead, rng.IntN(10) == 0
	case n < m.read+m.fund:
		p.request, p.lhsGives = requestFund, some(1000)
	default:
		p.request, p.lhsGives, p.rhsGives = requestTrade, some(40), some(40)
		switch rng.IntN(20) {
		case 0:
			p.tooMuch = true
			p.lhsGives[0] = tooMuch
		case 1, 2, 3:
			p.item = true
		}
	}
	return p
}
