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
	since, err := a.offsets(ctx, tps, kafka.NewOffsetSpecForTimestamp(at.UnixMilli()))
	if err != nil {
		return nil, err
	}
	var none []TopicPartition
	for tp, offset := range since {
		if offset < 0 {
			none = append(none, tp)
		}
	}
	if len(none) == 0 {
		return since, nil
	}
	ends, err := a.EndOffsets(ctx, none)
	for tp, offset := range ends {
		since[tp] = offset
	}
	return since, err
}
