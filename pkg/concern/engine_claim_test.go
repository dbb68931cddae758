package concern

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// keyed is a request with an idempotency key.
var keyed = request{key: "order-1", print: "a"}

// wantRepeat checks that s was answered once, with the outcome of first.
func wantRepeat(t *testing.T, s, first *simTxn) {
	t.Helper()
	if s.answers != 1 || first.response == nil {
		t.Errorf("%d answers; the first: %v", s.answers, first.response)
		return
	}
	want := proto.CloneOf(first.response)
	want.TxnId, want.OriginalTxnId = s.id[:], first.id[:]
	if !proto.Equal(s.response, want) {
		t.Errorf("answered %v, not %v", s.response, want)
	}
}

func (x *table) wantEntries(n int) {
	x.t.Helper()
	if have := x.part("alpha").claims; len(have.entries) != n || (n == 0) != (have.bytes == 0) {
		x.t.Errorf("%d entries of %d bytes are remembered, not %d", len(have.entries), have.bytes, n)
	}
}

// After an outcome that had no effect and may pass, a repeat runs.
func TestRepeatsThatRunAgain(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(x *table, s *simTxn)
		want txn.Code
	}{
		"cancelled": {func(x *table, s *simTxn) { x.cancel(s) }, txn.CodeCancelled},
		"deadline":  {func(x *table, _ *simTxn) { x.now = x.now.Add(2 * time.Minute) }, txn.CodeDeadlineExceeded},
	} {
		for _, saga := range []bool{false, true} {
			for _, takeOver := range []bool{false, true} {
				t.Run(fmt.Sprint(name, saga, takeOver), func(t *testing.T) {
					x := newTable(t)
					r := keyed
					r.saga, r.timeout = saga, time.Minute
					steps := []string{"alpha/k0 Append", "beta/k0 Append <0"}
					first := x.submitAs(r, steps...)
					x.work("alpha")
					x.work("alpha")
					repeat := x.submitAs(r, steps...)
					x.work("alpha")
					// What follows has to come before the visit to beta.
					tp := x.hide("beta")
					c.end(x, first)
					x.show(tp)
					x.restAll()
					wantCode(t, first, c.want)
					wantRepeat(t, repeat, first)
					x.wantEntries(0)
					if takeOver {
						x.takeOver("alpha")
						x.takeOver("beta")
					}
					again := x.submitAs(r, steps...)
					x.restAll()
					wantCode(t, again, 0)
					x.wantPaths(first, 0, "alpha/k0", "beta/k0")
					x.wantPaths(again, 1, "alpha/k0", "beta/k0")
					x.forget()
					x.wantFree()
				})
			}
		}
	}
}

// A stuck saga had an effect: repeats get the outcome, and that of the retry
// once it has one.
func TestRepeatsOfAStuckSaga(t *testing.T) {
	x := newTable(t)
	x.unwilling = func(txn.ID) error { return txn.Errorf(txn.CodeFailedPrecondition, "not now") }
	r := keyed
	r.saga = true
	steps := []string{"alpha/k0 Append", "beta/k0 Refuse <0"}
	first := x.submitAs(r, steps...)
	x.restAll()
	wantSaga(t, first, txn.CodeFailedPrecondition, txn.SagaStuck)
	repeat := x.submitAs(r, steps...)
	x.restAll()
	wantRepeat(t, repeat, first)
	x.unwilling = nil
	x.takeOver("alpha")
	x.retry(first)
	x.restAll()
	later := x.submitAs(r, steps...)
	x.restAll()
	wantSaga(t, later, txn.CodeFailedPrecondition, txn.SagaCompensated)
	x.wantPaths(first, 0, "alpha/k0")
	x.forget()
	x.wantFree()
}

// A claimed transaction that has to start again ends once for its home.
func TestClaimedTransactionDies(t *testing.T) {
	x := newTable(t)
	steps := []string{"alpha/k0 Append", "beta/k0 Append <0"}
	older := x.send(time.Hour, "alpha/k1 Append", "beta/k0 Append <0")
	tp := x.hide("alpha")
	first := x.submitAs(keyed, steps...)
	x.work("alpha") // the claim
	x.work("alpha") // holds k0
	x.show(tp)
	x.work("alpha")
	held := x.hide("beta")
	x.show(held[1:])
	x.show(held[:1])
	x.work("beta")
	_ = older
	repeat := x.submitAs(keyed, steps...)
	x.restAll()
	wantCode(t, first, 0)
	wantCode(t, older, 0)
	wantRepeat(t, repeat, first)
	x.wantPaths(first, 1, "alpha/k0", "beta/k0")
}

