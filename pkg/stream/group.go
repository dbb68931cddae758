package stream

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Listener learns which partitions a group member owns. Its methods are called
// on the goroutine that calls Poll or Close, from within that call.
type Listener interface {
	// Assigned gives partitions, paused; none if the group has more members than
	// partitions. Call Group.Start when one is ready to be read.
	Assigned(tps []TopicPartition)
	// Revoked takes partitions away. lost says that others may own them
	// already; it can be wrong either way, so let the brokers decide.
	Revoked(tps []TopicPartition, lost bool)
}

// GroupConfig configures a member of a consumer group.
type GroupConfig struct {
	Group  string
	Topics []string
	// SessionTimeout is how long a member may be silent before its partitions
	// go to others. Default 6 s.
	SessionTimeout time.Duration
	// InstanceID, where set, makes the member static: restarted within
	// SessionTimeout, it gets its partitions back at once.
	InstanceID string
}

// Group is one member of a consumer group: read_committed, eager assignment,
// offsets committed by a Transactor only. One goroutine polls; Committed may be
// called concurrently.
type Group struct {
	cfg      Config
	c        *kafka.Consumer
	listener Listener
	done     chan struct{}
	wg       sync.WaitGroup
	owned    []kafka.TopicPartition
	// revoked is set when partitions went away, for the Poll that is under way.
	revoked bool
	closing bool
	expect  int // how many records the next poll may return
	// membership is what the group knew the member as when it got its
	// partitions; nil while it has none.
	membership atomic.Pointer[kafka.ConsumerGroupMetadata]
}

// NewGroup joins a consumer group. It does not fail while the brokers are away.
func NewGroup(cfg Config, g GroupConfig, listener Listener) (*Group, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if g.SessionTimeout == 0 {
		g.SessionTimeout = 6 * time.Second
	}
	settings := kafka.ConfigMap{
		"group.id":                      g.Group,
		"session.timeout.ms":            int(g.SessionTimeout.Milliseconds()),
		"heartbeat.interval.ms":         int(max(g.SessionTimeout/6, 100*time.Millisecond).Milliseconds()),
		"partition.assignment.strategy": "roundrobin",
		"max.poll.interval.ms":          max(300_000, int(g.SessionTimeout.Milliseconds())),
	}
	if g.InstanceID != "" {
		settings["group.instance.id"] = g.InstanceID
	}
	c, err := kafka.NewConsumer(cfg.consumer(settings))
	if err != nil {
		return nil, fmt.Errorf("stream: group %s: %w", g.Group, err)
	}
	group := &Group{cfg: cfg, c: c, listener: listener, done: make(chan struct{})}
	group.wg.Go(func() { drainLogs(cfg.Logger, c.Logs(), group.done) })
	if err := c.SubscribeTopics(g.Topics, group.rebalance); err != nil {
		return nil, errors.Join(fmt.Errorf("stream: group %s: %w", g.Group, err), group.Close())
	}
	return group, nil
}

func (g *Group) rebalance(_ *kafka.Consumer, event kafka.Event) error {
	switch e := event.(type) {
	case kafka.AssignedPartitions:
		if g.closing {
			return g.c.Unassign()
		}
		// With an offset of their own, which Start replaces, the library does
		// not look for committed ones: that search may wait for open
		// transactions, and would end after Start and undo it.
		for i := range e.Partitions {
			e.Partitions[i].Offset = 0
		}
		if err := g.c.Assign(e.Partitions); err != nil {
			return err
		}
		if len(e.Partitions) > 0 {
			if err := g.c.Pause(e.Partitions); err != nil {
				return err
			}
		}
		if meta, err := g.c.GetConsumerGroupMetadata(); err == nil {
			g.membership.Store(meta)
		}
		g.owned = e.Partitions
		g.listener.Assigned(ourPartitions(e.Partitions))
	case kafka.RevokedPartitions:
		lost := g.c.AssignmentLost()
		if len(g.owned) > 0 {
			g.listener.Revoked(ourPartitions(e.Partitions), lost)
		}
		g.owned, g.revoked = nil, true
		g.membership.Store(nil)
		return g.c.Unassign()
	}
	return nil
}

