package concern

import (
	"bytes"
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
	simSeeds = flag.Int("sim.seeds", 150, "number of seeds that the simulation runs")
	simSeed  = flag.Uint64("sim.seed", 0, "run this seed only, and say what happens")
)

// The simulation runs the partition logic of several workers on a simulated
// log, one batch at a time, in an order that a seed decides: crashes before
// the commit, crashes after it, partitions that move while others work,
// workers that do not know that theirs have moved, restores that are overtaken
// by truncation, records that are delivered twice and late, a database that
// lags or is away, caches that hold next to nothing. sim_check_test.go says
// what must hold in the end.
//
// The instances are lists: a transaction appends its id to some, reads, makes
// and deletes others, so no two states of an instance are alike.

// list is the instance. UpdatePayload happens to have the fields we need: a
// key and a list of strings.
type list = rkcyv1.UpdatePayload

func newList() proto.Message { return &list{} }

func listDefinition(name string) Definition {
	own := func(name string, readOnly bool, run func(ctx Context, l, payload *list) (proto.Message, error)) Command {
		return Command{
			Name: name, ReadOnly: readOnly, NewPayload: newList, NewResult: newList,
			Run: func(ctx Context, instance, payload proto.Message) (proto.Message, error) {
				return run(ctx, instance.(*list), payload.(*list))
			},
		}
	}
	return Definition{
		Name: name, New: newList, KeyOf: func(m proto.Message) string { return string(m.(*list).GetValue()) },
		Commands: []Command{
			own("Append", false, func(ctx Context, l, payload *list) (proto.Message, error) {
				l.Paths = append(l.Paths, ctx.TxnID().String())
				return appended(l, payload)
			}),
			own("Refuse", false, func(Context, *list, *list) (proto.Message, error) {
				return nil, txn.Errorf(txn.CodeFailedPrecondition, "refused on purpose")
			}),
			own("Panic", false, func(Context, *list, *list) (proto.Message, error) { panic("on purpose") }),
			own("Look", true, func(_ Context, l, _ *list) (proto.Message, error) {
				got := proto.CloneOf(l)
				l.Paths = nil // must have no effect
				return got, nil
			}),
		},
	}
}

// unappend is the compensation of Append, which the simulation may refuse.
func (s *sim) unappend() Command {
	return Command{
		Name: "Unappend", NewPayload: newList, NewResult: newList,
		Run: func(ctx Context, instance, _ proto.Message) (proto.Message, error) {
			l, id := instance.(*list), ctx.TxnID()
			s.undos = append(s.undos, id)
			if s.unwilling != nil {
				if err := s.unwilling(id); err != nil {
					return nil, err
				}
			}
			at := slices.Index(l.GetPaths(), id.String())
			if at < 0 {
				return nil, txn.Errorf(txn.CodeFailedPrecondition, "%v is not in the list", id)
			}
			l.Paths[at] = "-" + id.String() // no state comes back
			return &list{}, nil
		},
	}
}

// appended is what Append returns: the new list, and what it was given.
func appended(l, payload *list) (*list, error) {
	raw, err := proto.Marshal(payload)
	return &list{Paths: slices.Clone(l.GetPaths()), Value: raw}, err
}

