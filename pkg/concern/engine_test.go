package concern

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// table is a log on which engines are driven by hand: one partition of each of
// the Concerns alpha and beta, with an engine of its own each, so that visits
// hop.
type table struct {
	*sim
	engines map[string]*simWorker // by Concern
	clock   int64
}

func newTable(t *testing.T) *table {
	t.Helper()
	x := &table{sim: newSim(t, 1), engines: map[string]*simWorker{}}
	x.partitions, x.table, x.unwilling = 1, true, nil
	x.workers = nil
	for _, c := range simConcerns {
		for _, key := range []string{"k0", "k1"} {
			raw, err := proto.Marshal(&list{Value: []byte(key)})
			if err != nil {
				t.Fatal(err)
			}
			x.database[c+"/"+key] = &rkcyv1.Instance{Value: raw, Version: 1}
		}
		w := &simWorker{owns: []stream.TopicPartition{{Topic: processTopic(c)}}}
		x.engines[c] = w
		x.workers = append(x.workers, w)
		x.restore(w)
	}
	return x
}

// request is a transaction besides its steps.
type request struct {
	timeout   time.Duration // default: an hour
	saga      bool
	notBefore time.Time
	// key is an idempotency key, print the fingerprint.
	key, print string
}

// send submits an isolated transaction. A step is one command: "alpha/k0
// Append". <n binds the result of step n, !n skips the step if the result of
// step n has paths, ~n if it has none, undo=Name names the compensation.
func (x *table) send(timeout time.Duration, steps ...string) *simTxn {
	return x.submitAs(request{timeout: timeout}, steps...)
}

func (x *table) submitAs(r request, steps ...string) *simTxn {
	b := txn.New()
	if r.saga {
		b = txn.Saga()
	}
	if r.timeout == 0 {
		r.timeout = time.Hour
	}
	if !r.notBefore.IsZero() {
		b.NotBefore(r.notBefore)
	}
	s := &simTxn{}
	var handles []*txn.Handle[*list]
	for _, text := range steps {
		f := strings.Fields(text)
		concern, key, _ := strings.Cut(f[0], "/")
		access := rkcyv1.Access_ACCESS_WRITE
		if f[1] == "Look" || f[1] == "read" {
			access = rkcyv1.Access_ACCESS_READ
		}
		step := txn.NewStep(concern, key, f[1], access, &list{}, func() *list { return &list{} })
		if access == rkcyv1.Access_ACCESS_WRITE && (f[1] == "Append" || f[1] == "Refuse") {
			step = step.CompensatedBy("Unappend")
		}
		for _, word := range f[2:] {
			if name, ok := strings.CutPrefix(word, "undo="); ok {
				step = step.CompensatedBy(name)
			}
			if word == "noundo" {
				step = step.WithoutCompensation()
			}
		}
		s.steps = append(s.steps, step.Step)
		handle := txn.Add(b, step)
		for _, word := range f[2:] {
			var from int
			if n, _ := fmt.Sscanf(word[1:], "%d", &from); n == 0 {
				continue
			}
			switch word[0] {
			case '<':
				txn.Bind(b, handles[from], "", handle, "")
			case '!':
				txn.SkipWhen(b, handle, handles[from], "paths", txn.Set, nil)
			case '~':
				txn.SkipWhen(b, handle, handles[from], "paths", txn.NotSet, nil)
			}
		}
		handles = append(handles, handle)
	}
	x.clock++
	s.id = txn.ID{14: byte(x.clock >> 8), 15: byte(x.clock)}
	t, err := b.Build(s.id, x.now, x.now.Add(r.timeout), &rkcyv1.ReplyTo{})
	if err != nil {
		x.t.Fatal(err)
	}
	x.txns[s.id] = s
	v := &rkcyv1.Visit{Txn: t, Attempt: 1}
	if r.key != "" {
		topic, partition, _ := x.Route(x.IdempotencyHome(), txn.HomeKey(r.key))
		t.Idempotency = &rkcyv1.Idempotency{
			Key: r.key, Fingerprint: []byte(r.print), Home: &rkcyv1.Participant{Topic: topic, Partition: partition},
		}
		v.Claim = true
	}
	x.deliver(v)
	return s
}

func (x *table) deliver(v *rkcyv1.Visit) {
	concern, key := txn.Instance(v)
	if v.GetClaim() {
		concern, key = x.IdempotencyHome(), txn.HomeKey(v.GetTxn().GetIdempotency().GetKey())
	}
	topic, partition, _ := x.Route(concern, key)
	x.append([]stream.Record{{Topic: topic, Partition: partition, Key: []byte(key), Value: x.marshal(
		&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: v}})}})
}

