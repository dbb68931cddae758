package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// drainedInterval is how often is looked whether a target has passed a former
// generation.
const drainedInterval = 200 * time.Millisecond

// writeGenerations writes one generation of the Concern's changes after the other: a later
// one begins when the target has all of the one before, so that the rows of an
// instance keep their order.
func (w *writer) writeGenerations(ctx context.Context) error {
	for ctx.Err() == nil {
		v, _, _ := w.moves.look()
		c, err := platform.ConcernOf(v.GetConfig(), w.concern)
		if err != nil {
			return err
		}
		generation := c.GetGeneration()
		for _, r := range c.GetRetired() {
			if done, err := w.passed(ctx, r); err != nil || !done {
				// While the target is away its writer waits for it, and says so.
				generation = r.GetGeneration()
				break
			}
		}
		if err := w.writeGeneration(ctx, platform.NewNames(v.GetConfig()).Of(w.concern, platform.KindStorage, generation), generation); err != nil {
			return err
		}
	}
	return nil
}

// passed reports whether the target has all of a former generation.
func (w *writer) passed(ctx context.Context, r *rkcyv1.RetiredGeneration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ask := make([]storage.Partition, r.GetPartitions())
	for i := range ask {
		ask[i] = storage.Partition{Concern: w.concern, Generation: r.GetGeneration(), Partition: int32(i)} //nolint:gosec // below Partitions
	}
	marks, err := w.cfg.Target.Watermarks(ctx, ask)
	if err != nil {
		return false, fmt.Errorf("watermarks: %w", err)
	}
	if len(r.GetStorageEnds()) != len(ask) {
		return false, fmt.Errorf("generation %d of Concern %s has no ends", r.GetGeneration(), w.concern)
	}
	for i, end := range r.GetStorageEnds() {
		if marks[ask[i]] < end {
			return false, nil
		}
	}
	return true, nil
}

// writeGeneration runs the writer of one generation: a former one until the target has
// passed it.
func (w *writer) writeGeneration(ctx context.Context, topic string, generation uint32) error {
	cfg := w.cfg
	cfg.Topic, cfg.Generation = topic, generation
	now, err := storage.NewWriter(cfg)
	if err != nil {
		return err
	}
	w.now.Store(now)
	run, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer stop()
		w.untilPassed(run, generation)
	}()
	err = now.Run(run)
	stop()
	<-done
	return err
}

// untilPassed returns when a generation is a former one and the target has
// passed it, or ctx ends.
func (w *writer) untilPassed(ctx context.Context, generation uint32) {
	for ctx.Err() == nil {
		v, _, changed := w.moves.look()
		c, _ := platform.ConcernOf(v.GetConfig(), w.concern)
		pause := make(<-chan time.Time)
		for _, r := range c.GetRetired() {
			if r.GetGeneration() == generation {
				if done, err := w.passed(ctx, r); err == nil && done {
					return
				}
				pause = time.After(drainedInterval)
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-pause:
		}
	}
}

// retiredKept is how long the topics of a former generation stay after the
// switch, for edges that did not hear of it.
const retiredKept = time.Hour

// removeRetired deletes topics of former generations that every target has
// passed. The storage topic stays if changes are to be kept for ever: a target
// that is added later begins with it.
func (n *Node) removeRetired(ctx context.Context, admin *stream.Admin, p *rkcyv1.PlatformConfig, targets []string, now time.Time) error {
	names := platform.NewNames(p)
	topics, err := admin.Topics(ctx)
	if err != nil {
		return err
	}
	for _, c := range p.GetConcerns() {
		for _, r := range c.GetRetired() {
			if now.Sub(time.UnixMilli(r.GetTimeMs())) < retiredKept {
				continue
			}
			var old []string
			for _, kind := range []platform.Kind{platform.KindProcess, platform.KindState, platform.KindStorage} {
				topic := names.Of(c.GetName(), kind, r.GetGeneration())
				if _, exists := topics[topic]; exists && (kind != platform.KindStorage || c.GetStorageRetentionMs() > 0) {
					old = append(old, topic)
				}
			}
			if len(old) == 0 {
				continue
			}
			passed, err := passedBy(ctx, admin, names, c.GetName(), r, targets)
			if err != nil || !passed {
				return err
			}
			if err := admin.DeleteTopics(ctx, old); err != nil {
				return err
			}
			n.cfg.Logger.Info("topics of a former generation were removed", "concern", c.GetName(), "generation", r.GetGeneration())
		}
	}
	return nil
}

// passedBy reports whether every target has all of a former generation, as the
// groups of their writers tell.
func passedBy(ctx context.Context, admin *stream.Admin, names platform.Names, name string, r *rkcyv1.RetiredGeneration, targets []string) (bool, error) {
	tps := make([]stream.TopicPartition, r.GetPartitions())
	for i := range tps {
		tps[i] = stream.TopicPartition{Topic: names.Of(name, platform.KindStorage, r.GetGeneration()), Partition: int32(i)} //nolint:gosec // below Partitions
	}
	for _, t := range targets {
		applied, err := admin.GroupOffsets(ctx, names.StorageGroup(name, t), tps)
		if err != nil {
			return false, err
		}
		for i, end := range r.GetStorageEnds() {
			if max(applied[tps[i]], 0) < end {
				return false, nil
			}
		}
	}
	return len(targets) > 0, nil
}

// removeFormer is removeRetired for the targets that the published version and
// this node name.
func (n *Node) removeFormer(ctx context.Context, admin *stream.Admin, router *platform.Router, now time.Time) {
	published := router.Config()
	targets := map[string]bool{}
	for _, t := range published.GetStorageTargets() {
		targets[t] = true
	}
	for t := range n.targets {
		targets[t] = true
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := n.removeRetired(ctx, admin, published, slices.Sorted(maps.Keys(targets)), now); err != nil && ctx.Err() == nil {
		n.cfg.Logger.Warn("topics of former generations could not be removed; trying again", "error", err)
	}
}