// A partition that remembers too much refuses new keys, and forgets nothing
// early.
func TestEntriesAreBounded(t *testing.T) {
	x := newTable(t)
	x.engines["alpha"].engine.cfg.claimBytes = 1
	first := x.submitAs(keyed, "alpha/k0 Append")
	second := x.submitAs(request{key: "order-2"}, "alpha/k0 Append")
	repeat := x.submitAs(keyed, "alpha/k0 Append")
	x.restAll()
	wantCode(t, first, 0)
	wantCode(t, second, txn.CodeResourceExhausted)
	wantRepeat(t, repeat, first)
	x.wantPaths(second, 0, "alpha/k0")
	x.forget()
	third := x.submitAs(request{key: "order-2"}, "alpha/k0 Append")
	x.restAll()
	wantCode(t, third, 0)
}

// An answer that is too large to be kept is not lost on who waits for it, and
// a repeat is told that the request took effect.
func TestOutcomeTooLargeToKeep(t *testing.T) {
	def := listDefinition("alpha")
	for i := range def.Commands {
		if def.Commands[i].Name == "Look" {
			def.Commands[i].Run = func(Context, proto.Message, proto.Message) (proto.Message, error) {
				return &list{Paths: []string{strings.Repeat("x", maxOutcomeBytes)}}, nil
			}
		}
	}
	x := newTable(t)
	set, err := newCommandSet(def)
	if err != nil {
		t.Fatal(err)
	}
	x.served[processTopic("alpha")].commands = set
	first := x.submitAs(keyed, "alpha/k0 Append", "alpha/k0 Look")
	repeat := x.submitAs(keyed, "alpha/k0 Append", "alpha/k0 Look")
	x.restAll()
	wantCode(t, first, 0)
	late := x.submitAs(keyed, "alpha/k0 Append", "alpha/k0 Look")
	x.restAll()
	wantCode(t, late, txn.CodeFailedPrecondition)
	if late.response.GetOriginalTxnId() == nil {
		t.Error("the first is not named")
	}
	if repeat.answers != 1 {
		t.Errorf("%d answers", repeat.answers)
	}
	x.wantPaths(first, 1, "alpha/k0")
	if n := x.part("alpha").claims.bytes; n > maxOutcomeBytes {
		t.Errorf("%d bytes are remembered", n)
	}
}

// A claim whose deadline has passed leaves no entry.
func TestClaimAfterItsDeadline(t *testing.T) {
	x := newTable(t)
	r := keyed
	r.timeout = time.Second
	s := x.submitAs(r, "alpha/k0 Append")
	x.now = x.now.Add(time.Minute)
	x.restAll()
	wantCode(t, s, txn.CodeDeadlineExceeded)
	x.wantEntries(0)
	s = x.submitAs(r, "alpha/k0 Append")
	x.restAll()
	wantCode(t, s, 0)
}

// The first visit of a claimed transaction leads nowhere, or is delayed.
func TestClaimedTransactionEndsElsewhere(t *testing.T) {
	x := newTable(t)
	x.noRoute = "gamma"
	first := x.submitAs(keyed, "alpha/k0 Append", "gamma/k0 Append <0")
	repeat := x.submitAs(keyed, "alpha/k0 Append", "gamma/k0 Append <0")
	x.restAll()
	wantCode(t, first, txn.CodeUnimplemented)
	wantRepeat(t, repeat, first)

	r := request{key: "later", notBefore: x.now.Add(time.Minute)}
	first = x.submitAs(r, "alpha/k0 Append")
	x.rest()
	repeat = x.submitAs(r, "alpha/k0 Append")
	x.rest()
	if first.answers+repeat.answers > 0 {
		t.Error("ended too early")
	}
	x.takeOver("alpha")
	x.restAll()
	wantCode(t, first, 0)
	wantRepeat(t, repeat, first)
}

