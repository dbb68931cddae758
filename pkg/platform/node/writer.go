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
	cfg             storage.WriterConfig
	now             atomic.Pointer[storage.Writer]
}

// addWriters makes the writers of the node's targets, in the order of the
// platform file.
func (n *Node) addWriters(router *platform.Router) {
	names := router.Names()
	var writers []*writer
	for _, t := range n.cfg.writtenTargets() {
		for _, c := range n.cfg.usedConcerns() {
			name := c.Definition.Name
			writers = append(writers, &writer{concern: name, target: t.Name, cfg: storage.WriterConfig{
				Stream: n.cfg.log(), Group: names.StorageGroup(name, t.Name), Concern: name, Generation: names.Generation(name),
				Topic: names.StorageTopic(name), Target: n.targets[t.Name], SessionTimeout: n.cfg.SessionTimeout,
				Logger: n.cfg.Logger.With("target", t.Name), TargetName: t.Name,
				TracerProvider: n.cfg.TracerProvider, MeterProvider: n.cfg.MeterProvider,
			}})
		}
	}
	n.mu.Lock()
	n.writers = writers
	n.mu.Unlock()
}

func (w *writer) run(ctx context.Context) error {
	now, err := storage.NewWriter(w.cfg)
	if err != nil {
		return err
	}
	w.now.Store(now)
	return now.Run(ctx)
}
