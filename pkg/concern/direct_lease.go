package concern

import (
	"context"
	"sync"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// lease says until when a worker knows that nobody else owns its partitions: the
// session time-out after it asked the group's coordinator for something that is
// refused to those who are not members, and was not refused. Membership cannot
// end sooner without the worker being told, since the coordinator began to count
// no earlier than the question was sent.
type lease struct {
	mu sync.Mutex
	// epoch counts the assignments that ended; what was asked under an earlier
	// one says nothing.
	epoch uint64
	until time.Time // has a monotonic reading
}

func (l *lease) now() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

// renew extends the lease, unless the assignment of epoch has ended.
func (l *lease) renew(epoch uint64, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch == epoch && until.After(l.until) {
		l.until = until
	}
}

// end ends the lease, and the assignment it was for.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch++
	l.until = time.Time{}
}

// valid is asked after a value was read: what holds then held before.
func (l *lease) valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.until)
}

// keepLease renews the worker's lease until ctx ends. The question is a commit of
// an offset that means nothing, of a partition of a state topic, which the group
// never reads: the coordinator compares member and generation.
func (w *worker) keepLease(ctx context.Context) {
	tick := time.NewTicker(max(w.cfg.SessionTimeout/6, 50*time.Millisecond))
	defer tick.Stop()
	for {
		if owned := w.ownedPartitions(); len(owned) > 0 {
			epoch, asked := w.lease.now(), time.Now()
			at := stream.TopicPartition{Topic: w.p.served[owned[0].Topic].topics.State, Partition: owned[0].Partition}
			if err := w.group.CommitOffsets(map[stream.TopicPartition]int64{at: 0}); err == nil {
				// A tenth less, for clocks that do not run alike.
				w.lease.renew(epoch, asked.Add(w.cfg.SessionTimeout-w.cfg.SessionTimeout/10))
			} else if ctx.Err() == nil {
				w.cfg.Logger.Debug("the lease for direct reads could not be renewed", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-w.assigned:
		}
	}
}