// A repeat that comes while the first one runs waits for it, one that comes
// later is answered from what is remembered, one with another request is
// refused; and nothing runs twice.
func TestRepeats(t *testing.T) {
	for _, kind := range []string{"single", "isolated", "saga", "refused", "undone"} {
		for _, takeOver := range []bool{false, true} {
			for _, again := range []bool{false, true} {
				t.Run(fmt.Sprint(kind, takeOver, again), func(t *testing.T) {
					x := newTable(t)
					disturb := func() {
						for _, c := range simConcerns {
							if takeOver {
								x.takeOver(c)
							}
						}
						if again {
							x.again("alpha")
							if takeOver {
								x.takeOver("alpha")
							}
						}
					}
					r, steps, code, effect := keyed, []string{"alpha/k0 Append", "beta/k0 Append <0"}, txn.Code(0), 1
					switch kind {
					case "single":
						steps = steps[:1]
					case "saga":
						r.saga = true
					case "refused":
						steps[1], code, effect = "beta/k0 Refuse <0", txn.CodeFailedPrecondition, 0
					case "undone":
						r.saga = true
						steps[1], code, effect = "beta/k0 Refuse <0", txn.CodeFailedPrecondition, 0
					}
					first := x.submitAs(r, steps...)
					disturb()
					x.work("alpha") // the claim
					disturb()
					repeat := x.submitAs(r, steps...)
					disturb()
					other := r
					other.print = "b"
					stranger := x.submitAs(other, steps...)
					disturb()
					x.work("alpha")
					disturb()
					x.restAll()
					disturb()
					late := x.submitAs(r, steps...)
					disturb()
					x.restAll()
					disturb()
					lateStranger := x.submitAs(other, steps...)
					disturb()
					x.restAll()
					wantCode(t, first, code)
					wantRepeat(t, repeat, first)
					wantRepeat(t, late, first)
					wantCode(t, stranger, txn.CodeInvalidArgument)
					wantCode(t, lateStranger, txn.CodeInvalidArgument)
					x.wantPaths(first, effect, "alpha/k0")
					for _, s := range []*simTxn{repeat, late, stranger, lateStranger} {
						x.wantPaths(s, 0, "alpha/k0", "beta/k0")
					}
					x.wantEntries(1)
					x.forget()
					x.wantEntries(0)
					x.wantFree()
					fresh := x.submitAs(other, "alpha/k1 Append")
					x.restAll()
					wantCode(t, fresh, 0)
				})
			}
		}
	}
}

// The record of a claim comes again after its entry has been dropped: it makes
// no entry that nobody would ever end.
func TestClaimComesAgainLater(t *testing.T) {
	for _, takeOver := range []bool{false, true} {
		x := newTable(t)
		s := x.submitAs(keyed, "alpha/k0 Append", "beta/k0 Append <0")
		claim := x.read(stream.TopicPartition{Topic: processTopic("alpha")}, 0)
		x.work("alpha")
		x.cancel(s)
		x.restAll()
		wantCode(t, s, txn.CodeCancelled)
		x.wantEntries(0)
		if takeOver {
			x.takeOver("alpha")
		}
		x.show(claim)
		x.restAll()
		x.wantEntries(0)
		wantCode(t, s, txn.CodeCancelled)
		next := x.submitAs(keyed, "alpha/k0 Append", "beta/k0 Append <0")
		x.restAll()
		wantCode(t, next, 0)
	}
}

// A read that is delivered twice is answered twice, but what repeats get does
// not change.
func TestOutcomeStays(t *testing.T) {
	x := newTable(t)
	first := x.submitAs(keyed, "alpha/k0 Look")
	x.restAll()
	wantCode(t, first, 0)
	x.send(time.Hour, "alpha/k0 Append")
	x.restAll()
	x.deliver(&rkcyv1.Visit{Txn: x.claimOf(first), Attempt: 1})
	x.restAll()
	repeat := x.submitAs(keyed, "alpha/k0 Look")
	x.restAll()
	wantRepeat(t, repeat, first)
}

// claimOf returns the transaction of the last claim in the log of alpha.
func (x *table) claimOf(s *simTxn) *rkcyv1.Transaction {
	x.t.Helper()
	for _, r := range x.read(stream.TopicPartition{Topic: processTopic("alpha")}, 0) {
		p := &rkcyv1.ProcessRecord{}
		x.unmarshal(r.Value, p)
		if p.GetVisit().GetClaim() && txn.ID(p.GetVisit().GetTxn().GetId()) == s.id {
			return p.GetVisit().GetTxn()
		}
	}
	x.t.Fatal("there is no claim")
	return nil
}

// An entry of what still runs outlives its window: those who wait for it would
// never be answered, and a repeat would run beside the first.
func TestRunningEntryIsNotForgotten(t *testing.T) {
	for _, takeOver := range []bool{false, true} {
		x := newTable(t)
		x.claimWindow = time.Minute
		x.takeOver("alpha")
		r := keyed
		r.notBefore, r.timeout = x.now.Add(time.Hour), 2*time.Hour
		first := x.submitAs(r, "alpha/k0 Append")
		repeat := x.submitAs(r, "alpha/k0 Append")
		x.rest()
		for range 3 {
			x.now = x.now.Add(5 * time.Minute)
			if takeOver {
				x.takeOver("alpha")
			}
			x.rest()
		}
		x.wantEntries(1)
		late := x.submitAs(r, "alpha/k0 Append")
		x.restAll()
		wantCode(t, first, 0)
		wantRepeat(t, repeat, first)
		wantRepeat(t, late, first)
		x.now = x.now.Add(5 * time.Minute)
		x.restAll()
		x.wantEntries(0)
		x.wantFree()
	}
}

