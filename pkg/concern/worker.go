package concern

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// pollWait is how long a poll waits for the first record, ms: the resolution
// of deadlines of parked visits, and how soon a restored partition starts.
const pollWait = 50 * time.Millisecond

// flightWait is how long a worker looks for more records before it looks again
// whether the Kafka transaction in flight has ended.
const flightWait = time.Millisecond

// finishWait is how long a worker that is told to stop works on the batch in
// flight.
const finishWait = 15 * time.Second

// worker is one member of the consumer group: a loop that turns each polled
// batch into one Kafka transaction. Everything but the restores and the
// watermarks happens on its goroutine.
type worker struct {
	p     *Processor
	cfg   Config
	index int

	group      *stream.Group
	transactor *stream.Transactor
	admin      *stream.Admin
	engine     *engine
	status     atomic.Pointer[Status]
	joined     atomic.Bool // the group has given it its share
	counts     Status
	past       Stats // of engines thrown away
	watchdog   watchdog
	recorder   *stepRecorder
	waiting    Waiting
	looked     time.Time // when waiting was

	// paused are the partitions that are not to be worked on.
	paused *PauseSet
	// restores under way, by process partition.
	restoring map[stream.TopicPartition]context.CancelFunc
	restored  chan restoredPartition
	// flight tells how the Kafka transaction in flight ended; nil if there is
	// none. built counts the input records of the batch being built.
	flight chan commitResult
	built  int
	wg     sync.WaitGroup
	//nolint:containedctx // the lifetime of restores that the rebalance callback starts
	base context.Context

	mu         sync.Mutex
	watermarks map[stream.TopicPartition]int64 // by process partition
	owned      []stream.TopicPartition

	// For direct reads: until when ownership is certain, what renews that at once,
	// and what reads have loaded.
	lease    lease
	assigned chan struct{}
	offered  chan directLoad
}

type restoredPartition struct {
	ctx      context.Context //nolint:containedctx // tells whether the restore was cancelled
	restorer *restorer
	next     int64
}

func newWorker(p *Processor, index int) *worker {
	w := &worker{
		p: p, cfg: p.cfg, index: index,
		restoring: map[stream.TopicPartition]context.CancelFunc{}, restored: make(chan restoredPartition),
		watermarks: map[stream.TopicPartition]int64{},
		assigned:   make(chan struct{}, 1), offered: make(chan directLoad, 1024),
	}
	w.recorder = newStepRecorder(p.telemetry)
	w.engine = w.newEngine()
	return w
}

func (w *worker) newEngine() *engine {
	n := int64(w.cfg.Workers)
	return newEngine(engineConfig{
		served: w.p.served, responseTopic: w.cfg.ResponseTopic, router: w.cfg.Router, retired: w.p.retired,
		cacheBytes: w.cfg.CacheBytes / n, overlayBytes: w.cfg.OverlayBytes / n,
		stateRecords: w.cfg.StateRecords, logger: w.cfg.Logger,
		claimBytes: w.cfg.IdempotencyBytes, claimWindowMs: w.cfg.IdempotencyWindow.Milliseconds(),
		holdsOff: w.cfg.holdsOff, watchdog: &w.watchdog, teller: w.recorder.teller(),
	})
}

