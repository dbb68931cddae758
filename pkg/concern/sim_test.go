package concern

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

var (
	simSeeds = flag.Int("sim.seeds", 400, "number of seeds that the simulation runs")
	simSeed  = flag.Uint64("sim.seed", 0, "run this seed only, and say what happens")
)

// The simulation runs the partition logic of several workers on a simulated
// log, one batch at a time, in an order that a seed decides: crashes before
// the commit, crashes after it, partitions that move, records that are
// delivered twice, a database that lags. Then it checks, from what clients
// saw and from the final state, that every transaction ended exactly once and
// that the outcome is strictly serializable.
//
// The instances are lists: each transaction appends its id to some and reads
// others, so the final lists give the order of all writes.

// list is the instance. UpdatePayload happens to have the fields we need: a
// key and a list of strings.
type list = rkcyv1.UpdatePayload

func listDefinition(name string) Definition {
	newList := func() proto.Message { return &list{} }
	return Definition{
		Name: name, New: newList, KeyOf: func(m proto.Message) string { return string(m.(*list).GetValue()) },
		Commands: []Command{
			{
				Name: "Append", NewPayload: newList, NewResult: newList,
				Run: func(ctx Context, instance, _ proto.Message) (proto.Message, error) {
					l := instance.(*list)
					l.Paths = append(l.Paths, ctx.TxnID().String())
					return l, nil
				},
			},
			{
				Name: "Refuse", NewPayload: newList, NewResult: newList,
				Run: func(Context, proto.Message, proto.Message) (proto.Message, error) {
					return nil, txn.Errorf(txn.CodeFailedPrecondition, "refused on purpose")
				},
			},
			{
				Name: "Panic", NewPayload: newList, NewResult: newList,
				Run: func(Context, proto.Message, proto.Message) (proto.Message, error) { panic("on purpose") },
			},
			{
				Name: "Look", ReadOnly: true, NewPayload: newList, NewResult: newList,
				Run: func(_ Context, instance, _ proto.Message) (proto.Message, error) {
					l := instance.(*list)
					got := proto.Clone(l)
					l.Paths = nil // must have no effect
					return got, nil
				},
			},
		},
	}
}

type sim struct {
	t       *testing.T
	rng     *rand.Rand
	verbose bool

	partitions int32
	keys       int
	log        map[stream.TopicPartition][]stream.Record
	start      map[stream.TopicPartition]int64 // log start after DeleteRecords
	committed  map[stream.TopicPartition]int64
	database   map[string]*rkcyv1.Instance // concern/key
	watermarks map[stream.TopicPartition]int64
	served     map[string]*servedConcern
	workers    []*simWorker
	now        time.Time
	clock      int // counts events, for real-time order

	txns      map[txn.ID]*simTxn
	responses int64
	holdsOff  bool
	stats     Stats
}

type simWorker struct {
	engine *engine
	owns   []stream.TopicPartition
}

type simTxn struct {
	id        txn.ID
	steps     []txn.Step
	submitted int
	answered  int
	answers   int
	response  *rkcyv1.Response
}

func (x *simTxn) writes() bool {
	return slices.ContainsFunc(x.steps, func(s txn.Step) bool { return s.Access == rkcyv1.Access_ACCESS_WRITE })
}

var simConcerns = []string{"alpha", "beta"}

func processTopic(concern string) string { return "process." + concern }

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 17)),
		log: map[stream.TopicPartition][]stream.Record{}, start: map[stream.TopicPartition]int64{},
		committed: map[stream.TopicPartition]int64{}, database: map[string]*rkcyv1.Instance{},
		watermarks: map[stream.TopicPartition]int64{}, served: map[string]*servedConcern{},
		txns: map[txn.ID]*simTxn{}, now: time.UnixMilli(1_000_000),
	}
	s.partitions = int32(1 + s.rng.IntN(3))
	s.keys = 1 + s.rng.IntN(5)
	for _, c := range simConcerns {
		set, err := newCommandSet(listDefinition(c))
		if err != nil {
			t.Fatal(err)
		}
		s.served[processTopic(c)] = &servedConcern{commands: set, topics: Topics{
			Process: processTopic(c), State: "state." + c, Storage: "storage." + c, Error: "error." + c,
		}}
		for k := range s.keys {
			raw, err := proto.Marshal(&list{Value: []byte(simKey(k))})
			if err != nil {
				t.Fatal(err)
			}
			s.database[c+"/"+simKey(k)] = &rkcyv1.Instance{Value: raw, Version: 1}
		}
	}
	for range 1 + s.rng.IntN(3) {
		s.workers = append(s.workers, &simWorker{})
	}
	return s
}

