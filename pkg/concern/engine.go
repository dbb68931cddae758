package concern

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Topics names the topics of one generation of a Concern.
type Topics struct {
	Process, State, Storage, Error string
}

type servedConcern struct {
	commands     *commandSet
	topics       Topics
	storageGroup string
	// retired is set for a process topic of a former generation.
	retired *retired
}

type engineConfig struct {
	served        map[string]*servedConcern // by process topic
	responseTopic string
	router        txn.Router
	// retired has the Concern of each process topic of a former generation.
	retired map[string]string
	// cacheBytes bounds the cache; past overlayBytes of pinned entries new
	// transactions that write are refused.
	cacheBytes, overlayBytes int64
	stateRecords             int
	// parkedBytes bounds what may wait behind the holds of a partition.
	parkedBytes int64
	// claimBytes bounds the idempotency entries of a partition, each of which is
	// kept for claimWindowMs.
	claimBytes, claimWindowMs int64
	logger                    *slog.Logger
	// watchdog is told of handlers; nil: nobody is.
	watchdog *watchdog
	// teller is told of steps; nil: nobody is.
	teller teller
	// holdsOff switches isolation off, to show that a test would notice.
	holdsOff bool
}

// engine is the partition logic of one worker: all partitions that it owns,
// their cache, and the batch being built. It is pure: records and time come
// in, records go out. It is used by one goroutine.
//
// A batch goes begin, process..., finish, and then either committed, or the
// engine is thrown away with everything in it: effects of a Kafka transaction
// that did not commit are never seen. While a batch is in flight the next one
// can be built; begin may then be called for each part of it.
type engine struct {
	cfg   engineConfig
	parts map[stream.TopicPartition]*partition
	order []*partition // the same, sorted: output must not depend on map order
	cache *cache
	stats Stats

	nowMs  int64
	out    []stream.Record
	local  []localVisit // visits that stay with this worker
	woken  []wake       // instances whose hold was released
	wanted []wake       // instances to load before the next batch
	// instances that timers wait for, likewise
	wantedByTimers []instanceRef
	config         *ConfigSet
	// orders name the edges whose submissions are refused.
	orders *PauseSet
	cause  cause // of what is worked on
	failed map[instanceRef]error
	spare  []stream.Record // to be used for the output of a batch
	// flights are batches in flight, oldest first; building numbers the batch
	// being built.
	flights  []flight
	building uint64
}

type localVisit struct {
	part  *partition
	visit *rkcyv1.Visit
}

type wake struct {
	part *partition
	slot *slot
}

type instanceRef struct {
	part *partition
	key  string
}

func newEngine(cfg engineConfig) *engine {
	if cfg.parkedBytes == 0 {
		cfg.parkedBytes = 64 << 20
	}
	if cfg.claimBytes == 0 {
		cfg.claimBytes = 64 << 20
	}
	if cfg.claimWindowMs == 0 {
		cfg.claimWindowMs = (24 * time.Hour).Milliseconds()
	}
	return &engine{
		cfg: cfg, parts: map[stream.TopicPartition]*partition{}, cache: newCache(cfg.cacheBytes),
		failed: map[instanceRef]error{},
	}
}

func (e *engine) add(p *partition) {
	e.parts[p.tp] = p
	e.order = append(e.order, p)
	slices.SortFunc(e.order, func(a, b *partition) int {
		return cmp.Or(strings.Compare(a.tp.Topic, b.tp.Topic), cmp.Compare(a.tp.Partition, b.tp.Partition))
	})
}

func (e *engine) drop(tp stream.TopicPartition) {
	if p := e.parts[tp]; p != nil {
		p.mirror.close()
		e.cache.drop(p)
		delete(e.parts, tp)
		e.order = slices.DeleteFunc(e.order, func(o *partition) bool { return o == p })
		e.woken = slices.DeleteFunc(e.woken, func(w wake) bool { return w.part == p })
		e.wanted = slices.DeleteFunc(e.wanted, func(w wake) bool { return w.part == p })
		e.wantedByTimers = slices.DeleteFunc(e.wantedByTimers, func(r instanceRef) bool { return r.part == p })
	}
}

// input is a record of a process topic, decoded.
type input struct {
	part   *partition
	record stream.Record
	visit  *rkcyv1.Visit
	marker *rkcyv1.Marker
	// other is one of the records that are seldom: outcome, cancel, retry,
	// related.
	other *rkcyv1.ProcessRecord
	fault error
}

