package stream

import (
	"context"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// OffsetsSince returns the offset of the first record of each partition that is
// not older than at, as far as the producers' clocks tell; where there is none,
// the high watermark.
func (a *Admin) OffsetsSince(ctx context.Context, tps []TopicPartition, at time.Time) (map[TopicPartition]int64, error) {
	// The ends come first: a record that is appended between the two questions
	// must not be passed over.
	ends, err := a.EndOffsets(ctx, tps)
	if err != nil {
		return nil, err
	}
	since, err := a.offsets(ctx, tps, kafka.NewOffsetSpecForTimestamp(at.UnixMilli()))
	if err != nil {
		return nil, err
	}
	for tp, offset := range since {
		if offset < 0 {
			since[tp] = ends[tp]
		}
	}
	return since, nil
}
