package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Admin manages topics and looks at offsets. Safe for concurrent use.
//
// It stands on a consumer, though it consumes nothing: where a broker answers
// ListConsumerGroupOffsets with "not the coordinator" (it starts, or the
// coordinator moves), librdkafka 2.11 dereferences the consumer group of the
// client, and a producer has none: the process dies of a segmentation fault.
type Admin struct {
	cfg  Config
	c    *kafka.Consumer
	a    *kafka.AdminClient
	done chan struct{}
	wg   sync.WaitGroup
}

// NewAdmin returns an admin. It does not fail while the brokers are away; its
// methods do, when their context ends.
func NewAdmin(cfg Config) (*Admin, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c, err := kafka.NewConsumer(cfg.consumer(kafka.ConfigMap{
		"group.id": "rocketcycle.admin", // see Admin; nothing is committed
	}))
	if err != nil {
		return nil, fmt.Errorf("stream: admin: %w", err)
	}
	a, err := kafka.NewAdminClientFromConsumer(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stream: admin: %w", err), c.Close())
	}
	admin := &Admin{cfg: cfg, c: c, a: a, done: make(chan struct{})}
	admin.wg.Go(func() { drainLogs(cfg.Logger, c.Logs(), admin.done) })
	admin.wg.Go(admin.events)
	return admin, nil
}

// events takes what the client has to say about brokers that come and go;
// nobody else does, and it would pile up.
func (a *Admin) events() {
	for {
		select {
		case <-a.done:
			return
		default:
		}
		if e := a.c.Poll(100); e != nil {
			a.cfg.Logger.Debug("admin", "event", e.String())
		}
	}
}

// Close ends the admin.
func (a *Admin) Close() {
	close(a.done)
	a.wg.Wait()
	a.a.Close()
	if err := a.c.Close(); err != nil {
		a.cfg.Logger.Debug("admin did not close cleanly", "error", err)
	}
}

// TopicSpec describes a topic.
type TopicSpec struct {
	Name        string
	Partitions  int
	Replication int
	Config      map[string]string
}

// timeout returns what is left until the end of ctx, at most 30 s.
func timeout(ctx context.Context) time.Duration {
	d := 30 * time.Second
	if at, ok := ctx.Deadline(); ok {
		d = max(min(d, time.Until(at)), time.Millisecond)
	}
	return d
}

