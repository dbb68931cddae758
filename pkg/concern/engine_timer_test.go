package concern

import (
	"fmt"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// A delayed transaction runs when its time has come and not before, also after
// takeovers, and by an engine that has to read the instance first.
func TestDelayedStart(t *testing.T) {
	for _, takeOver := range []bool{false, true} {
		for _, saga := range []bool{false, true} {
			x := newTable(t)
			due := x.now.Add(time.Minute)
			s := x.submitAs(request{saga: saga, notBefore: due}, "alpha/k0 Append", "beta/k0 Append <0")
			single := x.submitAs(request{saga: saga, notBefore: due}, "alpha/k1 Append")
			x.rest()
			for _, at := range []time.Time{x.now, due.Add(-time.Millisecond)} {
				x.now = at
				if takeOver {
					x.takeOver("alpha")
				}
				x.rest()
				x.wantPaths(s, 0, "alpha/k0")
				if n := len(x.part("alpha").timers.byKey); s.answers+single.answers > 0 || n != 2 {
					t.Fatalf("%d timers", n)
				}
			}
			x.again("alpha")
			x.now = due
			if takeOver {
				x.takeOver("alpha")
			}
			x.restAll()
			wantCode(t, s, 0)
			wantCode(t, single, 0)
			x.wantPaths(s, 1, "alpha/k0", "beta/k0")
			x.wantPaths(single, 1, "alpha/k1")
			x.wantFree()
			x.again("alpha")
			x.takeOver("alpha")
			x.restAll()
			wantCode(t, single, 0)
		}
	}
}

// A delayed transaction that is cancelled ends at once.
func TestDelayedIsCancelled(t *testing.T) {
	for _, takeOver := range []bool{false, true} {
		x := newTable(t)
		s := x.submitAs(request{notBefore: x.now.Add(time.Minute)}, "alpha/k0 Append", "beta/k0 Append <0")
		x.work("alpha")
		if takeOver {
			x.takeOver("alpha")
		}
		x.cancel(s)
		x.rest()
		wantCode(t, s, txn.CodeCancelled)
		x.restAll()
		x.forget()
		wantCode(t, s, txn.CodeCancelled)
		x.wantPaths(s, 0, "alpha/k0")
		x.wantFree()
	}
}

// What is due finds a hold, and waits behind it like any other; or a database
// that is away.
func TestDelayedMeetsAHold(t *testing.T) {
	x := newTable(t)
	s := x.submitAs(request{notBefore: x.now.Add(time.Second)}, "alpha/k0 Append", "beta/k0 Append <0")
	x.work("alpha")
	holder := x.send(time.Hour, "alpha/k0 Append", "beta/k1 Append <0")
	x.work("alpha")
	x.now = x.now.Add(time.Minute)
	x.work("alpha")
	if s.answers > 0 || x.engines["alpha"].engine.stats.Parked != 1 {
		t.Fatal("it did not park")
	}
	x.restAll()
	wantCode(t, holder, 0)
	wantCode(t, s, 0)
	x.wantFree()

	s = x.submitAs(request{notBefore: x.now.Add(time.Second)}, "alpha/k9 Look")
	x.work("alpha")
	x.now = x.now.Add(time.Minute)
	e := x.engines["alpha"].engine
	for _, en := range x.part("alpha").instances {
		e.cache.remove(en)
	}
	x.work("alpha")
	refs := e.wants()
	if len(refs) != 1 {
		t.Fatalf("wants %v", refs)
	}
	e.unavailable(refs[0].part, refs[0].key, txn.Errorf(txn.CodeUnavailable, "the database is away"))
	e.begin(x.now, nil)
	e.expire()
	out, _ := e.finish()
	e.committed(x.append(out))
	wantCode(t, s, txn.CodeUnavailable)
	x.wantFree()
}

// What is due at one time is read together, and what is at hand does not wait
// for what has to be read.
func TestAllThatIsDueIsLoadedTogether(t *testing.T) {
	x := newTable(t)
	due := x.now.Add(time.Second)
	var all []*simTxn
	for n := range 10 {
		all = append(all, x.submitAs(request{notBefore: due}, fmt.Sprintf("alpha/%d Look", n)))
	}
	x.work("alpha")
	e := x.engines["alpha"].engine
	for key, en := range x.part("alpha").instances {
		if key != "9" {
			e.cache.remove(en)
		}
	}
	x.now = due
	x.work("alpha")
	wantCode(t, all[9], txn.CodeNotFound)
	x.work("alpha")
	for _, s := range all {
		wantCode(t, s, txn.CodeNotFound)
	}
	x.wantFree()
}

// A delayed read that is delivered twice is one timer, and cancelled as one.
func TestDelayedReadComesTwice(t *testing.T) {
	x := newTable(t)
	s := x.submitAs(request{notBefore: x.now.Add(time.Second)}, "alpha/k0 Look")
	x.again("alpha")
	x.work("alpha")
	if n := len(x.part("alpha").timers.due); n != 1 {
		t.Errorf("%d timers", n)
	}
	x.takeOver("alpha")
	x.again("alpha")
	x.cancel(s)
	x.restAll()
	x.forget()
	wantCode(t, s, txn.CodeCancelled)
	x.wantFree()
}