// decode reads a record. A record of a partition that is not owned any more
// gives nil.
func (e *engine) decode(r stream.Record) *input {
	p := e.parts[stream.TopicPartition{Topic: r.Topic, Partition: r.Partition}]
	if p == nil {
		return nil
	}
	in := &input{part: p, record: r}
	pr := &rkcyv1.ProcessRecord{}
	if err := proto.Unmarshal(r.Value, pr); err != nil {
		in.fault = fmt.Errorf("not a process record: %w", err)
		return in
	}
	switch k := pr.GetKind().(type) {
	case *rkcyv1.ProcessRecord_Visit:
		in.visit = k.Visit
		if in.fault = txn.CheckVisit(k.Visit); in.fault == nil {
			e.modernize(k.Visit)
			in.fault = e.checkPlace(p, k.Visit)
		}
	case *rkcyv1.ProcessRecord_Marker:
		in.marker = k.Marker
		_, in.fault = txn.IDFromBytes(k.Marker.GetTxnId())
	case *rkcyv1.ProcessRecord_Outcome:
		in.other = pr
	case *rkcyv1.ProcessRecord_Cancel:
		in.other = pr
		_, in.fault = txn.IDFromBytes(k.Cancel.GetTxnId())
	case *rkcyv1.ProcessRecord_Retry:
		in.other = pr
		_, in.fault = txn.IDFromBytes(k.Retry.GetTxnId())
	case *rkcyv1.ProcessRecord_Related:
		in.other = pr
		if c := k.Related.GetConcern(); c != p.concern.commands.def.Name {
			in.fault = fmt.Errorf("a relation to %s on a topic of %s", c, p.concern.commands.def.Name)
		} else if err := txn.CheckKey(k.Related.GetParent()); err != nil {
			in.fault = err
		}
	default:
		in.fault = fmt.Errorf("a process record of a kind that is not known here")
	}
	return in
}

// checkPlace returns an error if a visit has come to a partition that is not its
// instance's: an instance has one owner.
func (e *engine) checkPlace(p *partition, v *rkcyv1.Visit) error {
	concern, key := txn.Instance(v)
	if v.GetClaim() {
		concern, key = e.cfg.router.IdempotencyHome(), txn.HomeKey(v.GetTxn().GetIdempotency().GetKey())
	}
	if concern != p.concern.commands.def.Name {
		return fmt.Errorf("a visit to %s %q on a topic of %s", concern, key, p.concern.commands.def.Name)
	}
	topic, partition, err := e.cfg.router.Route(concern, key)
	if err == nil && topic == p.tp.Topic && partition != p.tp.Partition {
		return fmt.Errorf("a visit to %s %q, which is at home in partition %d, has come to partition %d", concern, key, partition, p.tp.Partition)
	}
	return nil
}

// missing returns the instance that an input needs and the cache does not
// have.
func (e *engine) missing(in *input) (key string, ok bool) {
	switch {
	case in.fault != nil || in.part.concern.retired != nil:
		return "", false
	case in.other.GetRelated() != nil:
		key = in.other.GetRelated().GetParent()
	case in.visit == nil || in.visit.GetClaim():
		return "", false
	default:
		_, key = txn.Instance(in.visit)
	}
	found := e.cache.get(in.part, key) != nil
	e.stats.looked(found)
	return key, !found
}

// wants returns the instances that parked visits wait for, and that have to be
// loaded before the next batch.
func (e *engine) wants() []instanceRef {
	var refs []instanceRef
	for _, w := range e.wanted {
		if w.part.instances[w.slot.key] == nil {
			refs = append(refs, instanceRef{w.part, w.slot.key})
		}
	}
	e.woken, e.wanted = append(e.woken, e.wanted...), nil
	refs, e.wantedByTimers = append(refs, e.wantedByTimers...), nil
	return append(refs, e.untoldParents()...)
}

// loaded stores what the database has of an instance; nil: it has none.
func (e *engine) loaded(p *partition, key string, instance *rkcyv1.Instance) {
	e.stats.Loaded++
	if instance == nil {
		instance = &rkcyv1.Instance{}
	}
	if p.instances[key] == nil {
		e.put(p, key, instance)
		p.mirror.set(key, instance)
	}
}

// unavailable notes, for this batch, that an instance could not be read.
func (e *engine) unavailable(p *partition, key string, err error) {
	e.failed[instanceRef{p, key}] = err
}

func (e *engine) begin(now time.Time, config *ConfigSet) {
	e.nowMs, e.config, e.cause = now.UnixMilli(), config, noCause()
	e.tellLate()
	e.drain()
}

