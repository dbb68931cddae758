package node

import (
	"context"
	"sync"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
)

// processors holds the processor that runs now.
type processors struct {
	mu  sync.Mutex
	now *concern.Processor
}

func (p *processors) set(now *concern.Processor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = now
}

func (p *processors) get() *concern.Processor {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// settled reports whether the processor has joined its group and serves what
// it was given.
func (p *processors) settled() bool {
	now := p.get()
	return now != nil && now.Settled()
}

// runProcessor makes a processor and runs it, once it is known what handlers
// are to see of config Concerns.
func (n *Node) runProcessor(ctx context.Context, router *platform.Router) error {
	if err := n.configs.await(ctx); err != nil {
		return nil //nolint:nilerr // the caller ended it
	}
	select {
	case <-n.presence.announced: // so that it is known what is paused
	case <-ctx.Done():
		return nil
	}
	primary, _ := n.cfg.Platform.WithDefaults().Primary()
	limits := n.cfg.Platform.WithDefaults().Processor
	names := router.Names()
	cfg := concern.Config{
		Stream:         n.cfg.log(),
		Group:          names.ProcessGroup(),
		ResponseTopic:  names.ResponseTopic(),
		Router:         router,
		Loader:         n.targets[primary.Name],
		Workers:        limits.Workers,
		CacheBytes:     int64(limits.CacheBytes),
		BatchMax:       limits.BatchMax,
		SessionTimeout: n.cfg.SessionTimeout,
		ConfigSet:      n.configs.now.Load,
		Pauses:         n.presence.orders.Load,
		Logger:         n.cfg.Logger,
		TracerProvider: n.cfg.TracerProvider, MeterProvider: n.cfg.MeterProvider,
	}
	for _, c := range n.cfg.usedConcerns() {
		name := c.Definition.Name
		cfg.Concerns = append(cfg.Concerns, concern.Served{
			Definition: c.Definition,
			Topics: concern.Topics{
				Process: names.ProcessTopic(name), State: names.StateTopic(name),
				Storage: names.StorageTopic(name), Error: names.ErrorTopic(name),
			},
			StorageGroup: names.StorageGroup(name, primary.Name),
		})
	}
	p, err := concern.NewProcessor(cfg)
	if err != nil {
		return err
	}
	n.processors.set(p)
	return p.Run(ctx)
}
