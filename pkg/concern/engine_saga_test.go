package concern

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

var sagaOf3 = []string{"alpha/k0 Append", "beta/k0 Append <0", "alpha/k1 Append <1"}

// sagaThatFails is undone at three visits, the latest first.
var sagaThatFails = []string{"alpha/k0 Append", "beta/k0 Append <0", "alpha/k1 Append <1", "beta/k1 Refuse <2"}

func wantSaga(t *testing.T, s *simTxn, code txn.Code, detail string) {
	t.Helper()
	wantCode(t, s, code)
	if got := s.response.GetError().GetDetails()[txn.DetailSaga]; got != detail {
		t.Errorf("saga is %q, want %q: %v", got, detail, s.response)
	}
}

// What a visit of a saga did is seen by others before the next one runs.
func TestSagaCommitsVisitByVisit(t *testing.T) {
	x := newTable(t)
	s := x.submitAs(request{saga: true}, sagaOf3...)
	x.work("alpha")
	x.wantPaths(s, 1, "alpha/k0")
	if p := x.part("alpha"); len(p.holds) != 0 || len(p.slots) != 0 {
		t.Error("a saga holds something")
	}
	other := x.send(time.Hour, "alpha/k0 Look")
	x.work("alpha")
	wantCode(t, other, 0)
	if got := string(other.response.GetResults()[0].GetValue()); !strings.Contains(got, s.id.String()) {
		t.Errorf("another sees %q", got)
	}
	x.rest()
	wantSaga(t, s, 0, "")
	x.wantPaths(s, 1, "alpha/k0", "beta/k0", "alpha/k1")
	x.wantFree()
}

// The compensations run in reverse order, each once, also when the partitions
// move and records come twice at any point.
func TestSagaIsUndone(t *testing.T) {
	for _, fault := range []string{"none", "takeover", "again", "takeover and again", "again and takeover"} {
		for at := range 12 {
			t.Run(fmt.Sprint(fault, " ", at), func(t *testing.T) {
				x := newTable(t)
				s := x.submitAs(request{saga: true}, sagaThatFails...)
				for turn := range 12 {
					c := simConcerns[turn%2]
					if turn == at && x.end(stream.TopicPartition{Topic: processTopic(c)}) > 0 {
						for _, f := range strings.Split(fault, " and ") {
							switch f {
							case "takeover":
								x.takeOver(c)
							case "again":
								x.again(c)
							}
						}
					}
					x.work(c)
				}
				x.restAll()
				wantSaga(t, s, txn.CodeFailedPrecondition, txn.SagaCompensated)
				x.wantPaths(s, 0, "alpha/k0", "beta/k0", "alpha/k1", "beta/k1")
				for _, at := range []string{"alpha/k0", "beta/k0", "alpha/k1"} {
					states := x.history[at]
					states = slices.DeleteFunc(slices.Clone(states), func(st state) bool { return st.by != s.id })
					if len(states) != 2 {
						t.Errorf("%s was changed %d times, not twice", at, len(states))
					}
				}
				if len(x.history["beta/k1"]) > 1 {
					t.Error("the step that failed left something")
				}
				x.wantFree()
				for _, c := range simConcerns {
					x.takeOver(c)
				}
				x.restAll()
				x.wantFree()
			})
		}
	}
}

// Undo goes back in the order of the log.
func TestUndoIsInReverse(t *testing.T) {
	x := newTable(t)
	var order []string
	x.unwilling = func(txn.ID) error { return nil }
	x.submitAs(request{saga: true}, sagaThatFails...)
	x.restAll()
	for _, c := range simConcerns {
		for _, r := range x.read(stream.TopicPartition{Topic: processTopic(c)}, 0) {
			p := &rkcyv1.ProcessRecord{}
			x.unmarshal(r.Value, p)
			if v := p.GetVisit(); txn.Undoing(v) {
				order = append(order, fmt.Sprint(v.GetVisit(), " ", c, "/", string(r.Key)))
			}
		}
	}
	slices.Sort(order)
	if want := []string{"5 alpha/k1", "6 beta/k0", "7 alpha/k0"}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
}

