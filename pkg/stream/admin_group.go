package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// groupView looks at the offsets of one group without being a member.
//
// ListConsumerGroupOffsets would be the call for that, but librdkafka 2.11 does
// not survive it when the broker answers that it is not the coordinator, as
// while a broker starts or the coordinator moves: it dereferences the consumer
// group of a client that has none, or counts the request down twice, and the
// process is gone. A consumer that never subscribes asks the same and finds
// the coordinator by itself.
type groupView struct {
	cfg  Config
	c    *kafka.Consumer
	done chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex // of Poll
}

func newGroupView(cfg Config, group string) (*groupView, error) {
	c, err := kafka.NewConsumer(cfg.consumer(kafka.ConfigMap{
		"group.id": group,
		// Offsets of open transactions are not waited for.
		"isolation.level": "read_uncommitted",
	}))
	if err != nil {
		return nil, fmt.Errorf("stream: view of group %s: %w", group, err)
	}
	g := &groupView{cfg: cfg, c: c, done: make(chan struct{})}
	g.wg.Go(func() { drainLogs(cfg.Logger, c.Logs(), g.done) })
	return g, nil
}

// offsets asks until there is an answer or ctx ends.
func (g *groupView) offsets(ctx context.Context, tps []TopicPartition) (map[TopicPartition]int64, error) {
	for {
		got, err := g.c.Committed(theirPartitions(tps), int(min(timeout(ctx), 2*time.Second).Milliseconds()))
		g.drain()
		if e, ok := errors.AsType[kafka.Error](err); ok && e.Code() == kafka.ErrGroupIDNotFound {
			got, err = theirPartitions(tps), nil // some brokers say so of a group that has not committed yet
			for i := range got {
				got[i].Offset = kafka.OffsetInvalid
			}
		}
		out := map[TopicPartition]int64{}
		for i, tp := range got {
			out[tps[i]] = -1
			if tp.Error != nil {
				err = errors.Join(err, tp.Error)
			} else if tp.Offset >= 0 {
				out[tps[i]] = int64(tp.Offset)
			}
		}
		if err == nil {
			return out, nil
		}
		g.cfg.Logger.Debug("offsets of a group are not known yet", "error", err)
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// drain takes what the client has to say about brokers that come and go; it
// would pile up.
func (g *groupView) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for e := g.c.Poll(0); e != nil; e = g.c.Poll(0) {
		g.cfg.Logger.Debug("view of a group", "event", e.String())
	}
}

func (g *groupView) close() {
	if err := g.c.Close(); err != nil {
		g.cfg.Logger.Debug("view of a group did not close cleanly", "error", err)
	}
	close(g.done)
	g.wg.Wait()
}

// GroupOffsets returns the committed offsets of a group, -1 where there is
// none. It asks again until it has an answer or ctx ends. The connection that
// it needs per group stays until Close, with which it must not be concurrent.
func (a *Admin) GroupOffsets(ctx context.Context, group string, tps []TopicPartition) (map[TopicPartition]int64, error) {
	if len(tps) == 0 {
		return map[TopicPartition]int64{}, nil
	}
	a.mu.Lock()
	g, ok := a.groups[group]
	if !ok {
		var err error
		if g, err = newGroupView(a.cfg, group); err != nil {
			a.mu.Unlock()
			return nil, err
		}
		if a.groups == nil {
			a.groups = map[string]*groupView{}
		}
		a.groups[group] = g
	}
	a.mu.Unlock()
	out, err := g.offsets(ctx, tps)
	if err != nil {
		return nil, fmt.Errorf("stream: offsets of group %s at %s: %w", group, a.cfg.Bootstrap, err)
	}
	return out, nil
}
