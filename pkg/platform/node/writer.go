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

func (n *Node) addWriters(router *platform.Router) {
	names := router.Names()
	for _, c := range n.cfg.Application.AllConcerns() {
		for target, db := range n.targets {
			name := c.Definition.Name
			n.writers = append(n.writers, &writer{concern: name, target: target, cfg: storage.WriterConfig{
				Stream: n.cfg.log(), Group: names.StorageGroup(name, target), Concern: name, Generation: names.Generation(name),
				Topic: names.StorageTopic(name), Target: db, SessionTimeout: n.cfg.SessionTimeout, Logger: n.cfg.Logger,
			}})
		}
	}
}

func (w *writer) run(ctx context.Context) error {
	now, err := storage.NewWriter(w.cfg)
	if err != nil {
		return err
	}
	w.now.Store(now)
	return now.Run(ctx)
}