type sim struct {
	// Direct reads checked at responses, and what shows that the check would notice.
	directReads, directWaits         int
	readsPastHolds, readsPastCommits bool
	t                                *testing.T
	rng                              *rand.Rand
	verbose                          bool

	partitions int32
	home       int // index of the Concern that remembers idempotency keys
	keys       int
	log        map[stream.TopicPartition][]stream.Record
	start      map[stream.TopicPartition]int64 // log start after DeleteRecords
	committed  map[stream.TopicPartition]int64
	database   map[string]*rkcyv1.Instance // concern/key
	watermarks map[stream.TopicPartition]int64
	history    map[string][]state // concern/key -> committed states
	served     map[string]*servedConcern
	workers    []*simWorker
	now        time.Time
	clock      int // counts events, for real-time order
	// generation of the consumer group, and what it gives to whom.
	generation int
	deal       map[*simWorker][]stream.TopicPartition
	// truncations that were asked for and have not happened yet.
	truncations []truncation
	// lastTxn is where the newest Kafka transaction begins in each partition
	// that it wrote to.
	lastTxn map[stream.TopicPartition]int64

	stateRecords int
	reach        int // how old a record may be that is delivered again
	txns         map[txn.ID]*simTxn
	order        []*simTxn // in order of submission
	stats        Stats

	// claimWindow is how long idempotency keys are remembered; 0: the default.
	claimWindow time.Duration
	// noRoute is a Concern that does not exist.
	noRoute string
	// unwilling, where set, may refuse a compensation; undos are those that were
	// asked for.
	unwilling func(txn.ID) error
	undos     []txn.ID
	// sagas says that there are some, and that instances are not made and
	// deleted: what they appended to would be gone when it is undone.
	sagas bool
	// reluctant sagas are not undone before the end of the run.
	reluctant map[txn.ID]txn.Code
	parts     map[txn.ID]*simPart
	keyed     []*simTxn // with an idempotency key
	retried   map[txn.ID]int
	// plain leaves out sagas, keys, cancels, and what waits for a time.
	plain bool
	// moving: numbers of partitions change; see sim_repartition_test.go.
	moving simMoving
	// table: a test that drives engines by hand.
	table bool

	// Mechanisms switched off, to show that their absence is noticed.
	holdsOff, windowOff, undoWindowOff, entriesOff, snapshotMarkOff, readToLSO bool
	// torn: a crash may leave a part of what a batch produced in the log, as
	// if there were no Kafka transactions.
	torn bool
}

type truncation struct {
	tp     stream.TopicPartition
	before int64
}

// simWorker is a member of the group. One whose generation is not the group's
// has not been told yet that others own its partitions.
type simWorker struct {
	engine     *engine
	owns       []stream.TopicPartition
	generation int
	restoring  []*simRestore
	// flight is a batch whose Kafka transaction has not ended; the next one is
	// built meanwhile.
	flight *simFlight
}

type simFlight struct {
	records []stream.Record
	offsets map[stream.TopicPartition]int64
}

type simRestore struct {
	tp       stream.TopicPartition
	restorer *restorer // nil: has not been read
	next     int64
}

type simTxn struct {
	id        txn.ID
	steps     []txn.Step
	inputs    map[int]int // step -> step whose result is its payload
	submitted int
	answered  int
	answers   int
	response  *rkcyv1.Response // the first answer
	last      *rkcyv1.Response
	stuck     []*rkcyv1.Response // answers of a saga before its last

	saga      bool
	skips     map[int]simSkip // by step
	reversed  bool            // the planner's order of visits is undone
	notBefore time.Time
	key       string // idempotency key
	print     string
	plan      []*rkcyv1.VisitPlan
	// Of a saga: what its visits changed, in order.
	parts []*simPart
}

// simSkip is a condition: the step is skipped if the result of another has
// paths, or if it has none.
type simSkip struct {
	from int
	set  bool
}

// simPart is what one visit of a saga changed. In the order of transactions it
// is one of its own.
type simPart struct {
	simTxn
	of            *simTxn
	visit         int
	at            string
	before, after *list
}

func (x *simTxn) uses(command string) bool {
	return slices.ContainsFunc(x.steps, func(s txn.Step) bool { return s.Command == command })
}

// lone reports whether all of it is a read of one instance, which may be
// answered twice.
func (x *simTxn) lone() bool {
	return !slices.ContainsFunc(x.steps, func(s txn.Step) bool {
		return s.Access == rkcyv1.Access_ACCESS_WRITE || s.Concern != x.steps[0].Concern || s.Key != x.steps[0].Key
	})
}

// state is a committed state of an instance; nil: it does not exist.
type state struct {
	by txn.ID
	is *list
}

var simConcerns = []string{"alpha", "beta"}

