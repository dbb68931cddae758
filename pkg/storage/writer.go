package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// WriterConfig configures a Writer.
type WriterConfig struct {
	Stream stream.Config
	// Group is the consumer group of this Concern and target.
	Group      string
	Concern    string
	Generation uint32
	// Topic is the Concern's storage topic.
	Topic  string
	Target Target
	// TargetName is what metrics and traces call the target.
	TargetName string
	// TracerProvider and MeterProvider, where set, are told of batches.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	// BatchMax and BatchBytes bound the changes in one database transaction,
	// and with them what is in memory. Defaults 5,000 and 16 MiB.
	BatchMax   int
	BatchBytes int
	// ApplyTimeout bounds one database transaction. Default 30 s.
	ApplyTimeout time.Duration
	// StopTimeout is how much longer a database transaction may take once Run
	// has been told to end. Default 5 s.
	StopTimeout time.Duration
	// RetryMax is the longest pause between attempts while the database is
	// away. Default 2 s.
	RetryMax time.Duration
	// SessionTimeout of the group member. Default 6 s.
	SessionTimeout time.Duration
	Logger         *slog.Logger
}

// WithDefaults returns the configuration with zero values replaced.
func (c WriterConfig) WithDefaults() WriterConfig {
	if c.BatchMax == 0 {
		c.BatchMax = 5000
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = 16 << 20
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = 5 * time.Second
	}
	if c.ApplyTimeout == 0 {
		c.ApplyTimeout = 30 * time.Second
	}
	if c.RetryMax == 0 {
		c.RetryMax = 2 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration.
func (c WriterConfig) Validate() error {
	var faults []error
	if c.Group == "" || c.Topic == "" || c.Concern == "" || c.Generation == 0 {
		faults = append(faults, errors.New("group, topic, concern and generation are needed"))
	}
	if c.Target == nil {
		faults = append(faults, errors.New("target is missing"))
	}
	if c.BatchMax < 0 || c.BatchBytes < 0 || c.ApplyTimeout < 0 || c.StopTimeout < 0 || c.RetryMax < 0 {
		faults = append(faults, errors.New("a limit is negative"))
	}
	return errors.Join(faults...)
}

// Writer is the storage worker of one Concern and one target: a member of a
// consumer group. It never gives up on a database that is away, and never
// skips a change: what cannot be written holds up its partition, and only that.
type Writer struct {
	cfg   WriterConfig
	group *stream.Group
	admin *stream.Admin

	parts map[stream.TopicPartition]*writerPartition
	// away is how the target as a whole fails.
	away setback
	// alone applies one partition at a time, to find out which one is refused.
	alone bool
	// untold are offsets that the group could not be told yet.
	untold map[stream.TopicPartition]int64
	tell   setback

	applied atomic.Uint64
	rows    atomic.Uint64
	failing atomic.Pointer[string]
	oldest  atomic.Pointer[time.Time]
	tells   *writerTelemetry
}

// NewWriter returns a writer. Run starts it.
func NewWriter(cfg WriterConfig) (*Writer, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("storage writer: %w", err)
	}
	tells, err := newWriterTelemetry(cfg)
	if err != nil {
		return nil, fmt.Errorf("storage writer: %w", err)
	}
	return &Writer{
		cfg: cfg, tells: tells, parts: map[stream.TopicPartition]*writerPartition{}, untold: map[stream.TopicPartition]int64{},
	}, nil
}

// WriterStatus is what a writer tells about itself.
type WriterStatus struct {
	// Batches and Changes applied.
	Batches, Changes uint64
	// Failing says why the target, or which partition, cannot be written; ""
	// while all can.
	Failing string
	// Oldest is when the oldest change came into the log that was read and is not
	// in the target; zero if there is none.
	Oldest time.Time
}

// Status is safe for concurrent use.
func (w *Writer) Status() WriterStatus {
	s := WriterStatus{Batches: w.applied.Load(), Changes: w.rows.Load()}
	if f := w.failing.Load(); f != nil {
		s.Failing = *f
	}
	if at := w.oldest.Load(); at != nil {
		s.Oldest = *at
	}
	return s
}

// Run works until ctx ends; then it finishes the database transaction under
// way and returns nil. It is called once.
func (w *Writer) Run(ctx context.Context) error {
	admin, err := stream.NewAdmin(w.cfg.Stream)
	if err != nil {
		return fmt.Errorf("storage writer: %w", err)
	}
	defer admin.Close()
	group, err := stream.NewGroup(w.cfg.Stream, stream.GroupConfig{
		Group: w.cfg.Group, Topics: []string{w.cfg.Topic}, SessionTimeout: w.cfg.SessionTimeout,
	}, w)
	if err != nil {
		return fmt.Errorf("storage writer: %w", err)
	}
	w.group, w.admin = group, admin
	for ctx.Err() == nil {
		if err := w.turn(ctx); err != nil {
			return errors.Join(fmt.Errorf("storage writer: %w", err), group.Close())
		}
	}
	w.commit()
	return group.Close()
}

// Assigned implements stream.Listener.
func (w *Writer) Assigned(tps []stream.TopicPartition) {
	for _, tp := range tps {
		w.parts[tp] = &writerPartition{tp: tp, paused: true}
	}
}

// Revoked implements stream.Listener.
func (w *Writer) Revoked(tps []stream.TopicPartition, _ bool) {
	for _, tp := range tps {
		delete(w.parts, tp)
		delete(w.untold, tp)
	}
}

// turn does one round: start, read, write, tell.
func (w *Writer) turn(ctx context.Context) error {
	if w.away.over() {
		w.start(ctx)
	}
	if err := w.regulate(); err != nil {
		return err
	}
	if err := w.read(ctx); err != nil {
		return err
	}
	if w.away.over() {
		w.apply(ctx)
	}
	w.commit()
	w.report()
	return nil
}

// start reads the watermarks of new partitions, and of those that have to begin
// again, and starts them.
func (w *Writer) start(ctx context.Context) {
	var fresh []*writerPartition
	var ask []Partition
	var tps []stream.TopicPartition
	for _, p := range w.sorted() {
		if !p.started && p.held.over() {
			fresh, ask, tps = append(fresh, p), append(ask, w.partition(p.tp)), append(tps, p.tp)
		}
	}
	if len(fresh) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.ApplyTimeout)
	defer cancel()
	marks, err := w.cfg.Target.Watermarks(ctx, ask)
	if err != nil {
		w.failed(ctx, fmt.Errorf("watermarks: %w", err))
		return
	}
	low, err := w.admin.LowWatermarks(ctx, tps)
	if err != nil {
		w.failed(ctx, err)
		return
	}
	high, err := w.admin.EndOffsets(ctx, tps)
	if err != nil {
		w.failed(ctx, err)
		return
	}
	for i, p := range fresh {
		at := marks[ask[i]]
		if at < low[p.tp] || at > high[p.tp] {
			// Reading would begin elsewhere, without a word.
			w.hold(p, fmt.Errorf("the target has %s[%d] up to offset %d, but the log has %d to %d: changes are missing, or the topic is not the one that was written from",
				p.tp.Topic, p.tp.Partition, at, low[p.tp], high[p.tp]))
			continue
		}
		if err := w.group.Start(p.tp, at); err != nil {
			w.failed(ctx, err)
			return
		}
		w.free(p)
		*p = writerPartition{tp: p.tp, started: true, position: at, next: at}
		if at > 0 {
			w.untold[p.tp] = at
		}
		w.cfg.Logger.Debug("storage partition starts", "topic", p.tp.Topic, "partition", p.tp.Partition, "offset", at)
	}
	for _, p := range w.parts {
		if p.ready() {
			return // only writing will show whether the target can be written
		}
	}
	w.succeeded()
}

