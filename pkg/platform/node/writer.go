package node

import (
	"context"
	"sync/atomic"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
)

// writer is the storage worker of one Concern and one target.
type writer struct {
	concern, target string
	cfg             storage.WriterConfig // of no generation
	moves           *moves
	now             atomic.Pointer[storage.Writer]
	presence        *presence
}

// addWriters makes the writers of the node's targets, in the order of the
// platform file.
func (n *Node) addWriters(router *platform.Router) {
	names := router.Names()
	var writers []*writer
	for _, t := range n.cfg.writtenTargets() {
		for _, c := range n.cfg.usedConcerns() {
			name := c.Definition.Name
			writers = append(writers, &writer{concern: name, target: t.Name, presence: n.presence, moves: n.moves, cfg: storage.WriterConfig{
				Stream: n.cfg.log(), Group: names.StorageGroup(name, t.Name), Concern: name,
				Target: n.targets[t.Name], SessionTimeout: n.cfg.SessionTimeout,
				Logger: n.cfg.Logger.With("target", t.Name), TargetName: t.Name,
				TracerProvider: n.cfg.TracerProvider, MeterProvider: n.cfg.MeterProvider,
			}})
		}
	}
	n.mu.Lock()
	n.writers = writers
	n.mu.Unlock()
}

// run writes until ctx ends, but not while the target is paused.
func (w *writer) run(ctx context.Context) error {
	select {
	case <-w.presence.announced: // so that it is known what is paused
	case <-ctx.Done():
		return nil
	}
	for ctx.Err() == nil {
		changed := w.presence.change()
		if w.presence.targetPaused(w.target) {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if err := w.write(ctx); err != nil {
			return err
		}
	}
	return nil
}

// write writes until ctx ends or the target is paused.
func (w *writer) write(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for {
			changed := w.presence.change()
			if w.presence.targetPaused(w.target) {
				stop()
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return w.writeGenerations(ctx)
}