func processTopic(concern string) string { return "process." + concern }

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 17)),
		log: map[stream.TopicPartition][]stream.Record{}, start: map[stream.TopicPartition]int64{},
		committed: map[stream.TopicPartition]int64{}, database: map[string]*rkcyv1.Instance{},
		watermarks: map[stream.TopicPartition]int64{}, served: map[string]*servedConcern{},
		history: map[string][]state{}, txns: map[txn.ID]*simTxn{}, parts: map[txn.ID]*simPart{}, reluctant: map[txn.ID]txn.Code{}, retried: map[txn.ID]int{}, now: time.UnixMilli(1_000_000),
	}
	s.partitions = int32(1 + s.rng.IntN(3))
	s.keys = 1 + s.rng.IntN(5)
	// Either snapshots and truncation happen all the time, and then what is
	// delivered again must not be older than what they keep; or never.
	s.stateRecords = 20 + s.rng.IntN(60)
	s.reach = s.stateRecords / 6
	if s.rng.IntN(3) == 0 {
		s.stateRecords, s.reach = 1<<30, 1<<30
	}
	for _, c := range simConcerns {
		def := listDefinition(c)
		def.Commands = append(def.Commands, s.unappend())
		set, err := newCommandSet(def)
		if err != nil {
			t.Fatal(err)
		}
		s.served[processTopic(c)] = &servedConcern{commands: set, topics: Topics{
			Process: processTopic(c), State: "state." + c, Storage: "storage." + c, Error: "error." + c,
		}}
		for k := range s.keys {
			l := &list{Value: []byte(simKey(k))}
			s.database[c+"/"+simKey(k)] = &rkcyv1.Instance{Value: s.marshal(l), Version: 1}
			s.history[c+"/"+simKey(k)] = []state{{is: l}}
		}
	}
	s.sagas = s.rng.IntN(2) == 0
	s.unwilling = func(id txn.ID) error {
		if code, is := s.reluctant[id]; is {
			return txn.Errorf(code, "not now")
		}
		return nil
	}
	for range 1 + s.rng.IntN(3) {
		s.workers = append(s.workers, &simWorker{})
	}
	return s
}

func simKey(k int) string { return fmt.Sprintf("k%d", k) }

// simFault ends a run.
type simFault struct{ error }

func (s *sim) fail(format string, args ...any) { panic(simFault{fmt.Errorf(format, args...)}) }

func (s *sim) marshal(m proto.Message) []byte {
	raw, err := proto.Marshal(m)
	if err != nil {
		s.fail("%v", err)
	}
	return raw
}

func (s *sim) unmarshal(raw []byte, m proto.Message) {
	if err := proto.Unmarshal(raw, m); err != nil {
		s.fail("%v", err)
	}
}

func (s *sim) Route(concern, key string) (string, int32, error) {
	if concern == s.noRoute {
		return "", 0, txn.Errorf(txn.CodeUnimplemented, "there is no Concern %s", concern)
	}
	if s.moving.on {
		return s.topic(concern), stream.PartitionFor([]byte(key), s.count(concern)), nil
	}
	return processTopic(concern), int32(key[len(key)-1]-'0') % s.partitions, nil
}

// IdempotencyHome implements txn.Router.
func (s *sim) IdempotencyHome() string { return simConcerns[s.home] }

