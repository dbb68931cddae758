package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Admin manages topics and looks at offsets. Safe for concurrent use.
type Admin struct {
	cfg  Config
	p    *kafka.Producer
	a    *kafka.AdminClient
	done chan struct{}
	wg   sync.WaitGroup

	mu      sync.Mutex
	groups  map[string]*groupView // by group
	located map[string]bool       // topics whose leaders the library was made to learn
}

// NewAdmin returns an admin. It does not fail while the brokers are away; its
// methods do, when their context ends.
func NewAdmin(cfg Config) (*Admin, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p, err := kafka.NewProducer(cfg.with(kafka.ConfigMap{"go.delivery.reports": false}))
	if err != nil {
		return nil, fmt.Errorf("stream: admin: %w", err)
	}
	a, err := kafka.NewAdminClientFromProducer(p)
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("stream: admin: %w", err)
	}
	admin := &Admin{cfg: cfg, p: p, a: a, done: make(chan struct{})}
	admin.wg.Go(func() { drainLogs(cfg.Logger, p.Logs(), admin.done) })
	admin.wg.Go(func() {
		for {
			select {
			case e := <-p.Events():
				cfg.Logger.Debug("admin", "event", e.String())
			case <-admin.done:
				return
			}
		}
	})
	return admin, nil
}

// Close ends the admin.
func (a *Admin) Close() {
	a.mu.Lock()
	for _, g := range a.groups {
		g.close()
	}
	a.groups = nil
	a.mu.Unlock()
	close(a.done)
	a.wg.Wait()
	a.a.Close()
	a.p.Close()
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
		return nil, fmt.Errorf("stream: create topics at %s: %w", a.cfg.Bootstrap, err)
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
	meta, err := a.metadata(ctx, true)
	if err != nil {
		return nil, err
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

// metadata asks until a broker answers or ctx ends, but for 30 s at most. The
// library's call does not notice the end of ctx, so it is made in pieces.
func (a *Admin) metadata(ctx context.Context, topics bool) (*kafka.Metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		meta, err := a.a.GetMetadata(nil, topics, int(min(timeout(ctx), time.Second).Milliseconds()))
		if err == nil {
			return meta, nil
		}
		e, ok := errors.AsType[kafka.Error](err)
		passing := ok && !e.IsFatal() && (e.Code() == kafka.ErrTransport || e.Code() == kafka.ErrTimedOut || e.Code() == kafka.ErrAllBrokersDown)
		if err = fmt.Errorf("stream: brokers at %s: %w", a.cfg.Bootstrap, err); !passing {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Brokers returns how many brokers there are. It is also the way to ask
// whether any can be reached.
func (a *Admin) Brokers(ctx context.Context) (int, error) {
	meta, err := a.metadata(ctx, false)
	if err != nil {
		return 0, err
	}
	return len(meta.Brokers), nil
}

// DeleteRecordsBefore deletes the records below an offset of each partition.
func (a *Admin) DeleteRecordsBefore(ctx context.Context, before map[TopicPartition]int64) error {
	if err := a.locate(ctx, slices.Collect(maps.Keys(before))); err != nil {
		return err
	}
	tps := make([]kafka.TopicPartition, 0, len(before))
	for tp, offset := range before {
		tps = append(tps, kafka.TopicPartition{Topic: &tp.Topic, Partition: tp.Partition, Offset: kafka.Offset(offset)})
	}
	results, err := a.a.DeleteRecords(ctx, tps, kafka.SetAdminRequestTimeout(timeout(ctx)))
	if err != nil {
		return fmt.Errorf("stream: delete records at %s: %w", a.cfg.Bootstrap, err)
	}
	var faults []error
	for _, r := range results.DeleteRecordsResults {
		if r.TopicPartition.Error != nil {
			faults = append(faults, fmt.Errorf("stream: delete records of %v: %w", r.TopicPartition, r.TopicPartition.Error))
		}
	}
	return errors.Join(faults...)
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

// locate makes the library learn the leaders of topics, once. Requests to
// leaders look them up by themselves, but while the client is young the answer
// may go unnoticed, and the library then waits for a timer of 3 s.
func (a *Admin) locate(ctx context.Context, tps []TopicPartition) error {
	ctx, cancel := context.WithTimeout(ctx, timeout(ctx))
	defer cancel()
	for _, tp := range tps {
		a.mu.Lock()
		done := a.located[tp.Topic]
		a.mu.Unlock()
		for !done {
			_, err := a.a.GetMetadata(&tp.Topic, false, int(min(timeout(ctx), time.Second).Milliseconds()))
			if done = err == nil; done {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("stream: leaders of %s at %s: %w", tp.Topic, a.cfg.Bootstrap, errors.Join(ctx.Err(), err))
			case <-time.After(20 * time.Millisecond):
			}
		}
		a.mu.Lock()
		if a.located == nil {
			a.located = map[string]bool{}
		}
		a.located[tp.Topic] = true
		a.mu.Unlock()
	}
	return nil
}

func (a *Admin) offsets(ctx context.Context, tps []TopicPartition, spec kafka.OffsetSpec) (map[TopicPartition]int64, error) {
	return a.offsetsAt(ctx, tps, spec, kafka.IsolationLevelReadUncommitted)
}

func (a *Admin) offsetsAt(ctx context.Context, tps []TopicPartition, spec kafka.OffsetSpec, level kafka.IsolationLevel) (map[TopicPartition]int64, error) {
	if err := a.locate(ctx, tps); err != nil {
		return nil, err
	}
	ask := map[kafka.TopicPartition]kafka.OffsetSpec{}
	for _, tp := range theirPartitions(tps) {
		ask[tp] = spec
	}
	for {
		out, err := a.offsetsOnce(ctx, ask, level)
		if err == nil {
			return out, nil
		}
		err = fmt.Errorf("stream: offsets at %s: %w", a.cfg.Bootstrap, err)
		// A leader that moves.
		if e, ok := errors.AsType[kafka.Error](err); !ok || !leaderMoves(e) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// leaderMoves tells of errors that pass by themselves.
func leaderMoves(e kafka.Error) bool {
	switch e.Code() {
	case kafka.ErrNotLeaderForPartition, kafka.ErrLeaderNotAvailable, kafka.ErrFencedLeaderEpoch, kafka.ErrUnknownLeaderEpoch,
		kafka.ErrOffsetNotAvailable, kafka.ErrReplicaNotAvailable, kafka.ErrTransport:
		return true
	default:
		return false
	}
}

func (a *Admin) offsetsOnce(ctx context.Context, ask map[kafka.TopicPartition]kafka.OffsetSpec, level kafka.IsolationLevel) (map[TopicPartition]int64, error) {
	results, err := a.a.ListOffsets(ctx, ask, kafka.SetAdminRequestTimeout(timeout(ctx)),
		kafka.SetAdminIsolationLevel(level))
	if err != nil {
		return nil, err
	}
	out := map[TopicPartition]int64{}
	for tp, info := range results.ResultInfos {
		if info.Error.Code() != kafka.ErrNoError {
			return nil, fmt.Errorf("%s[%d]: %w", *tp.Topic, tp.Partition, info.Error)
		}
		out[TopicPartition{*tp.Topic, tp.Partition}] = int64(info.Offset)
	}
	return out, nil
}
