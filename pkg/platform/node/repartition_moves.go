package node

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// moves says by which version of the platform the parts of a node work, and
// whether its processor must stand still. Safe for concurrent use.
type moves struct {
	mu      sync.Mutex
	version *rkcyv1.PlatformVersion
	// operation is the change of partitions that is under way, until when it is
	// waited for.
	operation string
	until     time.Time
	changed   chan struct{}
}

func newMoves() *moves { return &moves{changed: make(chan struct{})} }

func (g *moves) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// publish takes note of a version.
func (g *moves) publish(v *rkcyv1.PlatformVersion) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if v.GetVersion() <= g.version.GetVersion() {
		return
	}
	if !sameGenerations(g.version.GetConfig(), v.GetConfig()) {
		g.operation = ""
	}
	g.version = v
	g.wake()
}

// announce takes note of the begin or the end of a change of partitions.
func (g *moves) announce(op *rkcyv1.Operation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case op.GetOutcome() == "":
		g.operation, g.until = op.GetId(), time.Now().Add(platform.RepartitionLease)
	case op.GetId() == g.operation:
		g.operation = ""
	}
	g.wake()
}

// look returns the version to go by, how long the processor has to stand still
// unless something changes, and what is closed when something does.
func (g *moves) look() (v *rkcyv1.PlatformVersion, wait time.Duration, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.operation != "" {
		if wait = time.Until(g.until); wait <= 0 {
			g.operation = ""
		}
	}
	return g.version, max(wait, 0), g.changed
}

// generations returns the generation of each Concern.
func generations(p *rkcyv1.PlatformConfig) map[string]uint32 {
	out := map[string]uint32{}
	for _, c := range p.GetConcerns() {
		out[c.GetName()] = c.GetGeneration()
	}
	return out
}

// sameGenerations reports whether no Concern of a has another generation in b.
func sameGenerations(a, b *rkcyv1.PlatformConfig) bool {
	have, now := generations(a), generations(b)
	maps.DeleteFunc(have, func(name string, generation uint32) bool { return now[name] == generation })
	return len(have) == 0
}

// runProcessor runs the processor, by the version that is current: when the
// number of partitions is about to change it stops, and it goes on with the new
// topics, or with the old ones if nothing came of it.
func (n *Node) runProcessor(ctx context.Context, _ *platform.Router) error {
	if err := n.configs.await(ctx); err != nil {
		return nil //nolint:nilerr // the caller ended it
	}
	select {
	case <-n.presence.announced: // so that it is known what is paused
	case <-ctx.Done():
		return nil
	}
	for ctx.Err() == nil {
		v, wait, changed := n.moves.look()
		if wait > 0 {
			n.cfg.Logger.Info("the processor stands still while partitions are moved", "at_most", wait.Round(time.Second))
			select {
			case <-ctx.Done():
			case <-changed:
			case <-time.After(wait):
			}
			continue
		}
		if err := n.runUntilMoved(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// runUntilMoved runs a processor of one version until it has to stop.
func (n *Node) runUntilMoved(ctx context.Context, v *rkcyv1.PlatformVersion) error {
	run, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		defer stop()
		for {
			now, wait, changed := n.moves.look()
			if wait > 0 || !sameGenerations(v.GetConfig(), now.GetConfig()) {
				return
			}
			select {
			case <-run.Done():
				return
			case <-changed:
			}
		}
	})
	err := n.serveProcessor(run, v)
	stop()
	watching.Wait()
	return err
}

// watchRepartitions follows announcements of changes of partitions.
func (n *Node) watchRepartitions(ctx context.Context) error {
	err := platform.FollowRepartitions(ctx, n.cfg.log(), n.cfg.Platform.Names(), nil, n.moves.announce)
	if err == nil && ctx.Err() == nil {
		return errors.New("the watch ended")
	}
	return err
}