// tell appends a record to the process partitions of both Concerns.
func (x *table) tell(r *rkcyv1.ProcessRecord) {
	for _, c := range simConcerns {
		x.append([]stream.Record{{Topic: processTopic(c), Value: x.marshal(r)}})
	}
}

func (x *table) cancel(s *simTxn) {
	x.tell(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Cancel{
		Cancel: &rkcyv1.Cancel{TxnId: s.id[:], ExpiresMs: x.now.Add(2 * time.Hour).UnixMilli()},
	}})
}

func (x *table) retry(s *simTxn) {
	x.tell(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Retry{Retry: &rkcyv1.Retry{TxnId: s.id[:]}}})
}

// again delivers the record at the end of the process log of a Concern once
// more.
func (x *table) again(concern string) {
	x.t.Helper()
	records := x.read(stream.TopicPartition{Topic: processTopic(concern)}, 0)
	if len(records) == 0 {
		x.t.Fatal("the log is empty")
	}
	x.append(records[len(records)-1:])
}

// restAll lets both engines work until nothing is left to do, with the clock
// going on while something waits for its time.
func (x *table) restAll() {
	x.t.Helper()
	for range 10_000 {
		x.rest()
		next := int64(never)
		for _, c := range simConcerns {
			if p := x.part(c); p != nil && len(p.timers.due) > 0 {
				next = min(next, p.timers.due[0].dueMs)
			}
		}
		if next == never {
			return
		}
		x.now = time.UnixMilli(max(next, x.now.UnixMilli()))
	}
	x.t.Fatal("does not come to rest")
}

// paths returns how often a transaction is in the committed state of an
// instance.
func (x *table) paths(at string, s *simTxn) (n int) {
	states := x.history[at]
	if len(states) == 0 {
		return 0
	}
	for _, path := range states[len(states)-1].is.GetPaths() {
		if path == s.id.String() {
			n++
		}
	}
	return n
}

func (x *table) wantPaths(s *simTxn, want int, at ...string) {
	x.t.Helper()
	for _, a := range at {
		if n := x.paths(a, s); n != want {
			x.t.Errorf("%v is in %s %d times, not %d", s.id, a, n, want)
		}
	}
}

// lastVisit returns the newest visit in the log of a Concern.
func (x *table) lastVisit(concern string) *rkcyv1.Visit {
	x.t.Helper()
	records := x.read(stream.TopicPartition{Topic: processTopic(concern)}, 0)
	for _, r := range slices.Backward(records) {
		p := &rkcyv1.ProcessRecord{}
		if err := proto.Unmarshal(r.Value, p); err != nil {
			x.t.Fatal(err)
		}
		if p.GetVisit() != nil {
			return p.GetVisit()
		}
	}
	x.t.Fatal("no visit in the log")
	return nil
}

func (x *table) work(concern string)     { x.batch(x.engines[concern], true) }
func (x *table) takeOver(concern string) { x.restore(x.engines[concern]) }

func (x *table) part(concern string) *partition {
	return x.engines[concern].engine.parts[stream.TopicPartition{Topic: processTopic(concern)}]
}

func (x *table) rest() {
	for busy := true; busy; {
		busy = false
		for _, c := range simConcerns {
			busy = x.batch(x.engines[c], true) || busy
		}
	}
}

func (x *table) wantFree() {
	x.t.Helper()
	for _, c := range simConcerns {
		p := x.part(c)
		if p == nil {
			continue // another worker has it
		}
		if len(p.slots) != 0 || len(p.holds) != 0 || len(p.state.live) != 0 {
			x.t.Errorf("%s: %d slots, %d holds, %d live state records are left", c, len(p.slots), len(p.holds), len(p.state.live))
		}
	}
}

// forget lets the time pass in which cancels and idempotency keys are
// remembered.
func (x *table) forget() {
	x.now = x.now.Add(48 * time.Hour)
	x.restAll()
}

