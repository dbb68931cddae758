package inspect

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// feed reads the change feed of an instance's partition, which it returns, from
// an offset on, stream.OffsetBeginning for all that there is. visit is told of
// every record; its change is nil unless it is one of the instance.
func (i *Inspector) feed(ctx context.Context, concern, key string, from int64, visit func(stream.Record, *rkcyv1.Change)) (int32, error) {
	c, err := platform.ConcernOf(i.router.Config(), concern)
	if err != nil {
		return 0, err
	}
	reader, err := stream.NewReader(i.log)
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	tp := stream.TopicPartition{Topic: i.router.Names().StorageTopic(concern), Partition: stream.PartitionFor([]byte(key), c.GetPartitions())}
	_, err = reader.ReadTo(ctx, tp, from, func(r stream.Record) error {
		change := &rkcyv1.Change{}
		if string(r.Key) != key || proto.Unmarshal(r.Value, change) != nil {
			change = nil // passed over: storage workers have the last word on it
		}
		visit(r, change)
		return nil
	})
	if err != nil {
		return 0, away(err)
	}
	return tp.Partition, nil
}
