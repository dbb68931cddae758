package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Special offsets to read from.
const (
	// OffsetBeginning is the first record that the log still has.
	OffsetBeginning int64 = -2
	// OffsetEnd is where the next record will be.
	OffsetEnd int64 = -1
)

// Reader reads partitions outside of any group, read_committed. It is used by
// one goroutine.
type Reader struct {
	cfg Config
	c   *kafka.Consumer
	// admin shares the consumer's connections.
	admin *Admin
	done  chan struct{}
	wg    sync.WaitGroup
}

// NewReader returns a reader. It does not fail while the brokers are away.
func NewReader(cfg Config) (*Reader, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c, err := kafka.NewConsumer(cfg.consumer(kafka.ConfigMap{
		"group.id":             "rocketcycle.reader", // the library wants one; nothing is committed
		"enable.partition.eof": true,
	}))
	if err != nil {
		return nil, fmt.Errorf("stream: reader: %w", err)
	}
	a, err := kafka.NewAdminClientFromConsumer(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stream: reader: %w", err), c.Close())
	}
	r := &Reader{cfg: cfg, c: c, admin: &Admin{cfg: cfg, a: a}, done: make(chan struct{})}
	r.wg.Go(func() { drainLogs(cfg.Logger, c.Logs(), r.done) })
	return r, nil
}

// ReadTo takes the high watermark of a partition, and then gives fn every
// committed record from offset from on until the position has reached it,
// which waits for transactions that were open. It returns that position. An
// offset that the log no longer has counts as OffsetBeginning. The high
// watermark is the true one: the last stable offset would miss records whose
// commit markers are on their way.
func (r *Reader) ReadTo(ctx context.Context, tp TopicPartition, from int64, fn func(Record) error) (int64, error) {
	ends, err := r.admin.EndOffsets(ctx, []TopicPartition{tp})
	if err != nil {
		return 0, err
	}
	end := ends[tp]
	if end == 0 || from >= end {
		return end, nil
	}
	if err := r.assign(tp, from); err != nil {
		return 0, err
	}
	defer func() { _ = r.c.Unassign() }()
	for {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("stream: read %s[%d]: %w", tp.Topic, tp.Partition, err)
		}
		switch e := r.c.Poll(100).(type) {
		case *kafka.Message:
			rec := record(e)
			if rec.Offset >= end {
				return rec.Offset, nil
			}
			if err := fn(rec); err != nil {
				return 0, err
			}
			if rec.Offset+1 >= end {
				return end, nil
			}
		case kafka.PartitionEOF:
			if int64(e.Offset) >= end {
				return int64(e.Offset), nil
			}
		case kafka.Error:
			if e.IsFatal() {
				return 0, fmt.Errorf("stream: read %s[%d]: %w", tp.Topic, tp.Partition, e)
			}
			r.cfg.Logger.Debug("reader", "error", e)
		}
	}
}

func (r *Reader) assign(tp TopicPartition, from int64) error {
	at := theirPartitions([]TopicPartition{tp})
	at[0].Offset = kafka.Offset(from)
	switch from {
	case OffsetBeginning:
		at[0].Offset = kafka.OffsetBeginning
	case OffsetEnd:
		at[0].Offset = kafka.OffsetEnd
	}
	if err := r.c.Assign(at); err != nil {
		return fmt.Errorf("stream: assign %s[%d]: %w", tp.Topic, tp.Partition, err)
	}
	return nil
}

// Follow gives fn every committed record of a partition from offset from on
// until ctx ends. started, if not nil, is called once the position is known:
// whatever is written after that will be seen.
func (r *Reader) Follow(ctx context.Context, tp TopicPartition, from int64, started func(), fn func(Record)) error {
	if from == OffsetEnd {
		ends, err := r.admin.EndOffsets(ctx, []TopicPartition{tp})
		if err != nil {
			return err
		}
		from = ends[tp]
	}
	if err := r.assign(tp, from); err != nil {
		return err
	}
	defer func() { _ = r.c.Unassign() }()
	if started != nil {
		started()
	}
	for ctx.Err() == nil {
		switch e := r.c.Poll(100).(type) {
		case *kafka.Message:
			fn(record(e))
		case kafka.Error:
			if e.IsFatal() {
				return fmt.Errorf("stream: follow %s[%d]: %w", tp.Topic, tp.Partition, e)
			}
			r.cfg.Logger.Debug("reader", "error", e)
		}
	}
	return nil
}

// Close ends the reader.
func (r *Reader) Close() {
	r.admin.a.Close()
	if err := r.c.Close(); err != nil {
		r.cfg.Logger.Debug("reader did not close cleanly", "error", err)
	}
	close(r.done)
	r.wg.Wait()
}