// batchOf lets an engine work on the next n records only.
func (x *table) batchOf(concern string, n int) {
	w := x.engines[concern]
	tp := stream.TopicPartition{Topic: processTopic(concern)}
	next := x.part(concern).next
	whole := x.log[tp]
	seen := 0
	for i, r := range whole {
		if r.Offset >= next && r.Topic != "control" {
			if seen++; seen > n {
				x.log[tp] = whole[:i]
				rest := slices.Clone(whole[i:])
				x.batch(w, true)
				if len(x.log[tp]) != i {
					x.t.Fatal("the batch wrote to its own partition")
				}
				x.log[tp] = append(x.log[tp], rest...)
				return
			}
		}
	}
	x.batch(w, true)
}

func wantCode(t *testing.T, s *simTxn, code txn.Code) {
	t.Helper()
	if s.answers != 1 || s.response.GetError().GetCode() != code {
		t.Errorf("%d answers, %v; want %v", s.answers, s.response, code)
	}
}

// A visit that cannot be worked on ends its transaction, which holds something
// elsewhere.
func TestFaultyVisitEndsItsTransaction(t *testing.T) {
	x := newTable(t)
	s := x.send(time.Minute, "alpha/k0 Append", "beta/k0 Append")
	x.work("alpha")
	if len(x.part("alpha").holds) != 1 {
		t.Fatal("nothing is held")
	}
	v := x.lastVisit("beta")
	v.Txn.Mode = 99
	v.Participants = append(v.Participants, &rkcyv1.Participant{}) // leads nowhere
	tp := stream.TopicPartition{Topic: processTopic("beta")}
	x.log[tp] = nil
	x.deliver(v)
	x.rest()
	wantCode(t, s, txn.CodeInternal)
	x.wantFree()
	if n := len(x.read(stream.TopicPartition{Topic: "error.beta"}, 0)); n != 1 {
		t.Errorf("%d records in the error topic", n)
	}
}

// A parked visit whose command the program that takes over does not have, or
// that it cannot work on for another reason, is answered when its turn comes.
func TestParkedVisitOfAnotherProgram(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*rkcyv1.Parked)
		want   txn.Code
	}{
		"command": {func(p *rkcyv1.Parked) { p.Visit.Txn.Steps[0].Command = "Gone" }, txn.CodeUnimplemented},
		"mode":    {func(p *rkcyv1.Parked) { p.Visit.Txn.Mode = 99 }, txn.CodeInternal},
		"plan":    {func(p *rkcyv1.Parked) { p.Visit.Txn.Visits = nil }, txn.CodeInternal},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprint(name, late), func(t *testing.T) {
				x := newTable(t)
				x.send(time.Hour, "alpha/k0 Append", "beta/k0 Append")
				x.work("alpha")
				s := x.send(time.Minute, "alpha/k0 Append")
				x.work("alpha")
				state := x.log[stream.TopicPartition{Topic: "state.alpha"}]
				for i := range state {
					record := &rkcyv1.StateRecord{}
					if err := proto.Unmarshal(state[i].Value, record); err != nil {
						t.Fatal(err)
					}
					if record.GetParked() != nil {
						c.change(record.GetParked())
						raw, err := proto.Marshal(record)
						if err != nil {
							t.Fatal(err)
						}
						state[i].Value = raw
					}
				}
				x.takeOver("alpha")
				if late {
					x.now = x.now.Add(2 * time.Minute)
					x.rest()
					if name == "command" {
						wantCode(t, s, txn.CodeDeadlineExceeded)
					} else {
						wantCode(t, s, txn.CodeInternal)
					}
					return
				}
				x.rest()
				wantCode(t, s, c.want)
				x.wantFree()
			})
		}
	}
}

func TestStateRecordsAreCheckedOnReading(t *testing.T) {
	x := newTable(t)
	for _, record := range []*rkcyv1.StateRecord{
		{},
		{Kind: &rkcyv1.StateRecord_Hold{Hold: &rkcyv1.Hold{TxnId: []byte("short")}}},
		{Kind: &rkcyv1.StateRecord_Parked{Parked: &rkcyv1.Parked{}}},
	} {
		raw, err := proto.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		r := newRestorer(newPartition(stream.TopicPartition{}, x.served[processTopic("alpha")], 10), 0)
		if len(raw) == 0 {
			raw = []byte{0xf8, 1, 0} // an unknown field
		}
		if r.stateRecord(stream.Record{Key: []byte("k"), Value: raw}) == nil {
			t.Errorf("%v is accepted", record)
		}
	}
}