// EnsureTopics creates the topics that do not exist, waits until they can be
// used, and returns their names. Existing topics are left as they are.
func (a *Admin) EnsureTopics(ctx context.Context, specs []TopicSpec) ([]string, error) {
	var want []kafka.TopicSpecification
	for _, s := range specs {
		want = append(want, kafka.TopicSpecification{
			Topic: s.Name, NumPartitions: s.Partitions, ReplicationFactor: s.Replication, Config: s.Config,
		})
	}
	if len(want) == 0 {
		return nil, nil
	}
	results, err := a.a.CreateTopics(ctx, want, kafka.SetAdminOperationTimeout(timeout(ctx)), kafka.SetAdminRequestTimeout(timeout(ctx)))
	if err != nil {
		return nil, fmt.Errorf("stream: create topics: %w", err)
	}
	var created []string
	var faults []error
	for _, r := range results {
		switch r.Error.Code() {
		case kafka.ErrNoError:
			created = append(created, r.Topic)
		case kafka.ErrTopicAlreadyExists:
		default:
			faults = append(faults, fmt.Errorf("topic %s: %w", r.Topic, r.Error))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return created, fmt.Errorf("stream: create topics: %w", err)
	}
	return created, a.awaitTopics(ctx, specs)
}

// awaitTopics waits until every partition has a leader.
func (a *Admin) awaitTopics(ctx context.Context, specs []TopicSpec) error {
	for {
		topics, err := a.Topics(ctx)
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(slices.Clone(specs), func(s TopicSpec) bool { return topics[s.Name] > 0 })
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stream: topic %s is not there yet: %w", missing[0].Name, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Topics returns all topics with their number of partitions, 0 where a
// partition has no leader.
func (a *Admin) Topics(ctx context.Context) (map[string]int, error) {
	meta, err := a.a.GetMetadata(nil, true, int(timeout(ctx).Milliseconds()))
	if err != nil {
		return nil, fmt.Errorf("stream: brokers at %s: %w", a.cfg.Bootstrap, err)
	}
	out := map[string]int{}
	for name, t := range meta.Topics {
		if strings.HasPrefix(name, "__") {
			continue
		}
		out[name] = len(t.Partitions)
		for _, p := range t.Partitions {
			if p.Leader < 0 {
				out[name] = 0
			}
		}
	}
	return out, nil
}

// Brokers returns how many brokers there are. It is also the way to ask
// whether any can be reached.
func (a *Admin) Brokers(ctx context.Context) (int, error) {
	meta, err := a.a.GetMetadata(nil, false, int(timeout(ctx).Milliseconds()))
	if err != nil {
		return 0, fmt.Errorf("stream: brokers at %s: %w", a.cfg.Bootstrap, err)
	}
	return len(meta.Brokers), nil
}

// DeleteRecordsBefore deletes the records below an offset of each partition.
func (a *Admin) DeleteRecordsBefore(ctx context.Context, before map[TopicPartition]int64) error {
	tps := make([]kafka.TopicPartition, 0, len(before))
	for tp, offset := range before {
		tps = append(tps, kafka.TopicPartition{Topic: &tp.Topic, Partition: tp.Partition, Offset: kafka.Offset(offset)})
	}
	results, err := a.a.DeleteRecords(ctx, tps, kafka.SetAdminRequestTimeout(timeout(ctx)))
	if err != nil {
		return fmt.Errorf("stream: delete records: %w", err)
	}
	var faults []error
	for _, r := range results.DeleteRecordsResults {
		if r.TopicPartition.Error != nil {
			faults = append(faults, fmt.Errorf("stream: delete records of %v: %w", r.TopicPartition, r.TopicPartition.Error))
		}
	}
	return errors.Join(faults...)
}

// GroupOffsets returns the committed offsets of a group, -1 where there is
// none.
func (a *Admin) GroupOffsets(ctx context.Context, group string, tps []TopicPartition) (map[TopicPartition]int64, error) {
	results, err := a.a.ListConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{
		{Group: group, Partitions: theirPartitions(tps)},
	}, kafka.SetAdminRequestTimeout(timeout(ctx)))
	out := map[TopicPartition]int64{}
	for _, tp := range tps {
		out[tp] = -1
	}
	// A group that never committed may be unknown to the broker.
	if e, ok := errors.AsType[kafka.Error](err); ok && (e.Code() == kafka.ErrGroupIDNotFound || e.Code() == kafka.ErrInvalidGroupID) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("stream: offsets of group %s: %w", group, err)
	}
	for _, g := range results.ConsumerGroupsTopicPartitions {
		for _, tp := range g.Partitions {
			if tp.Error != nil {
				return nil, fmt.Errorf("stream: offsets of group %s: %w", group, tp.Error)
			}
			if tp.Offset >= 0 {
				out[TopicPartition{*tp.Topic, tp.Partition}] = int64(tp.Offset)
			}
		}
	}
	return out, nil
}

// EndOffsets returns the high watermarks: not the last stable offsets, records
// of open transactions count.
func (a *Admin) EndOffsets(ctx context.Context, tps []TopicPartition) (map[TopicPartition]int64, error) {
	return a.offsets(ctx, tps, kafka.LatestOffsetSpec)
}

// LowWatermarks returns the offsets of the first records that the log has.
func (a *Admin) LowWatermarks(ctx context.Context, tps []TopicPartition) (map[TopicPartition]int64, error) {
	return a.offsets(ctx, tps, kafka.EarliestOffsetSpec)
}

func (a *Admin) offsets(ctx context.Context, tps []TopicPartition, spec kafka.OffsetSpec) (map[TopicPartition]int64, error) {
	ask := map[kafka.TopicPartition]kafka.OffsetSpec{}
	for _, tp := range theirPartitions(tps) {
		ask[tp] = spec
	}
	results, err := a.a.ListOffsets(ctx, ask, kafka.SetAdminRequestTimeout(timeout(ctx)),
		kafka.SetAdminIsolationLevel(kafka.IsolationLevelReadUncommitted))
	if err != nil {
		return nil, fmt.Errorf("stream: offsets: %w", err)
	}
	out := map[TopicPartition]int64{}
	for tp, info := range results.ResultInfos {
		if info.Error.Code() != kafka.ErrNoError {
			return nil, fmt.Errorf("stream: offsets of %s[%d]: %w", *tp.Topic, tp.Partition, info.Error)
		}
		out[TopicPartition{*tp.Topic, tp.Partition}] = int64(info.Offset)
	}
	return out, nil
}