func simKey(k int) string { return fmt.Sprintf("k%d", k) }

func (s *sim) Route(concern, key string) (string, int32, error) {
	return processTopic(concern), int32(key[1]-'0') % s.partitions, nil
}

func (s *sim) newEngine() *engine {
	return newEngine(engineConfig{
		served: s.served, responseTopic: "response", router: s,
		cacheBytes: int64(s.rng.IntN(4000)), overlayBytes: 1 << 30, stateRecords: 60, logger: slog.New(slog.DiscardHandler), holdsOff: s.holdsOff,
	})
}

func (s *sim) say(format string, args ...any) {
	if s.verbose {
		s.t.Logf("%5d "+format, append([]any{s.clock}, args...)...)
	}
}

// append adds records to the log, as one committed Kafka transaction.
func (s *sim) append(records []stream.Record) map[stream.TopicPartition]int64 {
	last := map[stream.TopicPartition]int64{}
	for _, r := range records {
		tp := stream.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		r.Offset = s.end(tp)
		s.log[tp] = append(s.log[tp], r)
		if s.verbose {
			s.say("  %s", describeRecord(r))
		}
		last[tp] = r.Offset
		if r.Topic == "response" {
			s.respond(r.Value)
		}
	}
	for tp := range last { // a control marker occupies an offset
		s.log[tp] = append(s.log[tp], stream.Record{Offset: s.end(tp), Topic: "control"})
	}
	return last
}

func (s *sim) end(tp stream.TopicPartition) int64 { return int64(len(s.log[tp])) }

func (s *sim) read(tp stream.TopicPartition, from int64) []stream.Record {
	var out []stream.Record
	for _, r := range s.log[tp][max(from, s.start[tp]):] {
		if r.Topic != "control" {
			out = append(out, r)
		}
	}
	return out
}

func (s *sim) respond(value []byte) {
	r := &rkcyv1.Response{}
	if err := proto.Unmarshal(value, r); err != nil {
		s.t.Fatal(err)
	}
	x := s.txns[txn.ID(r.GetTxnId())]
	x.answers++
	if x.response != nil {
		// A duplicate of what only reads may be answered again, and nobody
		// waits for it. What writes must not end in two ways.
		if x.writes() && (x.response.GetError() == nil) != (r.GetError() == nil) {
			s.t.Errorf("%v ended as %v and as %v", x.id, x.response.GetError(), r.GetError())
			x.answers = -1 << 20
		}
		return
	}
	x.answered, x.response = s.clock, r
	s.say("answer %v %v", x.id, r.GetError().GetCode())
}

func (s *sim) submit() {
	b := txn.New()
	x := &simTxn{submitted: s.clock}
	n := 1 + s.rng.IntN(4)
	for range n {
		concern, key := simConcerns[s.rng.IntN(2)], simKey(s.rng.IntN(s.keys))
		command, access := "Append", rkcyv1.Access_ACCESS_WRITE
		switch s.rng.IntN(20) {
		case 0:
			command = "Refuse"
		case 1:
			command = "Panic"
		case 2, 3, 4, 5, 6, 7:
			command, access = "Look", rkcyv1.Access_ACCESS_READ
		}
		step := txn.Step{Concern: concern, Key: key, Command: command, Access: access, Payload: &list{}}
		x.steps = append(x.steps, step)
		b.AddStep(step)
	}
	var id txn.ID
	for i := range id {
		id[i] = byte(s.rng.Uint32())
	}
	x.id = id
	t, err := b.Build(id, s.now, s.now.Add(time.Duration(1+s.rng.IntN(3000))*time.Millisecond), &rkcyv1.ReplyTo{Partition: 0})
	if err != nil {
		s.t.Fatal(err)
	}
	// Any order of visits must do: undo the planner's sorting now and then.
	if s.rng.IntN(2) == 0 {
		slices.Reverse(t.Visits)
	}
	s.txns[id] = x
	concern, key := txn.Instance(&rkcyv1.Visit{Txn: t})
	topic, partition, _ := s.Route(concern, key)
	value, err := proto.Marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: &rkcyv1.Visit{Txn: t, Attempt: 1}}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.say("submit %v %v", id, t.Visits)
	s.append([]stream.Record{{Topic: topic, Partition: partition, Key: []byte(key), Value: value}})
}

