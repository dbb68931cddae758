package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
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
	// BatchMax is the largest number of changes in one database transaction.
	// Default 5,000.
	BatchMax int
	// ApplyTimeout bounds one database transaction. Default 30 s.
	ApplyTimeout time.Duration
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
	if c.BatchMax < 0 || c.ApplyTimeout < 0 || c.RetryMax < 0 {
		faults = append(faults, errors.New("a limit is negative"))
	}
	return errors.Join(faults...)
}

// Writer is the storage worker of one Concern and one target: a member of a
// consumer group. It never gives up on a database that is away, and never
// skips a change.
type Writer struct {
	cfg   WriterConfig
	group *stream.Group

	parts   map[stream.TopicPartition]*writerPartition
	retry   time.Duration
	retryAt time.Time
	paused  bool

	applied atomic.Uint64
	rows    atomic.Uint64
	failing atomic.Pointer[string]
}

type writerPartition struct {
	started bool
	// position is the watermark that the next batch follows on.
	position int64
	pending  []*rkcyv1.Change
	next     int64 // behind the last pending change
}

// NewWriter returns a writer. Run starts it.
func NewWriter(cfg WriterConfig) (*Writer, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("storage writer: %w", err)
	}
	return &Writer{cfg: cfg, parts: map[stream.TopicPartition]*writerPartition{}}, nil
}

// WriterStatus is what a writer tells about itself.
type WriterStatus struct {
	// Batches and Changes applied.
	Batches, Changes uint64
	// Failing says why the target cannot be written, "" while it can.
	Failing string
}

// Status is safe for concurrent use.
func (w *Writer) Status() WriterStatus {
	s := WriterStatus{Batches: w.applied.Load(), Changes: w.rows.Load()}
	if f := w.failing.Load(); f != nil {
		s.Failing = *f
	}
	return s
}

// Run works until ctx ends; then it finishes the database transaction under
// way and returns nil.
func (w *Writer) Run(ctx context.Context) error {
	group, err := stream.NewGroup(w.cfg.Stream, stream.GroupConfig{
		Group: w.cfg.Group, Topics: []string{w.cfg.Topic}, SessionTimeout: w.cfg.SessionTimeout,
	}, w)
	if err != nil {
		return fmt.Errorf("storage writer: %w", err)
	}
	w.group = group
	for ctx.Err() == nil {
		if err := w.turn(ctx); err != nil {
			return errors.Join(fmt.Errorf("storage writer: %w", err), group.Close())
		}
	}
	return group.Close()
}

// Assigned implements stream.Listener.
func (w *Writer) Assigned(tps []stream.TopicPartition) {
	for _, tp := range tps {
		w.parts[tp] = &writerPartition{}
	}
}

// Revoked implements stream.Listener.
func (w *Writer) Revoked(tps []stream.TopicPartition, _ bool) {
	for _, tp := range tps {
		delete(w.parts, tp)
	}
}

func (w *Writer) turn(ctx context.Context) error {
	if time.Now().After(w.retryAt) {
		if err := w.startPartitions(ctx); err != nil {
			w.failed(ctx, err)
		}
	}
	pending := 0
	for _, p := range w.parts {
		pending += len(p.pending)
	}
	// While the database is away the member goes on polling, paused, so that
	// the group does not take it for dead.
	wait := 50 * time.Millisecond
	if pending > 0 {
		wait = max(time.Until(w.retryAt), 0)
		wait = min(wait, 50*time.Millisecond)
	}
	records, err := w.group.Poll(ctx, w.cfg.BatchMax, wait)
	if err != nil {
		return err
	}
	for _, r := range records {
		if err := w.take(r); err != nil {
			return err
		}
	}
	if time.Now().Before(w.retryAt) {
		return nil
	}
	return w.apply(ctx)
}

// startPartitions reads the watermarks of new partitions and starts them.
func (w *Writer) startPartitions(ctx context.Context) error {
	var ask []Partition
	for tp, p := range w.parts {
		if !p.started {
			ask = append(ask, w.partition(tp))
		}
	}
	if len(ask) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.ApplyTimeout)
	defer cancel()
	marks, err := w.cfg.Target.Watermarks(ctx, ask)
	if err != nil {
		return fmt.Errorf("watermarks: %w", err)
	}
	offsets := map[stream.TopicPartition]int64{}
	for tp, p := range w.parts {
		if p.started {
			continue
		}
		p.position = marks[w.partition(tp)]
		p.pending = nil
		if err := w.group.Start(tp, p.position); err != nil {
			return err
		}
		p.started = true
		if p.position > 0 {
			offsets[tp] = p.position
		}
		w.cfg.Logger.Debug("storage partition starts", "topic", tp.Topic, "partition", tp.Partition, "offset", p.position)
	}
	w.commit(offsets)
	w.succeeded()
	return nil
}