// Entries that came and went leave nothing behind one that stays.
func TestDroppedEntriesTakeNoMemory(t *testing.T) {
	x := newTable(t)
	first := x.submitAs(keyed, "alpha/k0 Append")
	x.restAll()
	for n := range 500 {
		s := x.submitAs(request{key: fmt.Sprint("order ", n), timeout: time.Hour, notBefore: x.now.Add(time.Minute)}, "alpha/k0 Append")
		x.work("alpha")
		x.cancel(s)
		x.work("alpha")
		wantCode(t, s, txn.CodeCancelled)
	}
	x.wantEntries(1)
	if n := len(x.part("alpha").claims.order); n > 200 {
		t.Errorf("%d expiries for one entry", n)
	}
	repeat := x.submitAs(keyed, "alpha/k0 Append")
	x.rest()
	wantRepeat(t, repeat, first)
	x.forget()
	x.wantFree()
}

// Only so many can wait for one outcome; each of them makes the entry's record
// longer.
func TestWaitersAreBounded(t *testing.T) {
	x := newTable(t)
	r := keyed
	r.notBefore = x.now.Add(time.Minute)
	first := x.submitAs(r, "alpha/k0 Append")
	var all []*simTxn
	for range maxWaiters + 1 {
		all = append(all, x.submitAs(r, "alpha/k0 Append"))
	}
	x.restAll()
	wantCode(t, first, 0)
	for _, s := range all[:maxWaiters] {
		wantRepeat(t, s, first)
	}
	wantCode(t, all[maxWaiters], txn.CodeResourceExhausted)
}

// What the entry told of while the next owner had it is remembered by that
// owner, too.
func TestWaiterIsRememberedByTheNextOwner(t *testing.T) {
	x := newTable(t)
	first := x.submitAs(keyed, "alpha/k0 Append", "beta/k0 Append <0")
	x.work("alpha")
	repeat := x.submitAs(keyed, "alpha/k0 Append", "beta/k0 Append <0")
	claim := x.read(stream.TopicPartition{Topic: processTopic("alpha")}, 0)
	x.work("alpha")
	x.takeOver("alpha")
	x.restAll()
	x.show(claim[len(claim)-1:])
	x.restAll()
	wantCode(t, first, 0)
	wantRepeat(t, repeat, first)
}

// A read with an idempotency key goes from the home of the key to the instance
// without a hop only if it overtakes no marker: it would not see what its
// client has seen.
func TestKeyedReadDoesNotOvertakeAMarker(t *testing.T) {
	for _, saga := range []bool{false, true} {
		x := newTable(t)
		w := x.engines["beta"]
		home := stream.TopicPartition{Topic: processTopic("beta"), Partition: 1}
		x.partitions, x.home = 2, 1
		w.owns = append(w.owns, home)
		x.takeOver("beta")
		x.send(time.Hour, "beta/k0 Look")
		x.work("beta") // at hand now
		before := x.send(time.Hour, "beta/k0 Append", "alpha/k0 Append <0")
		x.work("beta")
		x.work("alpha")
		wantCode(t, before, 0)
		r := keyed // its home is partition 1
		r.saga = saga
		read := x.submitAs(r, "beta/k0 Look")
		e := w.engine
		e.begin(x.now, nil)
		for _, rec := range x.read(home, 0) {
			e.process(e.decode(rec))
		}
		out, offsets := e.finish()
		last := x.append(out)
		maps.Copy(x.committed, offsets)
		e.committed(last)
		x.restAll()
		wantCode(t, read, 0)
		if got := string(read.response.GetResults()[0].GetValue()); !strings.Contains(got, before.id.String()) {
			t.Errorf("reads %q, without what was committed before", got)
		}
		x.wantPaths(before, 1, "beta/k0")
	}
}

// A key has one home, whichever Concern a request begins in: it cannot be used
// for two requests, and a claim that comes elsewhere is not taken.
func TestOneKeyInTwoConcerns(t *testing.T) {
	for _, takeOver := range []bool{false, true} {
		x := newTable(t)
		first := x.submitAs(keyed, "beta/k0 Append")
		x.restAll()
		if takeOver {
			x.takeOver("alpha")
			x.takeOver("beta")
		}
		other := keyed
		other.print = "b"
		stranger := x.submitAs(other, "alpha/k0 Append")
		repeat := x.submitAs(keyed, "beta/k0 Append")
		x.restAll()
		wantCode(t, first, 0)
		wantCode(t, stranger, txn.CodeInvalidArgument)
		wantRepeat(t, repeat, first)
		x.wantPaths(first, 1, "beta/k0")
		x.wantPaths(stranger, 0, "alpha/k0")
		x.wantEntries(1)
	}

	x := newTable(t)
	s := x.submitAs(keyed, "beta/k0 Append")
	claim := x.read(stream.TopicPartition{Topic: processTopic("alpha")}, 0)
	claim[0].Topic = processTopic("beta")
	x.hide("alpha")
	x.show(claim)
	x.restAll()
	wantCode(t, s, txn.CodeInternal)
	x.wantPaths(s, 0, "beta/k0")
}
