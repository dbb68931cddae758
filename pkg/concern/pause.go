package concern

import (
	"maps"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// PauseSet says which partitions are paused, and which edges are fenced: what those
// submit is refused. It is immutable; nil is empty.
type PauseSet struct {
	concerns   map[string]bool
	partitions map[pausedPartition]bool
	fenced     map[uint64]bool
}

type pausedPartition struct {
	concern   string
	partition int32
}

// With returns the set with one more partition of a Concern, all of them for -1.
func (s *PauseSet) With(concern string, partition int32) *PauseSet {
	out := s.clone()
	if partition < 0 {
		out.concerns[concern] = true
	} else {
		out.partitions[pausedPartition{concern, partition}] = true
	}
	return out
}

// WithFenced returns the set with more edges that are fenced.
func (s *PauseSet) WithFenced(edges []uint64) *PauseSet {
	out := s.clone()
	for _, e := range edges {
		out.fenced[e] = true
	}
	return out
}

func (s *PauseSet) clone() *PauseSet {
	out := &PauseSet{concerns: map[string]bool{}, partitions: map[pausedPartition]bool{}, fenced: map[uint64]bool{}}
	if s != nil {
		maps.Copy(out.concerns, s.concerns)
		maps.Copy(out.partitions, s.partitions)
		maps.Copy(out.fenced, s.fenced)
	}
	return out
}

// errFenced returns the refusal of a visit with which a fenced edge submits a
// transaction; nil for any other. Nothing of the transaction has run yet.
func (s *PauseSet) errFenced(v *rkcyv1.Visit) *txn.Error {
	if s == nil || len(s.fenced) == 0 || !s.fenced[v.GetTxn().GetReplyTo().GetEdge()] {
		return nil
	}
	if v.GetVisit() != 0 || v.GetAttempt() != 1 || v.GetTxn().GetIdempotency() != nil && !v.GetClaim() {
		return nil // of a transaction that was taken in before
	}
	return txn.Errorf(txn.CodeUnavailable, "the edge that submitted it was fenced: it did not acknowledge a version of the platform in time; nothing took effect")
}

// Has reports whether a partition is paused.
func (s *PauseSet) Has(concern string, partition int32) bool {
	return s != nil && (s.concerns[concern] || s.partitions[pausedPartition{concern, partition}])
}

func (w *worker) isPaused(tp stream.TopicPartition) bool {
	return w.paused.Has(w.p.served[tp.Topic].commands.def.Name, tp.Partition)
}

// heedPauses takes paused partitions out of the engine, as if they were given away,
// and restores those that go on. Nothing of a paused partition is looked at: visits
// from other partitions go to its topic, holds and timers stay in the log.
func (w *worker) heedPauses() {
	next := w.cfg.Pauses()
	if next == w.paused {
		return
	}
	before := w.paused
	w.settle()
	w.paused, w.engine.orders = next, next
	for _, tp := range w.ownedPartitions() {
		name := w.p.served[tp.Topic].commands.def.Name
		switch was, is := before.Has(name, tp.Partition), next.Has(name, tp.Partition); {
		case is && !was:
			if err := w.group.Pause(tp); err != nil {
				// Its records are dropped, since the engine does not have it.
				w.cfg.Logger.Warn("a partition could not be paused", "topic", tp.Topic, "partition", tp.Partition, "error", err)
			}
			w.cancelRestore(tp)
			w.engine.drop(tp)
			w.cfg.Logger.Info("partition paused", "topic", tp.Topic, "partition", tp.Partition)
		case was && !is:
			w.restore(tp)
			w.cfg.Logger.Info("partition goes on", "topic", tp.Topic, "partition", tp.Partition)
		}
	}
}