func (w *worker) run(ctx context.Context) (err error) {
	// Work that was taken in is finished after ctx has ended, but not for ever:
	// the brokers may be away.
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	w.base = base
	defer context.AfterFunc(ctx, func() {
		select {
		case <-time.After(finishWait):
			stop()
		case <-base.Done():
		}
	})()

	if w.admin, err = stream.NewAdmin(w.cfg.Stream); err != nil {
		return fmt.Errorf("processor: %w", err)
	}
	defer w.admin.Close()
	id := fmt.Sprintf("%s.%s.%d", w.cfg.Group, rand.Text(), w.index)
	if w.transactor, err = stream.NewTransactor(ctx, w.cfg.Stream, id); err != nil {
		return fmt.Errorf("processor: %w", err)
	}
	defer w.transactor.Close()
	topics := slices.Sorted(maps.Keys(w.p.served))
	w.group, err = stream.NewGroup(w.cfg.Stream, stream.GroupConfig{
		Group: w.cfg.Group, Topics: topics, SessionTimeout: w.cfg.SessionTimeout,
	}, w)
	if err != nil {
		return fmt.Errorf("processor: %w", err)
	}
	defer func() {
		w.settle()
		// Restores and the watermarks use the clients that are closed next.
		stop()
		w.wg.Wait()
		err = errors.Join(err, w.group.Close())
	}()
	w.wg.Add(1)
	go func() {
		defer w.wg.Done()
		w.followWatermarks(base)
	}()
	w.wg.Go(func() { w.watchdog.watch(base, w.cfg.Logger, handlerPatience) })
	w.wg.Go(func() { w.keepLease(base) })
	for ctx.Err() == nil {
		if err := w.turn(ctx); err != nil {
			return fmt.Errorf("processor: %w", err)
		}
	}
	return nil
}

// turn is one round of the loop: take in what has come, and commit it unless a
// Kafka transaction is in flight. Then the batch grows until that has ended.
func (w *worker) turn(ctx context.Context) error {
	wait := pollWait
	w.heedPauses()
	if w.flight == nil {
		w.adopt()
	} else {
		wait = flightWait
	}
	full := w.built >= w.cfg.BatchMax
	took := 0
	if !full {
		records, err := w.group.Poll(ctx, w.cfg.BatchMax-w.built, wait)
		if err != nil {
			return err
		}
		if took = len(records); took > 0 || w.flight == nil {
			w.process(records)
		}
	}
	if w.flight != nil && !w.hasLanded(full, took) {
		return nil
	}
	w.depart()
	w.publish()
	return nil
}

// hasLanded takes note of the end of the Kafka transaction in flight. It waits
// for it if the batch being built is full, a little if there is nothing to add
// to it, and not at all if there is nothing that waits for the end.
func (w *worker) hasLanded(full bool, took int) bool {
	switch {
	case full:
		w.landed(<-w.flight)
		return true
	case took == 0 && w.built > 0:
		timer := time.NewTimer(flightWait)
		defer timer.Stop()
		select {
		case r := <-w.flight:
			w.landed(r)
			return true
		case <-timer.C:
			return false
		}
	default:
		select {
		case r := <-w.flight:
			w.landed(r)
			return true
		default:
			return false
		}
	}
}

// process runs the engine on records.
func (w *worker) process(records []stream.Record) {
	w.takeWatermarks()
	w.takeOffers()
	inputs := make([]*input, 0, len(records))
	for _, r := range records {
		if in := w.engine.decode(r); in != nil {
			inputs = append(inputs, in)
		}
	}
	w.load(inputs)
	w.engine.begin(w.cfg.Now(), w.cfg.ConfigSet())
	for _, in := range inputs {
		w.engine.process(in)
	}
	w.built += len(inputs)
}

// commitResult is how a Kafka transaction ended.
type commitResult struct {
	records int // input records in it
	last    map[stream.TopicPartition]int64
	err     error
}

// depart ends the batch and starts its Kafka transaction, if there is anything
// in it. Nothing is in flight.
func (w *worker) depart() {
	w.engine.expire()
	out, offsets := w.engine.finish()
	if w.built == 0 && len(out) == 0 {
		w.engine.committed(nil)
		return
	}
	done := make(chan commitResult, 1)
	r := commitResult{records: w.built}
	w.built, w.flight = 0, done
	told, began := w.recorder.take(), time.Now()
	w.wg.Add(1)
	go func() {
		defer w.wg.Done()
		r.last, r.err = w.transactor.Commit(w.base, out, w.group, offsets)
		ended := time.Now()
		done <- r
		w.recorder.settle(told, began, ended, r.err)
	}()
}

