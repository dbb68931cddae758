package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// Retention deletes old records of a storage topic. The brokers' own retention
// would not ask whether they are still needed.
type Retention struct {
	Topic      string
	Partitions int32
	// Groups are those of the writers of every target: what one of them has not
	// applied is not deleted. Without groups nothing is.
	Groups []string
	// Behind is how many records before the slowest group are kept besides, for
	// those who take over a partition.
	Behind int64
}

// Apply deletes the records from before a time that nobody needs.
func (r Retention) Apply(ctx context.Context, admin *stream.Admin, before time.Time) error {
	if len(r.Groups) == 0 {
		return nil
	}
	tps := make([]stream.TopicPartition, r.Partitions)
	for i := range tps {
		tps[i] = stream.TopicPartition{Topic: r.Topic, Partition: int32(i)} //nolint:gosec // below Partitions
	}
	ends, err := admin.OffsetsSince(ctx, tps, before)
	if err != nil {
		return fmt.Errorf("storage retention: %w", err)
	}
	for _, group := range r.Groups {
		applied, err := admin.GroupOffsets(ctx, group, tps)
		if err != nil {
			return fmt.Errorf("storage retention: %w", err)
		}
		for _, tp := range tps {
			ends[tp] = min(ends[tp], applied[tp]-r.Behind) // -1: nothing was applied
		}
	}
	lows, err := admin.LowWatermarks(ctx, tps)
	if err != nil {
		return fmt.Errorf("storage retention: %w", err)
	}
	for _, tp := range tps {
		if ends[tp] <= lows[tp] {
			delete(ends, tp)
		}
	}
	if len(ends) == 0 {
		return nil
	}
	if err := admin.DeleteRecordsBefore(ctx, ends); err != nil {
		return fmt.Errorf("storage retention: %w", err)
	}
	return nil
}
