package stream

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

const (
	// manyRecords and manyWait bound what FollowMany gathers before it gives it on.
	manyRecords = 5000
	manyWait    = 100 * time.Millisecond
)

// FollowMany gives fn the committed records of several partitions, from the given
// offsets on, some at a time: in order within a partition, and not otherwise. It
// returns when ctx has ended or, with until, when every partition has come that
// far; last stable offsets are ends that are reached. Partitions that until does
// not have are not waited for.
func (r *Reader) FollowMany(ctx context.Context, from, until map[TopicPartition]int64, fn func([]Record) error) error {
	c, err := r.consumer(kafka.ConfigMap{
		"enable.partition.eof": true, "fetch.wait.max.ms": 50, "go.logs.channel.enable": false, "log_level": 0,
	})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	var tps []kafka.TopicPartition
	left := maps.Clone(until)
	for tp, offset := range from {
		tps = append(tps, kafka.TopicPartition{Topic: &tp.Topic, Partition: tp.Partition, Offset: kafka.Offset(offset)})
		if end, ok := left[tp]; ok && offset >= end {
			delete(left, tp)
		}
	}
	if until != nil && len(left) == 0 {
		return nil
	}
	if err := c.Assign(tps); err != nil {
		return fmt.Errorf("stream: assign %d partitions: %w", len(tps), err)
	}
	for ctx.Err() == nil {
		batch, err := r.gather(c, left)
		if err != nil {
			return err
		}
		if len(batch) > 0 {
			if err := fn(batch); err != nil {
				return err
			}
		}
		if until != nil && len(left) == 0 {
			return nil
		}
	}
	return nil
}

// gather polls for a while, and takes from left what has been reached.
func (r *Reader) gather(c *kafka.Consumer, left map[TopicPartition]int64) ([]Record, error) {
	var batch []Record
	reached := func(tp TopicPartition, position int64) {
		if end, ok := left[tp]; ok && position >= end {
			delete(left, tp)
		}
	}
	for deadline := time.Now().Add(manyWait); len(batch) < manyRecords && time.Now().Before(deadline); {
		switch e := c.Poll(int(manyWait.Milliseconds()) / 4).(type) {
		case *kafka.Message:
			rec := record(e)
			tp := TopicPartition{rec.Topic, rec.Partition}
			batch = append(batch, rec)
			reached(tp, rec.Offset+1)
		case kafka.PartitionEOF:
			reached(TopicPartition{*e.Topic, e.Partition}, int64(e.Offset))
		case kafka.Error:
			if e.IsFatal() {
				return batch, fmt.Errorf("stream: follow: %w", e)
			}
			r.cfg.Logger.Debug("reader", "error", e)
		}
	}
	return batch, nil
}
