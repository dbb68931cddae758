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
	// c is for ReadTo, with which admin shares its connections.
	c     *kafka.Consumer
	admin *Admin
	// follower is for Follow, made when it is needed.
	follower *kafka.Consumer
	done     chan struct{}
	wg       sync.WaitGroup
}

// NewReader returns a reader. It does not fail while the brokers are away.
func NewReader(cfg Config) (*Reader, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Reader{cfg: cfg, done: make(chan struct{})}
	// What is written in transactions ends with a control marker, so that the
	// end shows only when a fetch comes back empty: let it wait briefly.
	// To forward logs makes closing 100 ms slower, which each restore would
	// pay; trouble shows in the errors.
	c, err := r.consumer(kafka.ConfigMap{
		"enable.partition.eof": true, "fetch.wait.max.ms": 10, "go.logs.channel.enable": false, "log_level": 0,
	})
	if err != nil {
		return nil, err
	}
	a, err := kafka.NewAdminClientFromConsumer(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stream: reader: %w", err), c.Close())
	}
	r.c, r.admin = c, &Admin{cfg: cfg, a: a}
	return r, nil
}

func (r *Reader) consumer(more kafka.ConfigMap) (*kafka.Consumer, error) {
	more["group.id"] = "rocketcycle.reader" // the library wants one; nothing is committed
	c, err := kafka.NewConsumer(r.cfg.consumer(more))
	if err != nil {
		return nil, fmt.Errorf("stream: reader: %w", err)
	}
	return c, nil
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
	return r.ReadUntil(ctx, tp, from, ends[tp], fn)
}

// ReadUntil is ReadTo with an end that is known, for example the last stable
// offset, up to which nothing has to be waited for.
func (r *Reader) ReadUntil(ctx context.Context, tp TopicPartition, from, end int64, fn func(Record) error) (int64, error) {
	if end == 0 || from >= end {
		return end, nil
	}
	if err := assign(r.c, tp, from); err != nil {
		return 0, err
	}
	defer func() { _ = r.c.Unassign() }()
	var trouble error // the last, which tells more than a context that ended
	for {
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("stream: read %s[%d] to %d at %s: %w", tp.Topic, tp.Partition, end, r.cfg.Bootstrap, errors.Join(err, trouble))
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
			trouble = e
			r.cfg.Logger.Debug("reader", "error", e)
		}
	}
}

func assign(c *kafka.Consumer, tp TopicPartition, from int64) error {
	at := theirPartitions([]TopicPartition{tp})
	at[0].Offset = kafka.Offset(from)
	switch from {
	case OffsetBeginning:
		at[0].Offset = kafka.OffsetBeginning
	case OffsetEnd:
		at[0].Offset = kafka.OffsetEnd
	}
	if err := c.Assign(at); err != nil {
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
	if r.follower == nil {
		c, err := r.consumer(kafka.ConfigMap{})
		if err != nil {
			return err
		}
		r.follower = c
		r.wg.Go(func() { drainLogs(r.cfg.Logger, c.Logs(), r.done) })
	}
	c := r.follower
	if err := assign(c, tp, from); err != nil {
		return err
	}
	defer func() { _ = c.Unassign() }()
	if started != nil {
		started()
	}
	for ctx.Err() == nil {
		switch e := c.Poll(100).(type) {
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
	for _, c := range []*kafka.Consumer{r.c, r.follower} {
		if c == nil {
			continue
		}
		if err := c.Close(); err != nil {
			r.cfg.Logger.Debug("reader did not close cleanly", "error", err)
		}
	}
	close(r.done)
	r.wg.Wait()
}
