package concern

import (
	"fmt"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// A cancel finds a transaction wherever it is. It ends once: cancelled without
// effect, or committed where the commit came first in the log.
func TestCancel(t *testing.T) {
	two := []string{"alpha/k0 Append", "beta/k0 Append <0"}
	for name, c := range map[string]struct {
		// prepare brings the transaction where the cancel is to find it.
		prepare func(x *table) *simTxn
		want    txn.Code
	}{
		"before it arrives": {func(x *table) *simTxn {
			s := x.send(time.Hour, two...)
			records := x.hide("alpha")
			x.cancel(s)
			x.show(records)
			return s
		}, txn.CodeCancelled},
		"parked": {func(x *table) *simTxn {
			x.send(time.Hour, "alpha/k0 Append", "beta/k1 Append <0")
			x.work("alpha")
			held := x.hide("beta")
			s := x.send(time.Hour, two...)
			x.work("alpha")
			x.show(held)
			x.cancel(s)
			return s
		}, txn.CodeCancelled},
		"holding elsewhere, on its way": {func(x *table) *simTxn {
			s := x.send(time.Hour, two...)
			x.work("alpha")
			next := x.hide("beta")
			x.cancel(s)
			x.show(next)
			return s
		}, txn.CodeCancelled},
		"holding elsewhere, parked": {func(x *table) *simTxn {
			s := x.send(time.Hour, two...) // the older one
			x.work("alpha")
			next := x.hide("beta")
			x.send(time.Hour, "beta/k0 Append", "alpha/k1 Append <0")
			x.work("beta")
			x.show(next)
			held := x.hide("alpha")
			x.work("beta") // parks, as the older one may
			x.cancel(s)
			x.show(held)
			return s
		}, txn.CodeCancelled},
		"a ghost": {func(x *table) *simTxn {
			x.send(time.Hour, "beta/k0 Append", "alpha/k1 Append <0")
			x.work("beta")
			held := x.hide("alpha")
			s := x.send(time.Hour, two...) // the younger one
			x.work("alpha")
			x.work("beta")
			if x.engines["beta"].engine.stats.Deaths != 1 {
				x.t.Fatal("it did not die")
			}
			x.cancel(s)
			x.show(held)
			return s
		}, txn.CodeCancelled},
		"its last visit came first": {func(x *table) *simTxn {
			s := x.send(time.Hour, two...)
			x.work("alpha")
			x.cancel(s)
			return s
		}, 0},
		"committed, with a marker on its way": {func(x *table) *simTxn {
			s := x.send(time.Hour, two...)
			x.work("alpha")
			x.work("beta")
			markers := x.hide("alpha")
			x.cancel(s)
			x.show(markers)
			return s
		}, 0},
		"refused before": {func(x *table) *simTxn {
			s := x.send(time.Hour, "alpha/k0 Refuse")
			x.work("alpha")
			x.cancel(s)
			return s
		}, txn.CodeFailedPrecondition},
		"a claim": {func(x *table) *simTxn {
			s := x.submitAs(keyed, two...)
			records := x.hide("alpha")
			x.cancel(s)
			x.show(records)
			return s
		}, txn.CodeCancelled},
		"a saga in its middle": {func(x *table) *simTxn {
			s := x.submitAs(request{saga: true}, two...)
			x.work("alpha")
			next := x.hide("beta")
			x.cancel(s)
			x.show(next)
			return s
		}, txn.CodeCancelled},
		"a saga that goes back": {func(x *table) *simTxn {
			s := x.submitAs(request{saga: true}, "alpha/k0 Append", "beta/k0 Refuse <0")
			x.work("alpha")
			x.work("beta")
			undo := x.hide("alpha")
			x.cancel(s)
			x.show(undo)
			return s
		}, txn.CodeFailedPrecondition},
		"a saga that tries its compensation again": {func(x *table) *simTxn {
			once := true
			x.unwilling = func(txn.ID) error {
				if once {
					once = false
					return txn.Errorf(txn.CodeFailedPrecondition, "not now")
				}
				return nil
			}
			s := x.submitAs(request{saga: true}, "alpha/k0 Append", "beta/k0 Refuse <0")
			x.rest()
			x.cancel(s)
			return s
		}, txn.CodeFailedPrecondition},
	} {
		for _, takeOver := range []string{"", "alpha", "beta"} {
			for _, twice := range []bool{false, true} {
				t.Run(fmt.Sprint(name, takeOver, twice), func(t *testing.T) {
					x := newTable(t)
					s := c.prepare(x)
					if twice {
						x.cancel(s)
					}
					if takeOver != "" {
						x.takeOver(takeOver)
						x.batchOf(takeOver, 1)
						x.takeOver(takeOver)
					}
					x.restAll()
					if twice {
						x.cancel(s)
					}
					x.restAll()
					wantCode(t, s, c.want)
					effect := 0
					if c.want == 0 {
						effect = 1
					}
					x.wantPaths(s, effect, "alpha/k0", "beta/k0")
					for _, other := range x.txns {
						if other != s {
							wantCode(t, other, 0)
						}
					}
					x.forget()
					x.wantFree()
					wantCode(t, s, c.want)
				})
			}
		}
	}
}

// A cancel that is told after the time in which its transaction can exist is
// not remembered.
func TestCancelThatCameTooLate(t *testing.T) {
	x := newTable(t)
	x.tell(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Cancel{
		Cancel: &rkcyv1.Cancel{TxnId: make([]byte, 16), ExpiresMs: x.now.UnixMilli() - 1},
	}})
	x.rest()
	x.wantFree()
}

// A partition remembers so many cancels, the latest ones, also after a
// takeover.
func TestCancelsAreBounded(t *testing.T) {
	x := newTable(t)
	s := x.send(time.Hour, "alpha/k0 Append")
	hidden := x.hide("alpha")
	x.cancel(s)
	for n := range maxCancels {
		id := txn.ID{0: 1, 14: byte(n >> 8), 15: byte(n)}
		x.append([]stream.Record{{Topic: processTopic("alpha"), Value: x.marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Cancel{
			Cancel: &rkcyv1.Cancel{TxnId: id[:], ExpiresMs: x.now.Add(2 * time.Hour).UnixMilli()},
		}})}})
	}
	x.work("alpha")
	x.takeOver("alpha")
	if c := x.part("alpha").cancels; len(c.until) != maxCancels || len(c.order) != maxCancels {
		t.Errorf("%d cancels, %d in order", len(c.until), len(c.order))
	}
	x.show(hidden) // its cancel was the oldest
	x.restAll()
	wantCode(t, s, 0)
	x.forget()
	x.wantFree()
}