// Earlier steps of the visit that fails are dropped, and not compensated.
func TestFailingVisitOfASagaLeavesNothing(t *testing.T) {
	x := newTable(t)
	s := x.submitAs(request{saga: true}, "alpha/k0 Append", "beta/k0 Append <0", "beta/k0 Refuse")
	x.restAll()
	wantSaga(t, s, txn.CodeFailedPrecondition, txn.SagaCompensated)
	x.wantPaths(s, 0, "alpha/k0", "beta/k0")
	if len(x.undos) != 1 || len(x.history["beta/k0"]) != 1 {
		t.Errorf("%d compensations, %d states", len(x.undos), len(x.history["beta/k0"]))
	}
	// Where the first visit fails, nothing has to be undone.
	s = x.submitAs(request{saga: true}, "alpha/k0 Append", "alpha/k0 Refuse", "beta/k0 Append <0")
	x.restAll()
	wantSaga(t, s, txn.CodeFailedPrecondition, "")
	x.wantFree()
}

// A saga waits for an isolated transaction, as does its undo, however young it
// is, and never starts again.
func TestSagaWaitsAndNeverDies(t *testing.T) {
	for _, takeOver := range []bool{false, true} {
		x := newTable(t)
		saga := x.submitAs(request{saga: true}, "alpha/k0 Append", "beta/k0 Refuse <0")
		x.work("alpha")
		holder := x.send(time.Hour, "alpha/k0 Append", "beta/k1 Append <0")
		x.work("alpha") // holds what is to be undone
		x.work("beta")  // fails; the holder commits
		second := x.send(time.Hour, "alpha/k0 Append", "beta/k1 Append <0")
		if takeOver {
			x.takeOver("alpha")
			x.takeOver("beta")
		}
		x.restAll()
		wantSaga(t, saga, txn.CodeFailedPrecondition, txn.SagaCompensated)
		wantCode(t, holder, 0)
		wantCode(t, second, 0)

		// Now forwards: two sagas behind one holder, the second of them in the
		// middle.
		holder = x.send(time.Hour, "alpha/k0 Append", "beta/k0 Append <0")
		x.work("alpha")
		first := x.submitAs(request{saga: true}, "alpha/k0 Append", "beta/k1 Append <0")
		middle := x.submitAs(request{saga: true}, "beta/k1 Append", "alpha/k0 Append <0")
		for _, w := range x.engines {
			w.engine.stats = Stats{}
		}
		x.work("beta") // commits the holder, whose marker comes later
		if takeOver {
			x.takeOver("alpha")
		}
		x.restAll()
		for _, s := range []*simTxn{holder, first, middle} {
			wantCode(t, s, 0)
		}
		for _, w := range x.engines {
			if w.engine.stats.Deaths > 0 {
				t.Error("a saga died")
			}
		}
		x.wantFree()
	}
}

// A parked visit of a saga goes back when its deadline passes or it is
// cancelled; a parked undo knows neither.
func TestSagaEndsWhileParked(t *testing.T) {
	for name, code := range map[string]txn.Code{"deadline": txn.CodeDeadlineExceeded, "cancel": txn.CodeCancelled} {
		for _, undoing := range []bool{false, true} {
			t.Run(fmt.Sprint(name, undoing), func(t *testing.T) {
				x := newTable(t)
				saga := x.submitAs(request{saga: true, timeout: time.Minute}, "alpha/k0 Append", "beta/k0 Append <0", "alpha/k1 Refuse <1")
				x.work("alpha")
				// The holder waits itself, for a long time.
				front := x.send(time.Hour, "alpha/k1 Append", "beta/k1 Append <0")
				x.work("alpha")
				var holder *simTxn
				if undoing {
					x.work("beta") // saga: visit 1; front commits
					holder = x.send(time.Hour, "beta/k0 Append", "alpha/k0 Append <0", "beta/k1 Append <1")
					x.work("beta")
					x.work("alpha")
				} else {
					holder = x.send(time.Hour, "beta/k0 Append", "alpha/k0 Append <0")
					// The order of the log puts the holder behind the saga: give
					// the hold first.
					tp := stream.TopicPartition{Topic: processTopic("beta")}
					var records []stream.Record
					for _, r := range x.log[tp] {
						if r.Topic != "control" {
							records = append(records, r)
						}
					}
					n := len(records)
					records[0], records[n-1] = records[n-1], records[0]
					x.log[tp] = nil
					x.append(records)
					x.batchOf("beta", 1)
					x.batchOf("beta", 9)
				}
				if name == "cancel" {
					x.cancel(saga)
				} else {
					x.now = x.now.Add(2 * time.Minute)
				}
				x.restAll()
				if undoing {
					code = txn.CodeFailedPrecondition
				}
				wantSaga(t, saga, code, txn.SagaCompensated)
				if m := saga.last.GetError().GetMessage(); strings.Contains(m, "nothing took effect") || !undoing && !strings.Contains(m, "is undone") {
					t.Errorf("the answer is %q", m)
				}
				wantCode(t, front, 0)
				wantCode(t, holder, 0)
				x.wantPaths(saga, 0, "alpha/k0", "beta/k0", "alpha/k1")
				x.forget()
				x.wantFree()
			})
		}
	}
}