func (w *Writer) partition(tp stream.TopicPartition) Partition {
	return Partition{Concern: w.cfg.Concern, Generation: w.cfg.Generation, Partition: tp.Partition}
}

// regulate pauses the partitions that must not be read now, and resumes the
// others.
func (w *Writer) regulate() error {
	var stop, goOn []stream.TopicPartition
	for tp, p := range w.parts {
		pause := !p.started || p.damage != nil || !w.away.ok() || !p.held.ok()
		if p.paused == pause {
			continue
		}
		p.paused = pause
		if pause {
			stop = append(stop, tp)
		} else {
			goOn = append(goOn, tp)
		}
	}
	if len(stop) > 0 {
		if err := w.group.Pause(stop...); err != nil {
			return err
		}
	}
	if len(goOn) > 0 {
		return w.group.Resume(goOn...)
	}
	return nil
}

// pieceMax is how many records are taken before their size is looked at.
const pieceMax = 16

// read takes what there is, up to one batch. While all is paused the member
// goes on polling, so that the group does not take it for dead.
func (w *Writer) read(ctx context.Context) error {
	changes, bytes := 0, 0
	for _, p := range w.parts {
		// What is held up counts on its own: it was one batch when it was read.
		if p.ready() && p.held.ok() {
			changes, bytes = changes+len(p.pending), bytes+p.bytes
		}
	}
	wait := 50 * time.Millisecond
	if changes > 0 && w.away.ok() {
		wait = 0
	}
	for changes < w.cfg.BatchMax && bytes < w.cfg.BatchBytes {
		records, err := w.group.Poll(ctx, min(pieceMax, w.cfg.BatchMax-changes), wait)
		if err != nil {
			return err
		}
		w.take(records)
		for _, r := range records {
			changes, bytes = changes+1, bytes+len(r.Value)
		}
		if len(records) == 0 {
			return nil
		}
		wait = 0
	}
	if !w.away.ok() { // full, and not to be written yet
		records, err := w.group.Poll(ctx, 1, wait)
		w.take(records)
		return err
	}
	return nil
}