// errNotMember says that the partitions of a member may belong to others.
var errNotMember = errors.New("this member was removed from its group; its partitions may belong to others")

// metadata returns what to send along with offsets. It must be asked anew for
// each transaction. A member that was silent for too long is no member any
// more, while the callback that revokes its partitions waits for the next Poll.
// Brokers refuse the member id that it had. But once the library has forgotten
// that id, nothing would fence it: brokers accept offsets of a transaction
// that come without member and generation, since older producers had none.
// Hence the comparison, which also spares a round trip.
func (g *Group) metadata() (*kafka.ConsumerGroupMetadata, error) {
	at := g.membership.Load()
	if at == nil {
		return nil, errNotMember
	}
	now, err := g.c.GetConsumerGroupMetadata()
	if err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(at, now) { // the library offers no other look at it
		return nil, errNotMember
	}
	return now, nil
}

func ourPartitions(in []kafka.TopicPartition) []TopicPartition {
	out := make([]TopicPartition, len(in))
	for i, tp := range in {
		out[i] = TopicPartition{*tp.Topic, tp.Partition}
	}
	return out
}

func theirPartitions(in []TopicPartition) []kafka.TopicPartition {
	out := make([]kafka.TopicPartition, len(in))
	for i := range in {
		out[i] = kafka.TopicPartition{Topic: &in[i].Topic, Partition: in[i].Partition}
	}
	return out
}

// pollBytes is how much Poll takes before it returns.
const pollBytes = 16 << 20

// Poll waits up to wait for the first record, then takes what is there at
// once, up to maximum records or 16 MiB. If partitions are revoked meanwhile,
// none of their records is returned after the Listener was told. Errors are
// those from which the member cannot recover.
func (g *Group) Poll(ctx context.Context, maximum int, wait time.Duration) ([]Record, error) {
	records := make([]Record, 0, g.expect)
	defer func() { g.expect = min(len(records)+len(records)/4, maximum) }()
	size := 0
	g.revoked = false
	// The client waits in pieces, so that the end of ctx is noticed.
	deadline := time.Now().Add(wait)
	for len(records) < maximum && size < pollBytes {
		timeout := 0
		if len(records) == 0 {
			if ctx.Err() != nil {
				return nil, nil //nolint:nilerr // the caller looks at ctx itself
			}
			// Rounded up: with 0 this would be a busy loop.
			timeout = int((min(time.Until(deadline), 100*time.Millisecond) + time.Millisecond - 1).Milliseconds())
			if timeout < 0 {
				return nil, nil
			}
		}
		event := g.c.Poll(timeout)
		if g.revoked { // all of them, as the assignment is eager
			records, size, g.revoked = records[:0], 0, false
		}
		switch e := event.(type) {
		case nil:
			if len(records) > 0 || time.Now().After(deadline) || timeout == 0 {
				return records, nil
			}
		case *kafka.Message:
			records = append(records, record(e))
			size += len(e.Key) + len(e.Value)
		case kafka.Error:
			if e.IsFatal() {
				return records, fmt.Errorf("stream: group member: %w", e)
			}
			g.cfg.Logger.Debug("group member", "error", e)
		}
	}
	return records, nil
}

func record(m *kafka.Message) Record {
	r := Record{
		Topic: *m.TopicPartition.Topic, Partition: m.TopicPartition.Partition, Offset: int64(m.TopicPartition.Offset),
		Key: m.Key, Value: m.Value, Time: m.Timestamp,
	}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, Header{h.Key, h.Value})
	}
	return r
}