// A database that is away does not count as a refusal.
func TestUnavailableIsNoTry(t *testing.T) {
	x := newTable(t)
	away := 3 * compensationTries
	x.unwilling = func(txn.ID) error {
		if away--; away >= 0 {
			return txn.Errorf(txn.CodeUnavailable, "away")
		}
		return nil
	}
	s := x.submitAs(request{saga: true}, "alpha/k0 Append", "beta/k0 Refuse <0")
	x.restAll()
	wantSaga(t, s, txn.CodeFailedPrecondition, txn.SagaCompensated)
	x.wantFree()
}

// A compensation that the program does not have is refused like any other.
func TestUnknownCompensation(t *testing.T) {
	x := newTable(t)
	s := x.submitAs(request{saga: true}, "alpha/k0 Append undo=Gone", "beta/k0 Refuse <0")
	x.restAll()
	wantSaga(t, s, txn.CodeFailedPrecondition, txn.SagaStuck)
	if why := s.response.GetError().GetDetails()[txn.DetailRefusal]; !strings.Contains(why, "Gone") {
		t.Errorf("refused since %q", why)
	}
}

// Steps that need no compensation, and reads, are passed over.
func TestUndoSkipsWhatNeedsNone(t *testing.T) {
	x := newTable(t)
	s := x.submitAs(request{saga: true}, "alpha/k0 Append", "beta/k0 Append noundo <0", "alpha/k1 Look", "beta/k1 Refuse <1")
	x.restAll()
	wantSaga(t, s, txn.CodeFailedPrecondition, txn.SagaCompensated)
	x.wantPaths(s, 0, "alpha/k0")
	x.wantPaths(s, 1, "beta/k0")
	x.wantFree()
	s = x.submitAs(request{saga: true}, "alpha/k0 Append noundo", "beta/k1 Refuse <0")
	x.restAll()
	wantSaga(t, s, txn.CodeFailedPrecondition, "")
}

// A saga that changes a unique field would leave a value taken while others
// see it.
func TestSagaCannotChangeAUniqueField(t *testing.T) {
	def := listDefinition("alpha")
	def.Unique = []Unique{{Field: "paths", Index: "alpha_paths", Value: func(m proto.Message) string { return strings.Join(m.(*list).GetPaths(), "") }}}
	x := newTable(t)
	set, err := newCommandSet(def)
	if err != nil {
		t.Fatal(err)
	}
	x.served[processTopic("alpha")].commands = set
	s := x.submitAs(request{saga: true}, "beta/k0 Append", "alpha/k0 Append <0")
	x.restAll()
	wantSaga(t, s, txn.CodeFailedPrecondition, txn.SagaCompensated)
	x.wantPaths(s, 0, "alpha/k0", "beta/k0")
	x.wantFree()
}