// process works on one input and on all that follows from it here.
func (e *engine) process(in *input) {
	p := in.part
	if in.record.Offset < p.next {
		return // fetched before the partition was restored
	}
	p.next = in.record.Offset + 1
	p.touched = true
	if p.concern.retired != nil {
		e.passOn(p, in.record)
		return
	}
	e.cause = causeOf(in)
	switch {
	case in.fault != nil:
		e.quarantine(in, in.fault.Error())
		if in.visit != nil {
			e.reject(p, in.visit, in.fault)
		}
	case in.marker != nil:
		e.stats.Markers++
		e.settleAt(p, txn.ID(in.marker.GetTxnId()), in.marker.GetAttempt(), in.marker.GetCommit())
	case in.other != nil:
		e.processOther(p, in.other)
	default:
		if err := e.orders.errFenced(in.visit); err != nil {
			e.refuse(p, in.visit, err)
		} else {
			e.arrive(p, in.visit)
		}
	}
	e.drain()
}

func (e *engine) processOther(p *partition, r *rkcyv1.ProcessRecord) {
	switch k := r.GetKind().(type) {
	case *rkcyv1.ProcessRecord_Outcome:
		e.outcome(p, k.Outcome)
	case *rkcyv1.ProcessRecord_Cancel:
		e.cancel(p, k.Cancel)
	case *rkcyv1.ProcessRecord_Retry:
		e.retry(p, k.Retry)
	case *rkcyv1.ProcessRecord_Related:
		e.related(p, k.Related)
	}
}

// expire ends what is parked and past its deadline, and resumes what waited for
// its time.
func (e *engine) expire() {
	e.cause = noCause()
	for _, p := range e.order {
		e.fire(p)
		e.forgetClaims(p)
		e.forgetCancels(p)
		if p.expiry >= e.nowMs {
			continue
		}
		// Seldom: some deadline among the parked has passed, or would have if
		// its visit still waited.
		p.expiry = never
		var late []*parked
		for _, s := range p.slots {
			for _, w := range s.queue.Remove(func(w txn.Waiting[*parked]) bool {
				return deadlineOf(w.Value.visit) < e.nowMs
			}) {
				late = append(late, w.Value)
			}
			s.queue.Each(func(w txn.Waiting[*parked]) {
				p.expiry = min(p.expiry, deadlineOf(w.Value.visit))
			})
		}
		slices.SortFunc(late, func(a, b *parked) int { return cmp.Compare(a.sequence, b.sequence) })
		for _, w := range late {
			p.unpark(w)
			if w.fault != nil {
				e.reject(p, w.visit, w.fault)
			} else {
				e.refuse(p, w.visit, errDeadline(w.visit))
			}
			e.stats.Expired++
			e.woken = append(e.woken, wake{p, p.slots[w.key]})
		}
	}
	e.drain()
}

// deadlineOf returns when a visit must not run any more, Unix ms. An undo has no
// deadline.
func deadlineOf(v *rkcyv1.Visit) int64 {
	if txn.Undoing(v) {
		return never
	}
	return v.GetTxn().GetDeadlineMs()
}

func errDeadline(v *rkcyv1.Visit) *txn.Error {
	return txn.Errorf(txn.CodeDeadlineExceeded, "the deadline passed before step %d of %d could run; %s",
		v.GetTxn().GetVisits()[txn.PlanIndex(v)].GetSteps()[0]+1, len(v.GetTxn().GetSteps()), whatIsLeft(v))
}

// drain runs local visits and woken queues until there is nothing left to do.
func (e *engine) drain() {
	for len(e.local) > 0 || len(e.woken) > 0 {
		if len(e.woken) > 0 {
			w := e.woken[0]
			e.woken = e.woken[1:]
			e.wake(w.part, w.slot)
			continue
		}
		l := e.local[0]
		e.local = e.local[1:]
		l.part.touched = true
		e.cause = noCause()
		e.arrive(l.part, l.visit)
	}
}

// flight is a batch that is finished and whose Kafka transaction is not known to
// have committed.
type flight struct {
	number uint64
	parts  []flightPart
	out    []stream.Record
}

type flightPart struct {
	*partition
	changed  []*entry
	values   []*rkcyv1.Instance // of changed; a later batch may change them again
	snapshot bool               // the batch contains a snapshot of the state
}

// finish ends the batch being built and returns its records, and the offsets
// that go with them. The records are valid until committed is called for it.
// Another batch may be built meanwhile, which counts on this one.
func (e *engine) finish() ([]stream.Record, map[stream.TopicPartition]int64) {
	offsets := map[stream.TopicPartition]int64{}
	f := flight{number: e.building}
	e.cause = noCause()
	for _, p := range e.order {
		tp := p.tp
		if !p.touched {
			continue
		}
		p.touched = false
		p.state.flush(e.cfg.stateRecords, func(key string, record *rkcyv1.StateRecord) {
			var value []byte
			if record != nil {
				value = e.marshal(record)
			}
			e.emit(p.concern.topics.State, tp.Partition, []byte(key), value)
		})
		// A touched partition's position is always in the transaction, even
		// where it did not move: it is what fences an owner of the past.
		offsets[tp] = p.next
		f.parts = append(f.parts, flightPart{partition: p, changed: p.changed, values: valuesOf(p.changed), snapshot: p.state.snapshot})
		p.changed = nil
	}
	clear(e.failed)
	f.out, e.out, e.spare = e.out, e.spare, nil
	e.flights = append(e.flights, f)
	e.building++
	return f.out, offsets
}

