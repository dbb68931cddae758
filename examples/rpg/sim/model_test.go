package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// seen returns what an edge would answer if the model were right.
func seen(m *model) map[string]*rpgv1.Character {
	out := map[string]*rpgv1.Character{}
	for id, c := range m.state().characters {
		out[id] = proto.Clone(c).(*rpgv1.Character)
	}
	return out
}

// give changes what is seen of an account.
func give(m *model, have map[string]*rpgv1.Character, at int, amount money) {
	c := have[m.accounts[at].character.GetId()]
	c.Currency = moneyOf(c.GetCurrency()).plus(amount).currency()
}

func trade(n, lhs, rhs int, gold, faction int64) *operation {
	return &operation{number: n, what: "trade", from: lhs, to: rhs, parts: []part{
		{account: lhs, in: money{0, faction}, out: money{gold}}, {account: rhs, in: money{gold}, out: money{0, faction}},
	}}
}

func apply(m *model, have map[string]*rpgv1.Character, o *operation) {
	for _, p := range o.parts {
		give(m, have, p.account, p.delta())
	}
}

func balance(m *model, at int) money {
	return moneyOf(m.state().characters[m.accounts[at].character.GetId()].GetCurrency())
}

func TestModelCounts(t *testing.T) {
	m := people(6)
	if len(m.players) != 2 || len(m.accounts) != 6 || len(m.items) != 6*itemsEach {
		t.Fatal(m)
	}
	start := balance(m, 0)
	for i, how := range []outcome{ok, refused, ok} {
		o := trade(i, 0, 1, 5, 2)
		m.begin(o)
		m.end(o, how)
	}
	if got, want := balance(m, 0), start.plus(money{-10, 4}); got != want {
		t.Errorf("lhs has %v, want %v", got, want)
	}
	if got, want := balance(m, 1), start.plus(money{10, -4}); got != want {
		t.Errorf("rhs has %v, want %v", got, want)
	}
	if n := m.resolve(seen(m)); n != 0 || len(m.faults) > 0 {
		t.Error(n, m.faults)
	}
}

func TestModelMovesItems(t *testing.T) {
	m := people(2)
	var taken []*item
	for range itemsEach {
		taken = append(taken, m.take(0))
	}
	if m.take(0) != nil || taken[0] == taken[1] {
		t.Fatal("an item was lent twice")
	}
	for i, how := range []outcome{ok, refused} {
		o := trade(i, 0, 1, 0, 0)
		o.item = taken[i]
		m.begin(o)
		m.end(o, how)
	}
	s := m.state()
	if n := len(s.characters[m.accounts[1].character.GetId()].GetItems()); n != itemsEach+1 {
		t.Errorf("rhs has %d items", n)
	}
	if m.take(0) != taken[1] || taken[0].owner != 1 {
		t.Error("items are not where they should be")
	}
}

// Answers are held against what is possible while other operations run.
func TestModelBoundsAnswers(t *testing.T) {
	answer := func(m *model, gold int64) *rpgv1.Character {
		c := proto.Clone(m.accounts[0].character).(*rpgv1.Character)
		c.Currency = moneyOf(c.GetCurrency()).plus(money{gold}).currency()
		return c
	}
	for _, c := range []struct {
		gold     int64
		possible bool
	}{{-9, false}, {-8, true}, {0, true}, {7, true}, {8, false}} {
		m := people(2)
		acknowledged := &operation{parts: []part{{account: 0, in: money{2}}}}
		m.begin(acknowledged)
		m.end(acknowledged, ok)
		before := m.now(0)
		m.begin(&operation{parts: []part{{account: 0, in: money{5}}}})
		m.begin(&operation{parts: []part{{account: 0, out: money{10}}}})
		no := &operation{parts: []part{{account: 0, in: money{100}}}}
		m.begin(no)
		m.end(no, refused)
		m.check(0, before, answer(m, c.gold))
		if possible := len(m.faults) == 0; possible != c.possible {
			t.Errorf("%d gold: possible is %v: %v", c.gold, possible, m.faults)
		}
	}
	m := people(2)
	wrong := answer(m, 0)
	wrong.Fullname = "Somebody Else"
	if m.check(0, m.now(0), wrong); len(m.faults) != 1 {
		t.Error(m.faults)
	}
}

func TestUnknownOutcomesAreResolved(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := people(2 + rng.IntN(20))
		n := 1 + rng.IntN(16)
		have := seen(m)
		want := 0
		for i := range n {
			lhs := rng.IntN(len(m.accounts))
			o := trade(i, lhs, (lhs+1+rng.IntN(len(m.accounts)-1))%len(m.accounts), 1+rng.Int64N(40), 1+rng.Int64N(40))
			m.begin(o)
			m.end(o, unknown)
			if rng.IntN(2) == 0 {
				apply(m, have, o)
				want++
			}
		}
		got := m.resolve(have)
		s := newState()
		s.players, s.characters = m.state().players, have
		if d := differences(m.state(), []view{{"cache", s}}); len(m.faults) > 0 || len(d) > 0 {
			t.Fatalf("seed %d: %d of %d took effect, %d found: %v %v", seed, want, n, got, m.faults, d)
		}
	}
}