// describeRecord says what a record is, for whoever follows a seed.
func describeRecord(r stream.Record) string {
	at := fmt.Sprintf("%s[%d]@%d", r.Topic, r.Partition, r.Offset)
	var m proto.Message = &rkcyv1.ProcessRecord{}
	switch {
	case strings.HasPrefix(r.Topic, "state") && r.Value == nil:
		kind, a, _ := parseStateKey(r.Key)
		return fmt.Sprintf("%s %c tombstone of %v attempt %d visit %d", at, kind, a.id, a.attempt, a.visit)
	case strings.HasPrefix(r.Topic, "state"):
		kind, a, _ := parseStateKey(r.Key)
		return fmt.Sprintf("%s %c of %v attempt %d visit %d", at, kind, a.id, a.attempt, a.visit)
	case strings.HasPrefix(r.Topic, "storage"):
		m = &rkcyv1.Change{}
		_ = proto.Unmarshal(r.Value, m)
		c := m.(*rkcyv1.Change)
		return fmt.Sprintf("%s change of %s version %d by %v attempt %d visit %d", at, c.GetKey(), c.GetAfter().GetVersion(), txn.ID(c.GetTxnId()), c.GetAttempt(), c.GetVisit())
	case strings.HasPrefix(r.Topic, "process"):
		_ = proto.Unmarshal(r.Value, m)
		if v := m.(*rkcyv1.ProcessRecord).GetVisit(); v != nil {
			return fmt.Sprintf("%s visit %d of %v attempt %d", at, v.GetVisit(), txn.ID(v.GetTxn().GetId()), v.GetAttempt())
		}
		k := m.(*rkcyv1.ProcessRecord).GetMarker()
		return fmt.Sprintf("%s marker of %v attempt %d commit %v", at, txn.ID(k.GetTxnId()), k.GetAttempt(), k.GetCommit())
	}
	return at
}

// assign deals all partitions out to the workers and restores them.
func (s *sim) assign() {
	for _, w := range s.workers {
		w.owns = nil
		s.retire(w)
	}
	for _, c := range simConcerns {
		for p := range s.partitions {
			w := s.workers[s.rng.IntN(len(s.workers))]
			w.owns = append(w.owns, stream.TopicPartition{Topic: processTopic(c), Partition: p})
		}
	}
	for _, w := range s.workers {
		s.restore(w)
	}
}

func (s *sim) retire(w *simWorker) {
	if w.engine != nil {
		s.stats = s.stats.Add(w.engine.stats)
	}
	w.engine = nil
}

func (s *sim) restore(w *simWorker) {
	s.retire(w)
	w.engine = s.newEngine()
	for _, tp := range w.owns {
		c := s.served[tp.Topic]
		r := newRestorer(newPartition(tp, c, windowOffsets), s.watermarks[stream.TopicPartition{Topic: c.topics.Storage, Partition: tp.Partition}])
		for _, rec := range s.read(stream.TopicPartition{Topic: c.topics.State, Partition: tp.Partition}, 0) {
			if err := r.stateRecord(rec); err != nil {
				s.t.Fatal(err)
			}
		}
		from := max(0, r.watermark-windowOffsets)
		for _, rec := range s.read(stream.TopicPartition{Topic: c.topics.Storage, Partition: tp.Partition}, from) {
			if err := r.change(rec); err != nil {
				s.t.Fatal(err)
			}
		}
		r.finish(w.engine, s.committed[tp])
	}
}

// batch lets a worker work on what its partitions have, and then commits,
// crashes before the commit, or crashes after it.
func (s *sim) batch(w *simWorker, calm bool) bool {
	e := w.engine
	var inputs []*input
	for _, tp := range w.owns {
		p := e.parts[tp]
		records := s.read(tp, p.next)
		if !calm && len(records) > 0 {
			records = records[:s.rng.IntN(len(records)+1)]
		}
		for _, r := range records {
			inputs = append(inputs, e.decode(r))
		}
	}
	away := !calm && s.rng.IntN(50) == 0
	for _, in := range inputs {
		if key, ok := e.missing(in); ok {
			if away {
				e.unavailable(in.part, key, txn.Errorf(txn.CodeUnavailable, "the database is away"))
			} else {
				e.loaded(in.part, key, s.database[in.part.concern.commands.def.Name+"/"+key])
			}
		}
	}
	for _, ref := range e.wants() {
		if away {
			e.unavailable(ref.part, ref.key, txn.Errorf(txn.CodeUnavailable, "the database is away"))
		} else {
			e.loaded(ref.part, ref.key, s.database[ref.part.concern.commands.def.Name+"/"+ref.key])
		}
	}
	e.begin(s.now)
	for _, in := range inputs {
		e.process(in)
	}
	e.expire()
	records, offsets := e.finish()
	if len(records) == 0 && len(inputs) == 0 {
		return false
	}
	if !calm && s.rng.IntN(12) == 0 {
		s.say("crash before commit")
		s.restore(w)
		return true
	}
	last := s.append(records)
	maps.Copy(s.committed, offsets)
	if !calm && s.rng.IntN(12) == 0 {
		s.say("crash after commit")
		s.restore(w)
		return true
	}
	for _, tp := range e.committed(last) {
		state, before := e.truncation(tp, last)
		s.start[state] = max(s.start[state], before)
	}
	return true
}