// What is parked ends at its deadline, also after a takeover; others stay.
func TestParkedExpire(t *testing.T) {
	for _, takeOver := range []bool{false, true} {
		x := newTable(t)
		holder := x.send(time.Hour, "alpha/k0 Append", "beta/k0 Append")
		x.work("alpha")
		late := []*simTxn{x.send(2*time.Second, "alpha/k0 Append"), x.send(time.Second, "alpha/k0 Append", "beta/k1 Append")}
		stays := x.send(time.Hour, "alpha/k0 Append")
		x.work("alpha")
		if takeOver {
			x.takeOver("alpha")
		}
		x.now = x.now.Add(1500 * time.Millisecond)
		x.work("alpha")
		wantCode(t, late[1], txn.CodeDeadlineExceeded)
		if late[0].answers != 0 {
			t.Error("ended too early")
		}
		if p := x.part("alpha"); p.expiry <= x.now.UnixMilli() || p.expiry > x.now.Add(time.Second).UnixMilli() {
			t.Errorf("looks again at %d, now %d", p.expiry, x.now.UnixMilli())
		}
		x.now = x.now.Add(time.Minute)
		x.work("alpha")
		wantCode(t, late[0], txn.CodeDeadlineExceeded)
		if stays.answers != 0 {
			t.Error("ended before its deadline")
		}
		x.rest()
		wantCode(t, holder, 0)
		wantCode(t, stays, 0)
		x.wantFree()
	}
}

// A transaction comes to one instance twice before its end. The second visit
// is delivered again, to the next owner.
func TestSecondVisitToAnInstanceIsRemembered(t *testing.T) {
	x := newTable(t)
	s := x.send(time.Hour, "alpha/k0 Append", "beta/k0 Append <0", "alpha/k0 Append <1", "beta/k1 Append <2")
	x.work("alpha")
	x.work("beta")
	second := x.lastVisit("alpha")
	if second.GetVisit() != 2 {
		t.Fatalf("visit %d", second.GetVisit())
	}
	x.work("alpha")
	x.deliver(second)
	x.takeOver("alpha")
	x.work("alpha")
	if n := x.engines["alpha"].engine.stats.Duplicates; n != 1 {
		t.Errorf("%d duplicates seen", n)
	}
	x.rest()
	x.takeOver("alpha")
	x.deliver(second)
	x.rest()
	wantCode(t, s, 0)
	x.persist(true)
	l := &list{}
	if err := proto.Unmarshal(x.database["alpha/k0"].GetValue(), l); err != nil {
		t.Fatal(err)
	}
	if len(l.GetPaths()) != 2 {
		t.Errorf("%d appends of 2 took effect", len(l.GetPaths()))
	}
	x.wantFree()
}

// All visits run in one batch, two of them to one instance. The first is
// delivered again, to the next owner.
func TestFirstVisitOfABatchIsRemembered(t *testing.T) {
	x := newTable(t)
	one := x.engines["alpha"]
	one.owns = append(one.owns, x.engines["beta"].owns...)
	x.engines["beta"].owns = nil
	x.takeOver("beta")
	x.takeOver("alpha")
	x.send(time.Hour, "alpha/k0 Look")
	x.send(time.Hour, "beta/k0 Look")
	x.send(time.Hour, "beta/k1 Look")
	x.work("alpha") // all is in the cache
	s := x.send(time.Hour, "alpha/k0 Append", "beta/k0 Append <0", "alpha/k0 Append <1", "beta/k1 Append <2")
	first := x.lastVisit("alpha")
	x.work("alpha")
	wantCode(t, s, 0)
	x.takeOver("alpha")
	x.deliver(first)
	x.work("alpha")
	if n := one.engine.stats.Duplicates; n != 1 {
		t.Errorf("%d duplicates seen", n)
	}
	x.wantFree()
}

// DeleteRecords overtakes a reader that has read the beginning of a hold and
// then goes on behind the hold's end.
func TestRestoreOvertakenByTruncation(t *testing.T) {
	x := newTable(t)
	stuck := x.send(time.Hour, "alpha/k0 Append", "beta/k0 Append")
	x.work("alpha")
	state := stream.TopicPartition{Topic: "state.alpha"}
	seen := x.read(state, 0) // the reader is here
	x.rest()
	wantCode(t, stuck, 0)
	for x.start[state] == 0 {
		x.send(time.Hour, "alpha/k1 Append", "beta/k1 Append")
		x.rest()
	}
	if x.start[state] <= seen[len(seen)-1].Offset {
		t.Fatal("nothing was deleted")
	}
	tp := stream.TopicPartition{Topic: processTopic("alpha")}
	r := newRestorer(newPartition(tp, x.served[tp.Topic], 100), 0)
	for _, rec := range append(seen, x.read(state, seen[len(seen)-1].Offset+1)...) {
		if err := r.stateRecord(rec); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.p.state.live) != 0 {
		t.Errorf("what has ended seems alive: %v", r.p.state.live)
	}
}