func (s *sim) newEngine() *engine {
	overlay := int64(1 << 30)
	if s.rng.IntN(8) == 0 && !s.table {
		overlay = int64(s.rng.IntN(6000))
	}
	return newEngine(engineConfig{
		served: s.served, retired: s.moving.retired, responseTopic: "response", router: s, cacheBytes: int64(s.rng.IntN(4000)), overlayBytes: overlay,
		stateRecords: s.stateRecords, logger: slog.New(slog.DiscardHandler), holdsOff: s.holdsOff,
		claimWindowMs: s.claimWindow.Milliseconds(),
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
	s.lastTxn = map[stream.TopicPartition]int64{}
	for _, r := range records {
		tp := stream.TopicPartition{Topic: r.Topic, Partition: r.Partition}
		r.Offset = s.end(tp)
		if _, ok := last[tp]; !ok {
			s.lastTxn[tp] = r.Offset
		}
		s.log[tp] = append(s.log[tp], r)
		if s.verbose {
			s.say("  %s", describeRecord(r))
		}
		last[tp] = r.Offset
		if r.Topic == "response" {
			s.respond(r.Value)
		}
		if concern, ok := strings.CutPrefix(r.Topic, "storage."); ok {
			concern, _, _ = strings.Cut(concern, ".")
			s.remember(concern, r)
		}
	}
	for tp := range last { // a control marker occupies an offset
		s.log[tp] = append(s.log[tp], stream.Record{Offset: s.end(tp), Topic: "control"})
	}
	return last
}

func (s *sim) remember(concern string, r stream.Record) {
	c := &rkcyv1.Change{}
	s.unmarshal(r.Value, c)
	at := concern + "/" + c.GetKey()
	st := state{by: txn.ID(c.GetTxnId())}
	if c.GetAfter().GetVersion() > 0 {
		st.is = &list{}
		s.unmarshal(c.GetAfter().GetValue(), st.is)
	}
	if x := s.txns[st.by]; x != nil && x.saga {
		if slices.ContainsFunc(x.parts, func(p *simPart) bool { return p.visit == int(c.GetVisit()) }) {
			s.fail("visit %d of saga %v took effect twice", c.GetVisit(), x.id)
		}
		part := &simPart{of: x, visit: int(c.GetVisit()), at: at, after: st.is}
		if states := s.history[at]; len(states) > 0 {
			part.before = states[len(states)-1].is
		}
		part.id, part.submitted, part.answered = x.id, x.submitted, s.clock
		part.id[0] ^= byte(c.GetVisit() + 1) //nolint:gosec // few visits
		x.parts = append(x.parts, part)
		s.parts[part.id] = part
		st.by = part.id
	}
	s.history[at] = append(s.history[at], st)
}

func (s *sim) end(tp stream.TopicPartition) int64 { return int64(len(s.log[tp])) }

func (s *sim) read(tp stream.TopicPartition, from int64) []stream.Record {
	var out []stream.Record
	for _, r := range s.log[tp][min(max(from, s.start[tp]), s.end(tp)):] {
		if r.Topic != "control" {
			out = append(out, r)
		}
	}
	return out
}

func (s *sim) respond(value []byte) {
	r := &rkcyv1.Response{}
	s.unmarshal(value, r)
	x := s.txns[txn.ID(r.GetTxnId())]
	x.last = r
	switch {
	case r.GetOriginalTxnId() == nil && r.GetError().GetDetails()[txn.DetailSaga] == txn.SagaStuck:
		x.stuck = append(x.stuck, r)
		if s.table {
			break
		}
		s.say("stuck %v", x.id)
		return
	case r.GetError() == nil && r.GetOriginalTxnId() == nil && s.now.Before(x.notBefore):
		s.fail("%v ran before its time", x.id)
	}
	if x.answers++; x.answers > 1 {
		return
	}
	x.answered, x.response = s.clock, r
	s.say("answer %v %v", x.id, r.GetError().GetCode())
}

// describeRecord says what a record is, for whoever follows a seed.
func describeRecord(r stream.Record) string {
	at := fmt.Sprintf("%s[%d]@%d", r.Topic, r.Partition, r.Offset)
	var m proto.Message = &rkcyv1.ProcessRecord{}
	switch {
	case strings.HasPrefix(r.Topic, "state") && len(r.Key) > 0 && (r.Key[0] == stateEntry || r.Key[0] == stateCancel):
		return fmt.Sprintf("%s %q, %d bytes", at, r.Key, len(r.Value))
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
			return fmt.Sprintf("%s visit %d of %v attempt %d claim %v", at, v.GetVisit(), txn.ID(v.GetTxn().GetId()), v.GetAttempt(), v.GetClaim())
		}
		if m.(*rkcyv1.ProcessRecord).GetMarker() == nil {
			return fmt.Sprintf("%s %v", at, m)
		}
		k := m.(*rkcyv1.ProcessRecord).GetMarker()
		return fmt.Sprintf("%s marker of %v attempt %d commit %v", at, txn.ID(k.GetTxnId()), k.GetAttempt(), k.GetCommit())
	}
	return at
}

// rebalance gives the partitions to others. Some workers do not hear of it
// until their next commit is refused.
func (s *sim) rebalance(all bool) {
	s.generation++
	s.deal = map[*simWorker][]stream.TopicPartition{}
	for _, c := range simConcerns {
		for p := range s.count(c) {
			w := s.workers[s.rng.IntN(len(s.workers))]
			s.deal[w] = append(s.deal[w], stream.TopicPartition{Topic: s.topic(c), Partition: p})
		}
	}
	s.dealRetired()
	for _, w := range s.workers {
		if all || w.engine == nil || s.rng.IntN(4) > 0 {
			s.join(w)
		}
	}
}

// join tells a worker what is its own now.
func (s *sim) join(w *simWorker) {
	switch {
	case w.engine == nil:
		w.engine = s.newEngine()
	case w.flight != nil:
		s.startAgain(w) // its commit would be refused
	}
	for _, tp := range w.owns {
		w.engine.drop(tp)
	}
	w.owns, w.generation = s.deal[w], s.generation
	w.restoring = nil
	for _, tp := range w.owns {
		w.restoring = append(w.restoring, &simRestore{tp: tp})
	}
}

// startAgain throws away all that a worker has in memory.
func (s *sim) startAgain(w *simWorker) {
	s.stats = s.stats.Add(w.engine.stats)
	w.engine, w.restoring, w.flight = s.newEngine(), nil, nil
	for _, tp := range w.owns {
		w.restoring = append(w.restoring, &simRestore{tp: tp})
	}
}

// restore rebuilds a worker at once.
func (s *sim) restore(w *simWorker) {
	if w.engine == nil {
		w.engine = s.newEngine()
	}
	s.startAgain(w)
	for len(w.restoring) > 0 {
		s.adopt(w, true)
	}
}

// adopt goes on with the restores of a worker: reads what is to be read, takes
// in what was read.
func (s *sim) adopt(w *simWorker, calm bool) {
	if w.flight != nil {
		return
	}
	w.restoring = slices.DeleteFunc(w.restoring, func(r *simRestore) bool {
		switch {
		case !calm && s.rng.IntN(3) == 0:
			return false
		case r.restorer == nil:
			s.readPartition(r)
			return false
		}
		r.restorer.finish(w.engine, r.next)
		return true
	})
}

func (s *sim) readPartition(r *simRestore) {
	c := s.served[r.tp.Topic]
	r.next = s.committed[r.tp]
	if c.retired != nil {
		r.restorer = newRestorer(newPartition(r.tp, c, 0), 0)
		return
	}
	storage := stream.TopicPartition{Topic: c.topics.Storage, Partition: r.tp.Partition}
	stateTP := stream.TopicPartition{Topic: c.topics.State, Partition: r.tp.Partition}
	r.restorer = newRestorer(newPartition(r.tp, c, windowOffsets), s.watermarks[storage])
	visible := func(tp stream.TopicPartition, rec stream.Record) bool {
		open, ok := s.lastTxn[tp]
		return !s.readToLSO || !ok || rec.Offset < open
	}
	give := func(rec stream.Record) {
		if s.snapshotMarkOff && string(rec.Key) == snapshotKey || !visible(stateTP, rec) {
			return
		}
		if err := r.restorer.stateRecord(rec); err != nil {
			s.fail("%v", err)
		}
	}
	// Truncation may overtake the reader, which then goes on behind it.
	records := s.read(stateTP, 0)
	at := 0
	if len(records) > 0 {
		at = s.rng.IntN(len(records))
	}
	from := int64(0)
	for _, rec := range records[:at] {
		give(rec)
		from = rec.Offset + 1
	}
	if s.rng.IntN(2) == 0 {
		s.truncate()
	}
	for _, rec := range s.read(stateTP, from) {
		give(rec)
	}
	for _, rec := range s.read(storage, max(0, r.restorer.watermark-windowOffsets)) {
		if visible(storage, rec) {
			if err := r.restorer.change(rec); err != nil {
				s.fail("%v", err)
			}
		}
	}
}

func (s *sim) truncate() {
	for _, t := range s.truncations {
		s.start[t.tp] = max(s.start[t.tp], t.before)
	}
	s.truncations = nil
}

// fetch takes records of all partitions of a worker, each in order.
func (s *sim) fetch(e *engine, calm bool) (inputs []*input) {
	var queues [][]stream.Record
	for _, p := range e.order {
		records := s.read(p.tp, p.next)
		if !calm && len(records) > 0 {
			records = records[:s.rng.IntN(len(records)+1)]
		}
		if len(records) > 0 {
			queues = append(queues, records)
		}
	}
	for len(queues) > 0 {
		i := s.rng.IntN(len(queues))
		inputs = append(inputs, e.decode(queues[i][0]))
		if queues[i] = queues[i][1:]; len(queues[i]) == 0 {
			queues = slices.Delete(queues, i, i+1)
		}
	}
	return inputs
}

// batch lets a worker work on what its partitions have, and then commits,
// crashes before the commit, or crashes after it.
func (s *sim) batch(w *simWorker, calm bool) bool {
	e := w.engine
	inputs := s.fetch(e, calm)
	away := !calm && s.rng.IntN(50) == 0
	load := func(p *partition, key string) {
		if away {
			e.unavailable(p, key, txn.Errorf(txn.CodeUnavailable, "the database is away"))
		} else {
			e.loaded(p, key, s.database[p.concern.commands.def.Name+"/"+key])
		}
	}
	for _, in := range inputs {
		if key, ok := e.missing(in); ok {
			load(in.part, key)
		}
	}
	for _, ref := range e.wants() {
		load(ref.part, ref.key)
	}
	e.begin(s.now, nil)
	for _, in := range inputs {
		if s.windowOff {
			clear(in.part.window.seen)
		}
		if v := in.visit; s.undoWindowOff && txn.Undoing(v) {
			delete(in.part.window.seen, applied{txn.ID(v.GetTxn().GetId()), v.GetAttempt(), v.GetVisit()})
		}
		if s.entriesOff {
			clear(in.part.claims.entries)
		}
		e.process(in)
	}
	if w.flight != nil {
		if !calm && s.rng.IntN(3) == 0 {
			return true // the batch grows
		}
		if s.land(w, calm) {
			return true
		}
	}
	e.expire()
	records, offsets := e.finish()
	switch {
	case len(records) == 0 && len(offsets) == 0:
		e.committed(nil)
		return false
	case len(offsets) == 0:
		s.fail("a batch without offsets: nothing fences it")
	}
	w.flight = &simFlight{records, offsets}
	if calm || s.rng.IntN(2) == 0 {
		s.land(w, calm)
	} else {
		s.say("a commit is under way")
	}
	return true
}

// land ends the Kafka transaction in flight: it commits, is refused, or the
// worker crashes before or after it. It reports whether the worker has lost
// what it had in memory.
func (s *sim) land(w *simWorker, calm bool) (lost bool) {
	e, f := w.engine, w.flight
	w.flight = nil
	switch {
	case w.generation != s.generation:
		s.say("commit of a worker of the past is refused")
		s.startAgain(w)
		s.join(w)
		return true
	case !calm && s.rng.IntN(12) == 0:
		s.say("crash before commit")
		if n := len(f.records); s.torn && n > 0 {
			s.append(f.records[:s.rng.IntN(n)])
		}
		s.startAgain(w)
		return true
	}
	last := s.append(f.records)
	maps.Copy(s.committed, f.offsets)
	s.checkDirect(f.records)
	if !calm && s.rng.IntN(12) == 0 {
		s.say("crash after commit")
		s.startAgain(w)
		if s.rng.IntN(2) == 0 {
			s.adopt(w, true)
		}
		return true
	}
	for _, tp := range e.committed(last) {
		at, before := e.truncation(tp, last)
		s.truncations = append(s.truncations, truncation{at, before})
	}
	if calm || s.rng.IntN(2) == 0 {
		s.truncate()
	}
	return false
}

// duplicate delivers a visit or marker a second time.
func (s *sim) duplicate() {
	c := simConcerns[s.rng.IntN(2)]
	tp := stream.TopicPartition{Topic: s.topic(c), Partition: int32(s.rng.IntN(int(s.count(c))))}
	if records := s.read(tp, max(0, s.end(tp)-int64(s.reach))); len(records) > 0 {
		s.append([]stream.Record{records[s.rng.IntN(len(records))]})
	}
}

// persist is the storage worker: it moves a watermark by a few records.
func (s *sim) persist(all bool) {
	for _, c := range simConcerns {
		storage, last := s.persisting(c)
		for p := range s.countOf(storage, c) {
			tp := stream.TopicPartition{Topic: storage, Partition: p}
			records := s.read(tp, s.watermarks[tp])
			if !all && len(records) > 0 {
				records = records[:s.rng.IntN(len(records)+1)]
			}
			for _, r := range records {
				change := &rkcyv1.Change{}
				s.unmarshal(r.Value, change)
				at := c + "/" + change.GetKey()
				got, before := change.GetAfter().GetVersion(), s.database[at].GetVersion()
				again := got == 1 && s.txns[txn.ID(change.GetTxnId())].uses(txn.CommandDelete)
				if got != 0 && got != before+1 && !again && r.Offset >= s.moving.copied[tp] {
					s.fail("%s: version %d follows %d", at, got, before)
				}
				s.database[at] = change.GetAfter()
				s.watermarks[tp] = r.Offset + 1
			}
			for _, w := range s.workers {
				if !last {
					break
				}
				w.engine.advance(stream.TopicPartition{Topic: s.topic(c), Partition: p}, s.watermarks[tp])
			}
		}
	}
}

func (s *sim) run(events int) {
	s.rebalance(true)
	for s.clock = range events {
		s.now = s.now.Add(time.Duration(s.rng.IntN(20)) * time.Millisecond)
		switch n := s.rng.IntN(100); {
		case n < 30:
			s.submit()
		case n < 90:
			w := s.workers[s.rng.IntN(len(s.workers))]
			s.adopt(w, false)
			s.batch(w, false)
		case n < 95:
			s.persist(false)
		case n == 95 && s.moving.on:
			s.repartition()
		case n < 98:
			s.duplicate()
			s.interfere()
		default:
			s.rebalance(false)
		}
	}
	// Calm down: no more faults until nothing moves.
	s.rebalance(true)
	// Some sagas are stuck before the end, those that only wait for a database
	// cannot be.
	maps.DeleteFunc(s.reluctant, func(_ txn.ID, code txn.Code) bool { return code == txn.CodeUnavailable || s.rng.IntN(2) == 0 })
	s.rest()
	clear(s.reluctant)
	for s.rest(); s.retryStuck(); s.rest() {
	}
	for _, w := range s.workers {
		for _, p := range w.engine.order {
			for key, en := range p.claims.entries {
				if en.GetOutcome() == nil || len(en.GetWaiters()) > 0 {
					s.fail("idempotency key %s has no outcome, or waiters: %v", key, en)
				}
			}
		}
	}
	s.now = s.now.Add(48 * time.Hour) // cancels and keys are forgotten
	s.rest()
	for range 1 + len(s.moving.retired) {
		s.persist(true)
	}
}

// rest lets all workers go on until nothing moves and nothing waits for its
// time.
func (s *sim) rest() {
	for end, busy := s.clock+10_000, true; busy; {
		busy = false
		s.clock++
		s.now = s.now.Add(time.Second)
		for _, w := range s.workers {
			busy = busy || len(w.restoring) > 0
			s.adopt(w, true)
			busy = s.batch(w, true) || busy
			for _, p := range w.engine.order {
				busy = busy || len(p.timers.due) > 0
			}
		}
		if s.clock > end {
			s.fail("the system does not come to rest")
		}
	}
}

// retryStuck asks for a retry of every saga that is stuck, and reports whether
// there was one.
func (s *sim) retryStuck() bool {
	var stuck []txn.ID
	for _, w := range s.workers {
		for _, p := range w.engine.order {
			for _, at := range p.timers.byKey {
				stuck = append(stuck, txn.ID(at.visit.GetTxn().GetId()))
			}
		}
	}
	slices.SortFunc(stuck, func(a, b txn.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range stuck {
		if s.retried[id]++; s.retried[id] > 5 {
			s.fail("saga %v stays stuck: %v", id, s.txns[id].last)
		}
		s.tellAll(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Retry{Retry: &rkcyv1.Retry{TxnId: id[:]}}})
	}
	return len(stuck) > 0
}
