package concern

import (
	"context"
	"fmt"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// restore starts to rebuild a partition, which stays paused until adopt takes
// it in. It is called on the worker's goroutine.
func (w *worker) restore(tp stream.TopicPartition) {
	w.p.mirrors.close(tp)
	w.cancelRestore(tp)
	if w.isPaused(tp) {
		return
	}
	ctx, cancel := context.WithCancel(w.base)
	w.restoring[tp] = cancel
	w.wg.Add(1)
	go func() {
		defer w.wg.Done()
		for attempt := 0; ; attempt++ {
			r, next, err := w.read(ctx, tp)
			switch {
			case err == nil:
				select {
				case w.restored <- restoredPartition{ctx, r, next}:
				case <-ctx.Done():
				}
				return
			case ctx.Err() != nil:
				return
			}
			w.cfg.Logger.Warn("restore failed; it starts again", "topic", tp.Topic, "partition", tp.Partition, "error", err)
			select {
			case <-time.After(min(time.Duration(100<<min(attempt, 6))*time.Millisecond, 5*time.Second)):
			case <-ctx.Done():
				return
			}
		}
	}()
}

// read follows section "Taking over a partition" of docs/design.md: it waits
// for the stable committed offset, and only then takes the high watermarks up
// to which state and storage are read, so that nothing of a former owner can
// be missed.
func (w *worker) read(ctx context.Context, tp stream.TopicPartition) (*restorer, int64, error) {
	began := time.Now()
	c := w.p.served[tp.Topic]
	committed, err := w.group.Committed(ctx, []stream.TopicPartition{tp})
	if err != nil {
		return nil, 0, fmt.Errorf("committed offset: %w", err)
	}
	next := max(committed[tp], 0)
	if c.retired != nil { // nothing is there but what came late
		return newRestorer(newPartition(tp, c, 0), 0), next, nil
	}
	storage := stream.TopicPartition{Topic: c.topics.Storage, Partition: tp.Partition}
	state := stream.TopicPartition{Topic: c.topics.State, Partition: tp.Partition}
	watermarks, err := w.admin.GroupOffsets(ctx, c.storageGroup, []stream.TopicPartition{storage})
	if err != nil {
		return nil, 0, fmt.Errorf("watermark: %w", err)
	}
	watermark := max(watermarks[storage], 0)
	reader, err := stream.NewReader(w.cfg.Stream)
	if err != nil {
		return nil, 0, err
	}
	defer reader.Close()
	r := newRestorer(newPartition(tp, c, windowOffsets), watermark)
	// What the database has is read again rather than kept beyond the bound.
	r.cache.limit = w.cfg.CacheBytes / int64(w.cfg.Workers)
	if _, err := reader.ReadTo(ctx, state, stream.OffsetBeginning, r.stateRecord); err != nil {
		return nil, 0, fmt.Errorf("state: %w", err)
	}
	if _, err := reader.ReadTo(ctx, storage, max(watermark-windowOffsets, 0), r.change); err != nil {
		return nil, 0, fmt.Errorf("storage: %w", err)
	}
	w.cfg.Logger.Info("partition restored", "topic", tp.Topic, "partition", tp.Partition, "offset", next,
		"holds_and_parked", len(r.p.state.live), "instances", len(r.p.instances), "took", time.Since(began).Round(time.Millisecond))
	return r, next, nil
}