// Owners that never write enough for two snapshots of their own still delete
// what the snapshots before them have replaced.
func TestTruncationGoesOnAfterTakeovers(t *testing.T) {
	x := newTable(t)
	state := stream.TopicPartition{Topic: "state.alpha"}
	for range 4 * x.stateRecords {
		x.send(time.Hour, "alpha/k1 Append", "beta/k1 Append")
		x.rest()
		x.takeOver("alpha")
	}
	if n := len(x.read(state, 0)); n > 3*x.stateRecords {
		t.Errorf("%d state records; a snapshot is due after %d", n, x.stateRecords)
	}
	if x.start[state] == 0 {
		t.Error("nothing was deleted")
	}
}

// After a restore the window has the newest of what changes tell, of what
// tombstones tell, and all that is live.
func TestRestoredWindowHasBothTopics(t *testing.T) {
	x := newTable(t)
	const size = 100
	tp := stream.TopicPartition{Topic: processTopic("alpha")}
	r := newRestorer(newPartition(tp, x.served[tp.Topic], size), 0)
	at := func(kind byte, n int) applied { return applied{txn.ID{kind, byte(n >> 8), byte(n)}, 1, 0} }
	for n := range 3 * size {
		a := at('s', n)
		if err := r.stateRecord(stream.Record{Key: []byte(holdKey(a.id, a.attempt, a.visit))}); err != nil {
			t.Fatal(err)
		}
		a = at('c', n)
		raw := x.marshal(&rkcyv1.Change{Key: "k0", TxnId: a.id[:], Attempt: a.attempt, Visit: a.visit})
		if err := r.change(stream.Record{Offset: int64(n), Value: raw}); err != nil {
			t.Fatal(err)
		}
	}
	held := at('h', 0)
	raw := x.marshal(&rkcyv1.StateRecord{Kind: &rkcyv1.StateRecord_Hold{Hold: &rkcyv1.Hold{TxnId: held.id[:], Attempt: 1, Key: "k0"}}})
	if err := r.stateRecord(stream.Record{Key: []byte(holdKey(held.id, 1, 0)), Value: raw}); err != nil {
		t.Fatal(err)
	}
	r.finish(x.newEngine(), 0)
	for _, a := range []applied{held, at('s', 3*size-1), at('s', 3*size-40), at('c', 3*size-1), at('c', 3*size-40)} {
		if r.p.window.add(a) {
			t.Errorf("%c %v is not remembered", a.id[0], a.id)
		}
	}
	if len(r.p.window.seen) > size {
		t.Errorf("%d visits in a window of %d", len(r.p.window.seen), size)
	}
}

// Reads of one instance do not push what writes out of the window, and leave
// nothing in the log but their answer.
func TestLoneReadsLeaveNothing(t *testing.T) {
	x := newTable(t)
	for _, step := range []string{"alpha/k0 Look", "alpha/k9 Look", "alpha/k0 read"} {
		s := x.send(time.Hour, step)
		x.rest()
		if s.answers != 1 {
			t.Errorf("%s: %d answers", step, s.answers)
		}
	}
	if n := len(x.part("alpha").window.seen); n != 0 {
		t.Errorf("%d visits in the window", n)
	}
	if n := x.end(stream.TopicPartition{Topic: "state.alpha"}); n != 0 {
		t.Errorf("%d state records", n)
	}
}

// A record that was fetched before the partition was restored does not move it
// back.
func TestStaleRecordIsIgnored(t *testing.T) {
	x := newTable(t)
	s := x.send(time.Hour, "alpha/k0 Look")
	e := x.engines["alpha"].engine
	stale := e.decode(x.read(stream.TopicPartition{Topic: processTopic("alpha")}, 0)[0])
	x.rest()
	next := x.part("alpha").next
	e.begin(x.now, nil)
	e.process(stale)
	if out, _ := e.finish(); len(out) != 0 || x.part("alpha").next != next {
		t.Errorf("%d records written, next offset %d, was %d", len(out), x.part("alpha").next, next)
	}
	wantCode(t, s, 0)
}