func (w *Writer) take(records []stream.Record) {
	for _, r := range records {
		if p := w.parts[stream.TopicPartition{Topic: r.Topic, Partition: r.Partition}]; p != nil {
			n := len(p.pending)
			if p.take(r); len(p.pending) > n {
				w.tells.took(p, &r)
			}
		}
	}
}

// apply writes what is pending, of all partitions in one transaction, unless
// one of them was refused.
func (w *Writer) apply(ctx context.Context) {
	var ready []*writerPartition
	for _, p := range w.sorted() {
		if p.ready() && p.held.over() {
			ready = append(ready, p)
		}
	}
	if len(ready) == 0 {
		return
	}
	if !w.alone {
		w.applyTo(ctx, ready)
		return
	}
	for _, p := range ready {
		if !w.applyTo(ctx, []*writerPartition{p}) {
			return
		}
	}
	w.alone = false
	for _, p := range w.parts {
		w.alone = w.alone || !p.held.ok()
	}
}

// applyTo writes what some partitions have pending. false: the target is away.
func (w *Writer) applyTo(ctx context.Context, parts []*writerPartition) bool {
	batches := make([]Batch, len(parts))
	changes := 0
	for i, p := range parts {
		batches[i] = Batch{Partition: w.partition(p.tp), From: p.position, Next: p.next, Changes: p.pending}
		changes += len(p.pending)
	}
	// A transaction that has begun is finished after ctx has ended, if it does
	// not take long.
	applyCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.ApplyTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-time.After(w.cfg.StopTimeout):
			cancel()
		case <-applyCtx.Done():
		}
	})()
	began := time.Now()
	err := w.cfg.Target.Apply(applyCtx, batches)
	w.tells.applied(parts, began, changes, err)
	switch {
	case errors.Is(err, ErrStale):
		w.cfg.Logger.Warn("another writer has moved a watermark; reading it again", "concern", w.cfg.Concern)
		for _, p := range parts {
			p.started, p.pending, p.bytes = false, nil, 0
			p.written()
		}
		return true
	case errors.Is(err, ErrPermanent):
		w.refused(parts, err)
		return true
	case err != nil:
		w.failed(ctx, err)
		return false
	}
	for _, p := range parts {
		p.position, p.pending, p.bytes = p.next, nil, 0
		p.written()
		w.untold[p.tp] = p.position
		w.free(p)
	}
	w.tell = setback{}
	w.applied.Add(1)
	w.rows.Add(uint64(changes)) //nolint:gosec // a length
	w.succeeded()
	return true
}

// refused holds up the partition that is to blame, or finds out which it is.
func (w *Writer) refused(parts []*writerPartition, err error) {
	if e, ok := errors.AsType[*ChangeError](err); ok {
		for _, p := range parts {
			if w.partition(p.tp) == e.Partition {
				w.hold(p, err)
				return
			}
		}
	}
	if len(parts) == 1 {
		w.hold(parts[0], err)
		return
	}
	w.alone = true
}

// commit tells the processors how far the target has come.
func (w *Writer) commit() {
	if len(w.untold) == 0 || !w.tell.over() {
		return
	}
	if err := w.group.CommitOffsets(w.untold); err != nil {
		w.tell.next(w.cfg.RetryMax, err)
		w.cfg.Logger.Debug("group offsets could not be committed", "group", w.cfg.Group, "error", err)
		return
	}
	w.tell = setback{}
	clear(w.untold)
}