// committed makes the effects of the oldest batch in flight count. last has the
// offset of the last record written to each partition.
func (e *engine) committed(last map[stream.TopicPartition]int64) []stream.TopicPartition {
	f := e.flights[0]
	e.flights = e.flights[1:]
	var snapshots []stream.TopicPartition
	for _, p := range f.parts {
		tp := p.tp
		p.mirror.land(f.number, p.changed, p.values)
		if offset, ok := last[stream.TopicPartition{Topic: p.concern.topics.Storage, Partition: tp.Partition}]; ok {
			for _, en := range p.changed {
				// What a later batch changed again waits for that one.
				if en.storageOffset == notPersisted && en.flight == f.number {
					en.storageOffset = offset
					p.overlay = append(p.overlay, overlayItem{offset, en})
				}
			}
		}
		if offset, ok := last[stream.TopicPartition{Topic: p.concern.topics.State, Partition: tp.Partition}]; ok {
			if p.snapshot {
				// All before this batch is contained in its snapshot.
				snapshots = append(snapshots, tp)
				p.state.records = len(p.state.live)
			} else {
				p.state.end = offset + 1
			}
		}
	}
	clear(f.out) // whoever was given them is done with them
	e.spare = f.out[:0]
	e.cache.evict()
	return snapshots
}

// truncation returns up to where the state partition of tp may be deleted now
// that a snapshot has been committed: up to the snapshot before it, so that the
// tombstones in between still fill the window of a later owner.
func (e *engine) truncation(tp stream.TopicPartition, last map[stream.TopicPartition]int64) (stream.TopicPartition, int64) {
	s := e.parts[tp].state
	state := stream.TopicPartition{Topic: e.parts[tp].concern.topics.State, Partition: tp.Partition}
	before := s.snapshotAt
	s.snapshotAt, s.end = s.end, last[state]+1
	return state, before
}

// advance takes a new watermark: records of the storage partition below it are
// in the primary target.
func (e *engine) advance(tp stream.TopicPartition, watermark int64) {
	p := e.parts[tp]
	if p == nil || watermark <= p.watermark {
		return
	}
	p.watermark = watermark
	n := 0
	for n < len(p.overlay) && p.overlay[n].offset < watermark {
		item := p.overlay[n]
		if item.entry.storageOffset == item.offset {
			e.cache.change(item.entry, func() { item.entry.storageOffset = -1 })
		}
		n++
	}
	p.overlay = p.overlay[n:]
}

func (e *engine) put(p *partition, key string, instance *rkcyv1.Instance) *entry {
	en := e.cache.put(p, key, instance)
	if s := p.slots[key]; s != nil && s.pinned == nil {
		s.pinned = en
		e.cache.pin(en)
	}
	return en
}

// store makes instance the committed state and emits its change.
func (e *engine) store(p *partition, instance *rkcyv1.Instance, change *rkcyv1.Change) {
	en := e.put(p, change.GetKey(), instance)
	e.cache.change(en, func() { en.storageOffset = notPersisted })
	en.flight = e.building
	p.changed = append(p.changed, en)
	p.mirror.change(change.GetKey(), e.building)
	p.touched = true
	e.stats.Changes++
	e.emit(p.concern.topics.Storage, p.tp.Partition, []byte(change.GetKey()), e.marshal(change))
}

func (e *engine) emit(topic string, partition int32, key, value []byte) {
	e.out = append(e.out, stream.Record{Topic: topic, Partition: partition, Key: key, Value: value, Headers: e.cause.headers()})
}

// marshal serializes a message that the engine made itself. Its strings were
// decoded from valid messages, so it cannot fail.
func (e *engine) marshal(m proto.Message) []byte {
	raw, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("concern: cannot serialize a %T: %v", m, err))
	}
	return raw
}

func (e *engine) quarantine(in *input, reason string) {
	e.stats.Quarantined++
	e.cfg.logger.Warn("record quarantined", "topic", in.record.Topic, "partition", in.record.Partition,
		"offset", in.record.Offset, "reason", reason)
	e.emit(in.part.concern.topics.Error, 0, in.record.Key, e.marshal(&rkcyv1.Quarantined{
		Topic: in.record.Topic, Partition: in.record.Partition, Offset: in.record.Offset, Reason: reason,
		Key: in.record.Key, Value: in.record.Value, TimeMs: e.nowMs,
	}))
}