// Committed returns the stable committed offsets, -1 where there is none: it
// waits until offsets of open transactions are decided, or ctx ends.
func (g *Group) Committed(ctx context.Context, tps []TopicPartition) (map[TopicPartition]int64, error) {
	for {
		got, err := g.c.Committed(theirPartitions(tps), int(min(timeout(ctx), time.Second).Milliseconds()))
		if err == nil {
			for _, tp := range got {
				if tp.Error != nil {
					err = tp.Error
				}
			}
		}
		if err == nil {
			out := map[TopicPartition]int64{}
			for i, tp := range got {
				out[tps[i]] = -1
				if tp.Offset >= 0 {
					out[TopicPartition{*tp.Topic, tp.Partition}] = int64(tp.Offset)
				}
			}
			return out, nil
		}
		g.cfg.Logger.Debug("committed offsets are not known yet", "error", err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("stream: committed offsets at %s: %w", g.cfg.Bootstrap, errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Start begins to read a partition at an offset.
func (g *Group) Start(tp TopicPartition, offset int64) error {
	at := theirPartitions([]TopicPartition{tp})
	at[0].Offset = kafka.Offset(offset)
	for deadline := time.Now().Add(5 * time.Second); ; {
		results, err := g.c.SeekPartitions(at)
		if err == nil && len(results) > 0 {
			err = results[0].Error
		}
		if err == nil {
			return g.Resume(tp)
		}
		// A partition that was just assigned is not there at once.
		e, ok := errors.AsType[kafka.Error](err)
		young := ok && (e.Code() == kafka.ErrState || e.Code() == kafka.ErrPrevInProgress)
		if !young || time.Now().After(deadline) {
			return fmt.Errorf("stream: seek %s[%d]: %w", tp.Topic, tp.Partition, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// Pause stops reading partitions; what was fetched is dropped.
func (g *Group) Pause(tps ...TopicPartition) error {
	if err := g.c.Pause(theirPartitions(tps)); err != nil {
		return fmt.Errorf("stream: pause: %w", err)
	}
	return nil
}

// Resume goes on reading partitions.
func (g *Group) Resume(tps ...TopicPartition) error {
	if err := g.c.Resume(theirPartitions(tps)); err != nil {
		return fmt.Errorf("stream: resume: %w", err)
	}
	return nil
}

// CommitOffsets commits positions outside of a Kafka transaction, for members
// whose effects are elsewhere.
func (g *Group) CommitOffsets(offsets map[TopicPartition]int64) error {
	tps := make([]kafka.TopicPartition, 0, len(offsets))
	for tp, offset := range offsets {
		tps = append(tps, kafka.TopicPartition{Topic: &tp.Topic, Partition: tp.Partition, Offset: kafka.Offset(offset)})
	}
	if _, err := g.c.CommitOffsets(tps); err != nil {
		return fmt.Errorf("stream: commit offsets: %w", err)
	}
	return nil
}

// Close leaves the group; the listener is told of what that revokes. To close
// again does nothing.
func (g *Group) Close() error {
	if g.closing {
		return nil
	}
	g.closing = true
	if len(g.owned) > 0 {
		g.listener.Revoked(ourPartitions(g.owned), false)
		g.owned = nil
	}
	err := g.leave()
	close(g.done)
	g.wg.Wait()
	if err != nil {
		return fmt.Errorf("stream: leave group: %w", err)
	}
	return nil
}

// leaveGrace is how long the library may take to leave a group; it needs well
// below a second, and some seconds while the brokers are away.
const leaveGrace = 15 * time.Second

// leave closes the consumer, and does not wait for ever for the library: when an
// assignment arrives while it closes, the call that answers it can fail to come
// back. The consumer is given up then as it is; the coordinator notices by the
// session.
func (g *Group) leave() error {
	done := make(chan error, 1)
	go func() { done <- g.c.Close() }()
	grace := time.NewTimer(leaveGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
		g.cfg.Logger.Error("the client library did not come back from closing a consumer; it is given up")
		return errNoReturn
	}
}