func (w *Writer) partition(tp stream.TopicPartition) Partition {
	return Partition{Concern: w.cfg.Concern, Generation: w.cfg.Generation, Partition: tp.Partition}
}

func (w *Writer) take(r stream.Record) error {
	p := w.parts[stream.TopicPartition{Topic: r.Topic, Partition: r.Partition}]
	if p == nil || !p.started {
		return nil
	}
	c := &rkcyv1.Change{}
	if err := proto.Unmarshal(r.Value, c); err != nil {
		// Only processors write here, so this is damage. Going on would lose
		// a change without a word.
		return fmt.Errorf("storage record at %s[%d]@%d cannot be decoded: %w", r.Topic, r.Partition, r.Offset, err)
	}
	p.pending = append(p.pending, c)
	p.next = r.Offset + 1
	return nil
}

// apply writes what is pending, of all partitions in one transaction.
func (w *Writer) apply(ctx context.Context) error {
	var batches []Batch
	var tps []stream.TopicPartition
	changes := 0
	for _, tp := range slices.SortedFunc(maps.Keys(w.parts), func(a, b stream.TopicPartition) int { return int(a.Partition - b.Partition) }) {
		p := w.parts[tp]
		if len(p.pending) == 0 {
			continue
		}
		batches = append(batches, Batch{Partition: w.partition(tp), From: p.position, Next: p.next, Changes: p.pending})
		tps = append(tps, tp)
		changes += len(p.pending)
	}
	if len(batches) == 0 {
		return nil
	}
	// A transaction that has begun is finished after ctx has ended.
	applyCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.ApplyTimeout)
	defer cancel()
	err := w.cfg.Target.Apply(applyCtx, batches)
	switch {
	case errors.Is(err, ErrStale):
		w.cfg.Logger.Warn("another writer has moved a watermark; reading it again", "concern", w.cfg.Concern)
		for _, tp := range tps {
			w.parts[tp].started, w.parts[tp].pending = false, nil
		}
		return w.group.Pause(tps...)
	case err != nil:
		w.failed(ctx, err)
		return nil
	}
	offsets := map[stream.TopicPartition]int64{}
	for _, tp := range tps {
		p := w.parts[tp]
		p.position, p.pending = p.next, nil
		offsets[tp] = p.position
	}
	w.applied.Add(1)
	w.rows.Add(uint64(changes))
	w.commit(offsets)
	w.succeeded()
	return nil
}

// commit tells the processors how far the target has come. If it fails, the
// next one tells.
func (w *Writer) commit(offsets map[stream.TopicPartition]int64) {
	if len(offsets) == 0 {
		return
	}
	if err := w.group.CommitOffsets(offsets); err != nil {
		w.cfg.Logger.Debug("group offsets could not be committed", "group", w.cfg.Group, "error", err)
	}
}

// failed plans the next attempt and stops reading meanwhile.
func (w *Writer) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	w.retry = min(max(2*w.retry, 50*time.Millisecond), w.cfg.RetryMax)
	w.retryAt = time.Now().Add(w.retry/2 + rand.N(w.retry/2+1)) //nolint:gosec // jitter
	if text := err.Error(); w.failing.Load() == nil {
		w.cfg.Logger.Warn("storage target cannot be written; trying again", "concern", w.cfg.Concern, "error", err)
		w.failing.Store(&text)
	}
	if w.paused {
		return
	}
	w.paused = true
	if err := w.group.Pause(w.running()...); err != nil {
		w.cfg.Logger.Debug("pause", "error", err)
	}
}

func (w *Writer) running() []stream.TopicPartition {
	var tps []stream.TopicPartition
	for tp, p := range w.parts {
		if p.started {
			tps = append(tps, tp)
		}
	}
	return tps
}

func (w *Writer) succeeded() {
	if w.failing.Swap(nil) != nil {
		w.cfg.Logger.Info("storage target can be written again", "concern", w.cfg.Concern)
	}
	w.retry, w.retryAt = 0, time.Time{}
	if !w.paused {
		return
	}
	w.paused = false
	if err := w.group.Resume(w.running()...); err != nil {
		w.cfg.Logger.Debug("resume", "error", err)
	}
}
