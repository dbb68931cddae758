package node

import (
	"context"
	"sync"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
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

// serveProcessor makes a processor that goes by one version, and runs it.
func (n *Node) serveProcessor(ctx context.Context, v *rkcyv1.PlatformVersion) error {
	router := platform.NewRouter(v.GetConfig())
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
			Retired:      retiredTopics(v.GetConfig(), names, name),
		})
	}
	p, err := concern.NewProcessor(cfg)
	if err != nil {
		return err
	}
	n.processors.set(p)
	return p.Run(ctx)
}

// retiredTopics returns the process topics of the former generations of a
// Concern.
func retiredTopics(p *rkcyv1.PlatformConfig, names platform.Names, name string) (out []concern.Retired) {
	c, err := platform.ConcernOf(p, name)
	if err != nil {
		return nil
	}
	for _, r := range c.GetRetired() {
		out = append(out, concern.Retired{Process: names.Of(name, platform.KindProcess, r.GetGeneration())})
	}
	return out
}
