package concern

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func wantSkipped(t *testing.T, s *simTxn, want ...bool) {
	t.Helper()
	if len(s.response.GetResults()) != len(want) {
		t.Errorf("%d results, not %d: %v", len(s.response.GetResults()), len(want), s.response)
		return
	}
	for i, r := range s.response.GetResults() {
		if r.GetSkipped() != want[i] || want[i] && len(r.GetValue()) > 0 {
			t.Errorf("step %d: %v, skipped is to be %v", i, r, want[i])
		}
	}
}

// A step runs or not as its condition says, in the same visit or in one after
// a hop; nothing of one that is skipped takes effect, and its result is empty.
func TestConditions(t *testing.T) {
	for _, saga := range []bool{false, true} {
		for name, c := range map[string]struct {
			steps   []string
			skipped []bool
			effect  map[string]int
			code    txn.Code
		}{
			"same visit, skipped": {[]string{"alpha/k0 Look", "alpha/k0 Append ~0"}, []bool{false, true}, map[string]int{"alpha/k0": 0}, 0},
			"same visit, runs":    {[]string{"alpha/k0 Look", "alpha/k0 Append !0"}, []bool{false, false}, map[string]int{"alpha/k0": 1}, 0},
			"after a hop, skipped": {
				[]string{"alpha/k0 Append", "beta/k0 Append !0", "alpha/k1 Append <1"},
				[]bool{false, true, false},
				map[string]int{"alpha/k0": 1, "beta/k0": 0, "alpha/k1": 1}, 0,
			},
			"after a hop, runs": {
				[]string{"alpha/k0 Look", "beta/k0 Append !0", "alpha/k1 Append <1"},
				[]bool{false, false, false},
				map[string]int{"alpha/k0": 0, "beta/k0": 1, "alpha/k1": 1}, 0,
			},
			"all must hold": {
				[]string{"alpha/k0 Append", "alpha/k1 Look", "beta/k0 Append !0 !1", "beta/k1 Append !0 ~1"},
				[]bool{false, false, false, true},
				map[string]int{"alpha/k0": 1, "beta/k0": 1, "beta/k1": 0}, 0,
			},
			"on a step that was skipped": {
				[]string{"alpha/k0 Append", "beta/k0 Append !0", "beta/k1 Append ~1"},
				[]bool{false, true, true},
				map[string]int{"alpha/k0": 1, "beta/k0": 0, "beta/k1": 0}, 0,
			},
			"the last visit": {[]string{"alpha/k0 Append", "beta/k0 Append !0"}, []bool{false, true}, map[string]int{"alpha/k0": 1, "beta/k0": 0}, 0},
			"a refusal is skipped": {
				[]string{"alpha/k0 Append", "beta/k0 Refuse !0", "beta/k0 Append <0"},
				[]bool{false, true, false},
				map[string]int{"alpha/k0": 1, "beta/k0": 1}, 0,
			},
			"then refused": {
				[]string{"alpha/k0 Append", "beta/k0 Append !0", "alpha/k1 Append <1", "beta/k1 Refuse <2"}, nil,
				map[string]int{"alpha/k0": 0, "beta/k0": 0, "alpha/k1": 0}, txn.CodeFailedPrecondition,
			},
			"an instance that does not exist": {
				[]string{"alpha/k0 Append", "beta/k5 Append !0"}, []bool{false, true}, map[string]int{"alpha/k0": 1, "beta/k5": 0}, 0,
			},
		} {
			t.Run(fmt.Sprint(name, saga), func(t *testing.T) {
				x := newTable(t)
				s := x.submitAs(request{saga: saga}, c.steps...)
				x.restAll()
				wantCode(t, s, c.code)
				if c.code == 0 {
					wantSkipped(t, s, c.skipped...)
				}
				for at, n := range c.effect {
					x.wantPaths(s, n, at)
				}
				x.wantFree()
				x.persist(true) // versions are without a gap
				for _, concern := range simConcerns {
					x.takeOver(concern)
					if x.end(stream.TopicPartition{Topic: processTopic(concern)}) > 0 {
						x.again(concern)
					}
				}
				x.restAll()
				wantCode(t, s, c.code)
				x.wantFree()
			})
		}
	}
}

// A visit all of whose steps are skipped shares its instance with others that
// only read, and changes nothing.
func TestSkippedVisitSharesItsHold(t *testing.T) {
	for _, takeOver := range []bool{false, true} {
		x := newTable(t)
		s := x.send(time.Hour, "alpha/k0 Append", "alpha/k1 Append !0", "beta/k0 Append <1")
		x.work("alpha")
		x.work("alpha")
		next := x.hide("beta")
		if takeOver {
			x.takeOver("alpha")
		}
		h := x.part("alpha").holdOf(s.id, "k1")
		if h == nil || h.write || h.pending != nil {
			t.Fatalf("the hold is %+v", h)
		}
		reader := x.send(time.Hour, "alpha/k1 Look", "beta/k1 Append <0")
		writer := x.send(time.Hour, "alpha/k1 Append")
		x.work("alpha")
		x.work("beta")
		x.work("alpha")
		wantCode(t, reader, 0)
		if writer.answers > 0 {
			t.Error("a shared hold keeps nobody out")
		}
		x.show(next)
		x.restAll()
		wantCode(t, s, 0)
		wantSkipped(t, s, false, true, false)
		wantCode(t, writer, 0)
		x.wantFree()
	}
}

// A condition that the processor cannot evaluate ends the transaction.
func TestConditionOfAnotherProgram(t *testing.T) {
	for name, change := range map[string]func(*rkcyv1.Condition){
		"type":     func(c *rkcyv1.Condition) { c.FromType = "rpg.Gone" },
		"path":     func(c *rkcyv1.Condition) { c.FromPath = "gone" },
		"no path":  func(c *rkcyv1.Condition) { c.FromPath = "" },
		"operator": func(c *rkcyv1.Condition) { c.Operator = 99 },
		"order":    func(c *rkcyv1.Condition) { c.Operator = txn.Less },
	} {
		t.Run(name, func(t *testing.T) {
			x := newTable(t)
			s := x.send(time.Hour, "alpha/k0 Append", "beta/k0 Append !0")
			x.work("alpha")
			v := proto.CloneOf(x.lastVisit("beta"))
			x.hide("beta")
			change(v.Txn.Steps[1].SkipWhen[0])
			x.deliver(v)
			x.restAll()
			wantCode(t, s, txn.CodeInvalidArgument)
			x.wantPaths(s, 0, "alpha/k0", "beta/k0")
			x.wantFree()
		})
	}
}

// A transaction that changes nothing, since all of it was skipped, is answered
// once.
func TestSkippedTransactionIsRemembered(t *testing.T) {
	x := newTable(t)
	s := x.send(time.Hour, "alpha/k0 Look", "alpha/k0 Append ~0")
	x.rest()
	x.takeOver("alpha")
	x.again("alpha")
	x.restAll()
	wantCode(t, s, 0)
}