// A refused compensation is tried again after 100 ms, doubling, at most 10 s,
// ten times. Then the saga is stuck and says so once; takeovers and snapshots
// keep it, and a retry goes on.
func TestSagaIsStuck(t *testing.T) {
	x := newTable(t)
	willing := false
	x.unwilling = func(txn.ID) error {
		if willing {
			return nil
		}
		return txn.Errorf(txn.CodeFailedPrecondition, "not now")
	}
	s := x.submitAs(request{saga: true}, "alpha/k0 Append", "beta/k0 Refuse <0")
	x.rest()
	var pauses []int64
	for len(x.part("alpha").timers.due) > 0 {
		if s.answers > 0 {
			t.Fatal("answered while it is tried")
		}
		due := x.part("alpha").timers.due[0].dueMs
		pauses = append(pauses, due-x.now.UnixMilli())
		x.now = time.UnixMilli(due - 1)
		x.takeOver("alpha")
		tries := len(x.undos)
		x.rest()
		if len(x.undos) != tries {
			t.Error("tried too early")
		}
		x.now = time.UnixMilli(due)
		x.rest()
	}
	if want := []int64{100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000}; !slices.Equal(pauses, want) {
		t.Errorf("pauses of %v ms, want %v", pauses, want)
	}
	if len(x.undos) != compensationTries {
		t.Errorf("tried %d times", len(x.undos))
	}
	wantSaga(t, s, txn.CodeFailedPrecondition, txn.SagaStuck)
	if why := s.response.GetError().GetDetails()[txn.DetailRefusal]; !strings.Contains(why, "not now") {
		t.Errorf("refused since %q", why)
	}
	for x.start[stream.TopicPartition{Topic: "state.alpha"}] == 0 {
		x.send(time.Hour, "alpha/k1 Append", "beta/k1 Append")
		x.restAll()
	}
	x.now = x.now.Add(time.Hour)
	x.takeOver("alpha")
	x.cancel(s) // is not for what is stuck
	x.restAll()
	if s.answers != 1 || len(x.part("alpha").waiting(s.id)) != 1 {
		t.Fatalf("%d answers, %d stuck", s.answers, len(x.part("alpha").waiting(s.id)))
	}

	// A retry that does not help: stuck again, after ten tries more.
	x.undos = nil
	x.retry(s)
	x.restAll()
	if len(x.undos) != compensationTries || s.answers != 2 {
		t.Errorf("%d tries, %d answers", len(x.undos), s.answers)
	}
	willing = true
	x.takeOver("alpha")
	x.retry(s)
	x.retry(s) // twice is as good
	x.restAll()
	if s.answers != 3 || s.last.GetError().GetDetails()[txn.DetailSaga] != txn.SagaCompensated {
		t.Errorf("%d answers, %v", s.answers, s.last)
	}
	x.wantPaths(s, 0, "alpha/k0")
	x.forget()
	x.wantFree()
	x.retry(s)
	x.restAll()
	if s.answers != 3 {
		t.Error("a retry of what has ended was answered")
	}
}

// The retry of a saga is in the log once its record is done with, also where
// the worker dies before it could try.
func TestRetrySurvivesATakeover(t *testing.T) {
	x := newTable(t)
	x.unwilling = func(txn.ID) error { return txn.Errorf(txn.CodeFailedPrecondition, "not now") }
	s := x.submitAs(request{saga: true}, "alpha/k0 Append", "beta/k0 Refuse <0")
	x.restAll()
	wantSaga(t, s, txn.CodeFailedPrecondition, txn.SagaStuck)
	x.unwilling = nil
	x.persist(true)
	x.takeOver("alpha")
	for _, en := range x.part("alpha").instances {
		x.engines["alpha"].engine.cache.remove(en) // the instance has to be read
	}
	x.retry(s)
	x.work("alpha") // takes the record, wants the instance
	x.takeOver("alpha")
	x.restAll()
	x.wantPaths(s, 0, "alpha/k0")
	x.wantFree()
}

// A step later on names a Concern that does not exist: what has been done is
// undone.
func TestSagaThatLeadsNowhere(t *testing.T) {
	for _, saga := range []bool{false, true} {
		x := newTable(t)
		x.noRoute = "gamma"
		s := x.submitAs(request{saga: saga}, "alpha/k0 Append", "gamma/k0 Append <0")
		x.restAll()
		detail := ""
		if saga {
			detail = txn.SagaCompensated
		}
		wantSaga(t, s, txn.CodeUnimplemented, detail)
		x.wantPaths(s, 0, "alpha/k0")
		x.wantFree()
	}
}

