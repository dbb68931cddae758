package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// cluster is the processors. It is used by one goroutine.
type cluster struct {
	cfg       Config
	site      site
	inside    []*running
	processes []*process
	stats     *Stats
}

// running is a processor of this process.
type running struct {
	p      *concern.Processor
	cancel context.CancelFunc
	done   chan error
}

func (c *cluster) startInside() error {
	cfg := c.site.processor(c.cfg.Stream)
	if c.cfg.Configure != nil {
		cfg = c.cfg.Configure(cfg)
	}
	p, err := concern.NewProcessor(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{p: p, cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- p.Run(ctx) }()
	c.inside = append(c.inside, r)
	return nil
}

func (c *cluster) stopInside(i int) error {
	r := c.inside[i]
	c.inside = append(c.inside[:i:i], c.inside[i+1:]...)
	r.cancel()
	if err := <-r.done; err != nil {
		return fmt.Errorf("a processor ended: %w", err)
	}
	s := r.p.Status()
	c.stats.Engine = c.stats.Engine.Add(s.Stats)
	return nil
}

func (c *cluster) startOutside() error {
	p, err := startProcess(c.cfg.Child, c.site)
	if err == nil {
		c.processes = append(c.processes, p)
	}
	return err
}

func (c *cluster) start() error {
	for range c.cfg.Processors {
		if err := c.startInside(); err != nil {
			return err
		}
	}
	if c.cfg.Child != "" {
		return c.startOutside()
	}
	return nil
}

func (c *cluster) stop() error {
	var faults []error
	for _, p := range c.processes {
		faults = append(faults, p.kill())
	}
	c.processes = nil
	for len(c.inside) > 0 {
		faults = append(faults, c.stopInside(0))
	}
	return errors.Join(faults...)
}

// disturb makes partitions move, until ctx ends: processors come and go, and
// processes die.
func (c *cluster) disturb(ctx context.Context, rng *rand.Rand) error {
	if c.cfg.Disturb <= 0 {
		return nil
	}
	tick := time.NewTicker(c.cfg.Disturb)
	defer tick.Stop()
	for kill := true; ; kill = !kill {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var err error
		if kill && len(c.processes) > 0 {
			at := rng.IntN(len(c.processes))
			err = c.processes[at].kill()
			c.processes = append(c.processes[:at:at], c.processes[at+1:]...)
			c.stats.Kills++
			err = errors.Join(err, c.startOutside())
		} else {
			// The new one first, so that somebody is always there.
			err = c.startInside()
			err = errors.Join(err, c.stopInside(rng.IntN(len(c.inside)-1)))
			c.stats.Moves++
		}
		if err != nil {
			return err
		}
	}
}

// topics makes what the site needs.
func (s site) topics(ctx context.Context, log stream.Config) error {
	admin, err := stream.NewAdmin(log)
	if err != nil {
		return err
	}
	defer admin.Close()
	specs := []stream.TopicSpec{{Name: s.responses(), Partitions: 1, Replication: 1}}
	for _, c := range concerns {
		for _, kind := range []string{"process", "state", "storage"} {
			specs = append(specs, stream.TopicSpec{Name: s.topic(c, kind), Partitions: int(s.Partitions), Replication: 1})
		}
		specs = append(specs, stream.TopicSpec{Name: s.topic(c, "error"), Partitions: 1, Replication: 1})
	}
	_, err = admin.EnsureTopics(ctx, specs)
	return err
}