// duplicate delivers a visit a second time.
func (s *sim) duplicate() {
	c, p := simConcerns[s.rng.IntN(2)], int32(s.rng.IntN(int(s.partitions)))
	tp := stream.TopicPartition{Topic: processTopic(c), Partition: p}
	if records := s.read(tp, max(0, s.end(tp)-20)); len(records) > 0 {
		s.append([]stream.Record{records[s.rng.IntN(len(records))]})
	}
}

// persist is the storage worker: it moves a watermark by a few records.
func (s *sim) persist(all bool) {
	for _, c := range simConcerns {
		for p := range s.partitions {
			tp := stream.TopicPartition{Topic: "storage." + c, Partition: p}
			records := s.read(tp, s.watermarks[tp])
			if !all && len(records) > 0 {
				records = records[:s.rng.IntN(len(records)+1)]
			}
			for _, r := range records {
				change := &rkcyv1.Change{}
				if err := proto.Unmarshal(r.Value, change); err != nil {
					s.t.Fatal(err)
				}
				if got, want := change.GetAfter().GetVersion(), s.database[c+"/"+change.GetKey()].GetVersion()+1; got != want {
					s.t.Errorf("%s %s: version %d follows %d", c, change.GetKey(), got, want-1)
				}
				s.database[c+"/"+change.GetKey()] = change.GetAfter()
				s.watermarks[tp] = r.Offset + 1
			}
			for _, w := range s.workers {
				w.engine.advance(stream.TopicPartition{Topic: processTopic(c), Partition: p}, s.watermarks[tp])
			}
		}
	}
}

func (s *sim) run(events int) {
	s.assign()
	for s.clock = range events {
		s.now = s.now.Add(time.Duration(s.rng.IntN(20)) * time.Millisecond)
		switch n := s.rng.IntN(100); {
		case n < 30:
			s.submit()
		case n < 90:
			s.batch(s.workers[s.rng.IntN(len(s.workers))], false)
		case n < 95:
			s.persist(false)
		case n < 98:
			s.duplicate()
		default:
			s.assign()
		}
	}
	// Calm down: no more faults until nothing moves.
	for busy := true; busy; {
		busy = false
		s.clock++
		s.now = s.now.Add(time.Second)
		for _, w := range s.workers {
			busy = s.batch(w, true) || busy
		}
		if s.clock > events+10_000 {
			s.t.Fatal("the system does not come to rest")
		}
	}
	s.persist(true)
	for _, w := range s.workers {
		s.retire(w)
	}
}

// check verifies the history. It returns an error instead of failing, so that
// a test can show that it finds faults.
func (s *sim) check() error {
	var faults []error
	order := map[string][]string{} // instance -> ids in order of their writes
	for at, instance := range s.database {
		l := &list{}
		if err := proto.Unmarshal(instance.GetValue(), l); err != nil {
			return err
		}
		order[at] = l.GetPaths()
	}
	for id, x := range s.txns {
		if x.answers < 1 {
			faults = append(faults, fmt.Errorf("%v has %d answers", id, x.answers))
			continue
		}
		want := map[string]int{}
		for _, step := range x.steps {
			if step.Command == "Append" && x.response.GetError() == nil {
				want[step.Concern+"/"+step.Key]++
			}
			if (step.Command == "Refuse" || step.Command == "Panic") && x.response.GetError() == nil {
				faults = append(faults, fmt.Errorf("%v committed although a handler refused", id))
			}
		}
		for at, ids := range order {
			n := 0
			for _, other := range ids {
				if other == id.String() {
					n++
				}
			}
			if n != want[at] {
				faults = append(faults, fmt.Errorf("%v is %d times in %s, not %d (error %v)", id, n, at, want[at], x.response.GetError()))
			}
		}
	}
	if len(faults) == 0 {
		faults = append(faults, s.checkOrder(order)...)
	}
	return errors.Join(faults...)
}