func TestUnknownOutcomeIsToldByItsItem(t *testing.T) {
	for _, happened := range []bool{false, true} {
		m := people(2)
		o := trade(1, 0, 1, 0, 0)
		o.item = m.take(0)
		have := seen(m)
		m.begin(o)
		m.end(o, unknown)
		if happened {
			lhs, rhs := have[m.accounts[0].character.GetId()], have[m.accounts[1].character.GetId()]
			rhs.Items, lhs.Items = append(rhs.Items, lhs.Items[0]), lhs.Items[1:]
		}
		if got := m.resolve(have); (got == 1) != happened || o.item.owner == 1 != happened {
			t.Errorf("happened %v: %d took effect, the item is with %d", happened, got, o.item.owner)
		}
	}
}

// What no choice explains is a difference: half of a trade, a lost or doubled
// effect.
func TestUnexplainedStateIsADifference(t *testing.T) {
	for name, change := range map[string]func(*model, map[string]*rpgv1.Character, *operation){
		"half a trade": func(m *model, have map[string]*rpgv1.Character, o *operation) { give(m, have, 0, o.parts[0].delta()) },
		"twice":        func(m *model, have map[string]*rpgv1.Character, o *operation) { apply(m, have, o); apply(m, have, o) },
		"something":    func(m *model, have map[string]*rpgv1.Character, _ *operation) { give(m, have, 1, money{1}) },
	} {
		t.Run(name, func(t *testing.T) {
			m := people(4)
			have := seen(m)
			o := trade(1, 0, 1, 7, 3)
			m.begin(o)
			m.end(o, unknown)
			change(m, have, o)
			if n := m.resolve(have); n != 0 || len(m.faults) == 0 {
				t.Errorf("%d took effect, %v", n, m.faults)
			}
			if d := differences(m.state(), []view{{"cache", state{m.state().players, have}}}); len(d) == 0 {
				t.Error("no difference")
			}
		})
	}
}

// Very many unknown operations on one character end the search, loudly.
func TestResolveIsBounded(t *testing.T) {
	m := people(2)
	for i := range 200 {
		o := &operation{number: i, what: "fund", parts: []part{{account: 0, in: money{int64(2 * (i + 1))}}}}
		m.begin(o)
		m.end(o, unknown)
	}
	have := seen(m)
	give(m, have, 0, money{4001}) // odd
	if m.resolve(have); len(m.faults) != 1 || !strings.Contains(m.faults[0], "too many") {
		t.Error(m.faults)
	}
}

func TestDifferencesAreNamed(t *testing.T) {
	m := people(4)
	have := seen(m)
	id := m.accounts[2].character.GetId()
	give(m, have, 2, money{0, 1})
	have[id].Items = have[id].Items[1:]
	delete(have, m.accounts[3].character.GetId())
	got := strings.Join(differences(m.state(), []view{{"database main", state{m.state().players, have}}}), "\n")
	for _, want := range []string{
		fmt.Sprintf(`character %s: faction_0 is "1001" in database main, must be "1000"`, id),
		fmt.Sprintf("character %s: items is ", id),
		fmt.Sprintf("character %s: missing in database main", m.accounts[3].character.GetId()),
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n") + 1; n != 3 {
		t.Errorf("%d differences:\n%s", n, got)
	}
}

func TestPlansRepeat(t *testing.T) {
	for _, x := range mixes {
		count := map[string]int{}
		for n := range 3000 {
			p := x.plan(7, n, 10)
			if p != x.plan(7, n, 10) {
				t.Fatal("one seed, two plans")
			}
			if p.lhs == p.rhs || p.lhs >= 10 || p.rhs >= 10 || p.rhs < 0 {
				t.Fatalf("%+v", p)
			}
			count[p.request]++
		}
		for request, percent := range map[string]int{requestRead: x.read, requestFund: x.fund, requestTrade: x.trade} {
			if got := count[request] / 30; got < percent-4 || got > percent+4 {
				t.Errorf("mix %s: %d%% are %s, want %d%%", x.name, got, request, percent)
			}
		}
	}
}

func TestOutcomeOf(t *testing.T) {
	with := func(c codes.Code, details ...protoadapt.MessageV1) error {
		s, err := status.New(c, "on purpose").WithDetails(details...)
		if err != nil {
			t.Fatal(err)
		}
		return s.Err()
	}
	said := &errdetails.ErrorInfo{Reason: "X"}
	unsure := &errdetails.ErrorInfo{Reason: "X", Metadata: map[string]string{"outcome": "unknown"}}
	for _, c := range []struct {
		err  error
		want outcome
	}{
		{nil, ok},
		{status.Error(codes.FailedPrecondition, ""), refused},
		{status.Error(codes.ResourceExhausted, ""), refused},
		{status.Error(codes.Unavailable, "connection reset"), unknown},
		{with(codes.Unavailable, said), refused},
		{with(codes.Unavailable, unsure), unknown},
		{status.Error(codes.DeadlineExceeded, ""), unknown},
		{with(codes.DeadlineExceeded, said), refused},
		{with(codes.DeadlineExceeded, unsure), unknown},
		{with(codes.Internal, said), unknown},
		{fmt.Errorf("no status"), unknown},
	} {
		if got := outcomeOf(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

func TestLatency(t *testing.T) {
	var l []time.Duration
	for i := 100; i > 0; i-- {
		l = append(l, time.Duration(i)*time.Millisecond)
	}
	if got, want := latency(l), (Latency{100, 50, 90, 99, 100}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := latency(l[:1]), (Latency{1, 1, 1, 1, 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
