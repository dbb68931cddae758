package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/configset"
)

// configs has the instances of the application's config Concerns.
type configs struct {
	now   atomic.Pointer[concern.ConfigSet]
	known chan struct{} // closed once the topic has been read to its end
	once  sync.Once
}

func newConfigs() *configs { return &configs{known: make(chan struct{})} }

// take replaces all sets at once.
func (c *configs) take(s *configset.State) {
	var set *concern.ConfigSet
	for _, name := range slices.Sorted(maps.Keys(s.Sets)) {
		set = set.With(s.Version, name, s.Sets[name].Instances)
	}
	c.now.Store(set)
	c.once.Do(func() { close(c.known) })
}

// await waits until the sets are known.
func (c *configs) await(ctx context.Context) error {
	select {
	case <-c.known:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// followConfigs keeps the sets up to date. Without config Concerns there is
// nothing to know.
func (n *Node) followConfigs(ctx context.Context, names platform.Names) error {
	definitions := n.cfg.Application.ConfigConcerns
	if len(definitions) == 0 {
		n.configs.take(&configset.State{})
		<-ctx.Done()
		return nil
	}
	own := make([]configset.Definition, len(definitions))
	for i, d := range definitions {
		own[i] = configset.Definition(d)
	}
	err := configset.Follow(ctx, n.cfg.log(), names, own, func(s *configset.State) {
		n.configs.take(s)
		n.cfg.Logger.Info("config Concerns are known", "version", s.Version)
	})
	if err == nil && ctx.Err() == nil {
		return errors.New("following ended")
	}
	return err
}

// ConfigVersion returns the version of the config Concerns that the node's
// processor goes by, 0 if nothing was published, the application has none, or
// the node has no processor. Safe for concurrent use.
func (n *Node) ConfigVersion() uint64 {
	if s := n.configs.now.Load(); s != nil {
		return s.Version
	}
	return 0
}