// checkOrder looks for a circle in the graph of what must come before what:
// write order, reads of a version before its successor, real time.
func (s *sim) checkOrder(order map[string][]string) (faults []error) {
	before := map[string]map[string]bool{}
	edge := func(a, b string) {
		if a == b {
			return
		}
		if before[a] == nil {
			before[a] = map[string]bool{}
		}
		before[a][b] = true
	}
	for _, ids := range order {
		for i := 1; i < len(ids); i++ {
			edge(ids[i-1], ids[i])
		}
	}
	var done []*simTxn
	for _, x := range s.txns {
		if x.response.GetError() != nil {
			continue
		}
		done = append(done, x)
		for i, step := range x.steps {
			got := &list{}
			if err := proto.Unmarshal(x.response.GetResults()[i].GetValue(), got); err != nil {
				return []error{err}
			}
			seen := slices.Clone(got.GetPaths())
			seen = slices.DeleteFunc(seen, func(id string) bool { return id == x.id.String() })
			all := slices.DeleteFunc(slices.Clone(order[step.Concern+"/"+step.Key]), func(id string) bool { return id == x.id.String() })
			if len(seen) > len(all) || !slices.Equal(all[:len(seen)], seen) {
				faults = append(faults, fmt.Errorf("%v read %v, which %s/%s never was", x.id, seen, step.Concern, step.Key))
				continue
			}
			if len(seen) > 0 {
				edge(seen[len(seen)-1], x.id.String())
			}
			if len(seen) < len(all) {
				edge(x.id.String(), all[len(seen)])
			}
		}
	}
	for _, a := range done {
		for _, b := range done {
			if a.answered < b.submitted {
				edge(a.id.String(), b.id.String())
			}
		}
	}
	state := map[string]int{}
	var path []string
	var visit func(n string) bool
	visit = func(n string) bool {
		state[n] = 1
		path = append(path, n)
		for m := range before[n] {
			if state[m] == 1 || state[m] == 0 && visit(m) {
				return true
			}
		}
		path = path[:len(path)-1]
		state[n] = 2
		return false
	}
	for n := range before {
		if state[n] == 0 && visit(n) {
			return append(faults, fmt.Errorf("not strictly serializable: circle through %s", strings.Join(path, " -> ")))
		}
	}
	return faults
}

func TestSimulation(t *testing.T) {
	first, n := uint64(1), *simSeeds
	if *simSeed != 0 {
		first, n = *simSeed, 1
	}
	var total Stats
	committed, ended := 0, 0
	for seed := first; seed < first+uint64(n); seed++ {
		s := newSim(t, seed)
		s.verbose = *simSeed != 0
		s.run(400)
		if err := s.check(); err != nil {
			t.Fatalf("seed %d (run it again with -sim.seed=%d): %v", seed, seed, err)
		}
		total = total.Add(s.stats)
		for _, x := range s.txns {
			ended++
			if x.response.GetError() == nil {
				committed++
			}
		}
	}
	t.Logf("%d seeds, %d transactions, %d committed: %+v", n, ended, committed, total)
	if *simSeed != 0 {
		return
	}
	// A run in which nothing happens proves nothing.
	if committed < ended/3 || total.Parked == 0 || total.Deaths == 0 || total.Duplicates == 0 || total.Markers == 0 {
		t.Errorf("too little happened: %d of %d committed, %+v", committed, ended, total)
	}
}

func TestSimulationReplays(t *testing.T) {
	run := func() Stats {
		s := newSim(t, 42)
		s.run(300)
		return s.stats
	}
	if a, b := run(), run(); a != b {
		t.Errorf("one seed, two outcomes: %+v and %+v", a, b)
	}
}

// The simulation must fail when holds are switched off, or it would not tell
// us anything.
func TestSimulationFindsMissingHolds(t *testing.T) {
	for seed := uint64(1); seed < 200; seed++ {
		s := newSim(t, seed)
		s.holdsOff = true
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Logf("seed %d: %v", seed, r)
				}
			}()
			s.t = &testing.T{}
			s.run(400)
		}()
		if s.check() != nil {
			return
		}
	}
	t.Error("200 seeds without holds, and no anomaly found")
}