// Errors of handlers always fit into a record.
func TestHandlerErrorsCanBeWritten(t *testing.T) {
	def := listDefinition("alpha")
	for i := range def.Commands {
		if def.Commands[i].Name == "Refuse" {
			def.Commands[i].Run = func(Context, proto.Message, proto.Message) (proto.Message, error) {
				return nil, txn.Errorf(txn.CodeFailedPrecondition, "%s", "\xff"+strings.Repeat("é", 4<<20)).With("\xff", "\xff")
			}
		}
	}
	x := newTable(t)
	set, err := newCommandSet(def)
	if err != nil {
		t.Fatal(err)
	}
	x.served[processTopic("alpha")].commands = set
	s := x.send(time.Hour, "alpha/k0 Refuse")
	x.rest()
	wantCode(t, s, txn.CodeFailedPrecondition)
	if n := proto.Size(s.response); n > 64<<10 {
		t.Errorf("an answer of %d bytes", n)
	}
}

// FuzzEngine feeds an engine any record: it never panics, and what is not
// understood goes to the error topic.
func FuzzEngine(f *testing.F) {
	id := txn.NewID()
	good := &rkcyv1.Transaction{
		Id: id[:], DeadlineMs: 1 << 50, ReplyTo: &rkcyv1.ReplyTo{},
		Steps: []*rkcyv1.Step{
			{Concern: "alpha", Key: "k0", Command: "Append"}, {Concern: "beta", Key: "k0", Command: "Append"},
		},
		Visits: []*rkcyv1.VisitPlan{{Steps: []uint32{0}}, {Steps: []uint32{1}}},
	}
	other := proto.CloneOf(good)
	other.Mode = 99
	for _, r := range []*rkcyv1.ProcessRecord{
		{Kind: &rkcyv1.ProcessRecord_Visit{Visit: &rkcyv1.Visit{Txn: good, Attempt: 1}}},
		{Kind: &rkcyv1.ProcessRecord_Visit{Visit: &rkcyv1.Visit{Txn: other, Attempt: 1, Participants: []*rkcyv1.Participant{{Partition: -1}}}}},
		{Kind: &rkcyv1.ProcessRecord_Marker{Marker: &rkcyv1.Marker{TxnId: id[:], Attempt: 1}}},
		{},
	} {
		raw, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		x := &sim{t: t, partitions: 1, served: map[string]*servedConcern{}}
		set, err := newCommandSet(listDefinition("alpha"))
		if err != nil {
			t.Fatal(err)
		}
		x.served[processTopic("alpha")] = &servedConcern{commands: set, topics: Topics{
			Process: processTopic("alpha"), State: "state", Storage: "storage", Error: "error",
		}}
		e := newEngine(engineConfig{served: x.served, responseTopic: "response", router: fixedRoute{}, overlayBytes: 1 << 20, stateRecords: 10, logger: slog.New(slog.DiscardHandler)})
		tp := stream.TopicPartition{Topic: processTopic("alpha")}
		newRestorer(newPartition(tp, x.served[tp.Topic], 100), 0).finish(e, 0)
		for offset := range int64(2) { // the second time it is a duplicate
			in := e.decode(stream.Record{Topic: tp.Topic, Offset: offset, Value: raw})
			if key, ok := e.missing(in); ok {
				e.loaded(in.part, key, nil)
			}
			e.begin(time.UnixMilli(1), nil)
			e.process(in)
			e.expire()
			out, _ := e.finish()
			if in.fault != nil && !slices.ContainsFunc(out, func(r stream.Record) bool { return r.Topic == "error" }) {
				t.Fatalf("%v is not in the error topic", in.fault)
			}
			e.committed(map[stream.TopicPartition]int64{{Topic: "state"}: offset, {Topic: "storage"}: offset})
		}
	})
}

type fixedRoute struct{}

func (fixedRoute) Route(concern, _ string) (string, int32, error) {
	return processTopic(concern), 0, nil
}

func (fixedRoute) IdempotencyHome() string { return "alpha" }

// hide takes what an engine has not read yet out of its log, show puts records
// at the log's end.
func (x *table) hide(concern string) (hidden []stream.Record) {
	tp := stream.TopicPartition{Topic: processTopic(concern)}
	next := x.part(concern).next
	hidden = x.read(tp, next)
	x.log[tp] = x.log[tp][:min(next, x.end(tp))]
	return hidden
}

func (x *table) show(records []stream.Record) {
	if len(records) > 0 {
		x.append(records)
	}
}