// The last visit of a saga only reads. When it comes again, to another owner,
// nothing is answered twice.
func TestReadingVisitsOfASagaAreRemembered(t *testing.T) {
	x := newTable(t)
	s := x.submitAs(request{saga: true}, "alpha/k0 Append", "beta/k0 Look", "beta/k0 read")
	x.rest()
	wantSaga(t, s, 0, "")
	x.again("beta")
	x.takeOver("beta")
	x.restAll()
	wantSaga(t, s, 0, "")
	x.wantFree()
}

// An error of a handler with more details than fit does not hide that the saga
// is stuck.
func TestStuckShowsBesideManyDetails(t *testing.T) {
	def := listDefinition("beta")
	for i := range def.Commands {
		if def.Commands[i].Name == "Refuse" {
			run := def.Commands[i].Run
			def.Commands[i].Run = func(ctx Context, m, p proto.Message) (proto.Message, error) {
				_, err := run(ctx, m, p)
				e := txn.AsError(err)
				for n := range 100 {
					e = e.With(fmt.Sprintf("detail%03d", n), "x")
				}
				return nil, e
			}
		}
	}
	x := newTable(t)
	set, err := newCommandSet(def)
	if err != nil {
		t.Fatal(err)
	}
	x.served[processTopic("beta")].commands = set
	for _, want := range []string{txn.SagaCompensated, txn.SagaStuck} {
		if want == txn.SagaStuck {
			x.unwilling = func(txn.ID) error { return txn.Errorf(txn.CodeFailedPrecondition, "not now") }
		}
		s := x.submitAs(request{saga: true}, "alpha/k0 Append", "beta/k0 Refuse <0")
		x.restAll()
		wantSaga(t, s, txn.CodeFailedPrecondition, want)
	}
}

// The undo of a saga that has become as large as a record may be.
func TestLargeSagaIsUndone(t *testing.T) {
	def := listDefinition("alpha")
	def.Commands = append(def.Commands, Command{
		Name: "Large", NewPayload: newList, NewResult: newList,
		Run: func(_ Context, m, p proto.Message) (proto.Message, error) {
			return &list{Paths: []string{strings.Repeat("x", txn.MaxRecordBytes/2-2000)}}, nil
		},
	}, newTable(t).unappend())
	x := newTable(t)
	set, err := newCommandSet(def)
	if err != nil {
		t.Fatal(err)
	}
	x.served[processTopic("alpha")].commands = set
	def = listDefinition("beta")
	for i := range def.Commands {
		if def.Commands[i].Name == "Refuse" {
			def.Commands[i].Run = func(Context, proto.Message, proto.Message) (proto.Message, error) {
				return nil, txn.Errorf(txn.CodeFailedPrecondition, "%s", strings.Repeat("x", 8000))
			}
		}
	}
	if x.served[processTopic("beta")].commands, err = newCommandSet(def); err != nil {
		t.Fatal(err)
	}
	s := x.submitAs(request{saga: true}, "alpha/k0 Append", "alpha/k0 Large noundo", "alpha/k1 Append", "alpha/k1 Large noundo", "beta/k0 Refuse <0")
	x.restAll()
	wantSaga(t, s, txn.CodeFailedPrecondition, txn.SagaCompensated)
	x.wantFree()
}

// What a saga has begun is gone on with, and undone, however much waits here.
func TestSagaInTheMiddleIsNotShed(t *testing.T) {
	x := newTable(t)
	x.engines["alpha"].engine.cfg.parkedBytes = 1
	front := x.send(time.Hour, "alpha/k0 Append", "alpha/k1 Append <0", "beta/k0 Append <1")
	x.work("alpha")
	waits := x.send(time.Hour, "alpha/k0 Append")
	x.work("alpha")
	tp := stream.TopicPartition{Topic: processTopic("beta")}
	held := x.log[tp]
	x.log[tp] = nil // front does not go on yet
	saga := x.submitAs(request{saga: true}, "beta/k1 Append", "alpha/k1 Append <0")
	x.work("beta")
	x.work("alpha") // parks, although more than the limit is parked
	if saga.answers > 0 {
		t.Fatalf("the saga was shed: %v", saga.response)
	}
	records := []stream.Record{}
	for _, r := range held {
		if r.Topic != "control" {
			records = append(records, r)
		}
	}
	x.append(records)
	x.restAll()
	wantCode(t, front, 0)
	wantCode(t, waits, 0)
	wantSaga(t, saga, 0, "")
	x.wantFree()
}