// landed takes note of how the Kafka transaction in flight ended.
func (w *worker) landed(r commitResult) {
	w.flight = nil
	if r.err != nil {
		w.counts.Aborted++
		w.cfg.Logger.Warn("kafka transaction failed; its effects are dropped and the partitions restored", "error", r.err)
		w.startAgain()
		return
	}
	w.counts.KafkaTransactions++
	w.counts.Records += uint64(r.records) //nolint:gosec // not negative
	for _, tp := range w.engine.committed(r.last) {
		state, before := w.engine.truncation(tp, r.last)
		w.truncate(state, before)
	}
}

// settle waits for the Kafka transaction in flight, and commits what was built
// since.
func (w *worker) settle() {
	for w.flight != nil || w.built > 0 {
		if w.flight == nil {
			w.depart()
		}
		w.landed(<-w.flight)
	}
}

// load reads the instances that the inputs and the parked visits need, with
// one read per Concern.
func (w *worker) load(inputs []*input) {
	missing := map[*servedConcern]map[string]*partition{}
	need := func(p *partition, key string) {
		if missing[p.concern] == nil {
			missing[p.concern] = map[string]*partition{}
		}
		missing[p.concern][key] = p
	}
	for _, in := range inputs {
		if key, ok := w.engine.missing(in); ok {
			need(in.part, key)
		}
	}
	for _, ref := range w.engine.wants() {
		need(ref.part, ref.key)
	}
	for c, keys := range missing {
		ctx, cancel := context.WithTimeout(w.base, w.cfg.LoadTimeout)
		found, err := w.cfg.Loader.Load(ctx, c.commands.def.Name, slices.Sorted(maps.Keys(keys)))
		cancel()
		if err != nil {
			w.cfg.Logger.Warn("instances could not be read", "concern", c.commands.def.Name, "instances", len(keys), "error", err)
			if _, ok := errors.AsType[*txn.Error](err); !ok {
				err = txn.Errorf(txn.CodeUnavailable, "the database is away: %w", err)
			}
		}
		for key, p := range keys {
			if err != nil {
				w.engine.unavailable(p, key, err)
			} else {
				w.engine.loaded(p, key, found[key])
			}
		}
	}
}

// startAgain throws away all that is in memory, after a Kafka transaction
// whose outcome is not known, and restores the partitions from the log.
func (w *worker) startAgain() {
	tps := w.ownedPartitions()
	if err := w.group.Pause(tps...); err != nil {
		// Records of a partition that is not in the engine are dropped, so
		// this costs time only.
		w.cfg.Logger.Warn("partitions could not be paused", "error", err)
	}
	w.past = w.past.Add(w.engine.total())
	w.recorder.drop()
	w.engine, w.built = w.newEngine(), 0
	w.engine.orders = w.paused
	for _, tp := range tps {
		w.restore(tp)
	}
}

func (w *worker) ownedPartitions() []stream.TopicPartition {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.owned)
}

// Assigned implements stream.Listener. The partitions are paused.
func (w *worker) Assigned(tps []stream.TopicPartition) {
	w.cfg.Logger.Info("partitions assigned", "partitions", len(tps))
	w.mu.Lock()
	w.owned = append(w.owned, tps...)
	w.mu.Unlock()
	for _, tp := range tps {
		w.restore(tp)
	}
	w.publish() // before others may see it as joined
	w.joined.Store(true)
}

// Revoked implements stream.Listener. What was taken in is committed, as far as
// the group still lets this member.
func (w *worker) Revoked(tps []stream.TopicPartition, lost bool) {
	w.cfg.Logger.Info("partitions revoked", "partitions", len(tps), "lost", lost)
	w.lease.end()
	w.p.mirrors.close(tps...)
	w.settle()
	w.mu.Lock()
	w.owned = slices.DeleteFunc(w.owned, func(tp stream.TopicPartition) bool { return slices.Contains(tps, tp) })
	w.mu.Unlock()
	for _, tp := range tps {
		w.cancelRestore(tp)
		w.engine.drop(tp)
	}
}

func (w *worker) cancelRestore(tp stream.TopicPartition) {
	if cancel := w.restoring[tp]; cancel != nil {
		cancel()
		delete(w.restoring, tp)
	}
}

// adopt starts the partitions whose restore has ended.
func (w *worker) adopt() {
	for {
		select {
		case r := <-w.restored:
			if r.ctx.Err() != nil {
				continue // revoked, or restored again, meanwhile
			}
			tp := r.restorer.p.tp
			w.cancelRestore(tp)
			r.restorer.finish(w.engine, r.next)
			if err := w.group.Start(tp, r.next); err != nil {
				w.cfg.Logger.Warn("partition could not be started; it is restored again", "topic", tp.Topic, "partition", tp.Partition, "error", err)
				w.engine.drop(tp)
				w.restore(tp)
				continue
			}
			w.serveDirect(r.restorer.p)
		default:
			return
		}
	}
}

// followWatermarks reads how far the primary target has come.
func (w *worker) followWatermarks(ctx context.Context) {
	tick := time.NewTicker(w.cfg.WatermarkInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		byGroup := map[string][]stream.TopicPartition{}
		for _, tp := range w.ownedPartitions() {
			c := w.p.served[tp.Topic]
			if c.retired != nil {
				continue
			}
			byGroup[c.storageGroup] = append(byGroup[c.storageGroup], stream.TopicPartition{Topic: c.topics.Storage, Partition: tp.Partition})
		}
		for group, tps := range byGroup {
			offsets, err := w.admin.GroupOffsets(ctx, group, tps)
			if err != nil {
				if ctx.Err() == nil {
					w.cfg.Logger.Debug("watermarks could not be read", "group", group, "error", err)
				}
				continue
			}
			w.mu.Lock()
			for topic, c := range w.p.served {
				for tp, offset := range offsets {
					if tp.Topic == c.topics.Storage {
						w.watermarks[stream.TopicPartition{Topic: topic, Partition: tp.Partition}] = offset
					}
				}
			}
			w.mu.Unlock()
		}
	}
}

func (w *worker) takeWatermarks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for tp, offset := range w.watermarks {
		w.engine.advance(tp, offset)
	}
	clear(w.watermarks)
}

// truncate deletes state records that a snapshot has replaced.
func (w *worker) truncate(tp stream.TopicPartition, before int64) {
	if before <= 0 {
		return
	}
	w.wg.Add(1)
	go func() {
		defer w.wg.Done()
		ctx, cancel := context.WithTimeout(w.base, 30*time.Second)
		defer cancel()
		if err := w.admin.DeleteRecordsBefore(ctx, map[stream.TopicPartition]int64{tp: before}); err != nil && w.base.Err() == nil {
			// The next snapshot tries again, with a later offset.
			w.cfg.Logger.Warn("state records could not be deleted", "topic", tp.Topic, "partition", tp.Partition, "error", err)
		}
	}()
}

func (w *worker) publish() {
	s := w.counts
	s.Stats = w.past.Add(w.engine.total())
	s.Partitions, s.Restoring = len(w.ownedPartitions()), len(w.restoring)
	s.CacheBytes, s.PinnedBytes = w.engine.cache.used, w.engine.cache.pinnedBytes
	for _, p := range w.engine.order {
		s.Instances += len(p.instances)
	}
	s.Renewals, s.RenewalsBy = w.transactor.Renewals(), w.transactor.RenewalsBy()
	if now := time.Now(); now.Sub(w.looked) >= waitingInterval {
		w.waiting, w.looked = w.engine.waiting(), now
	}
	s.Waiting = w.waiting
	w.status.Store(&s)
}
