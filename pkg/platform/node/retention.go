package node

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

const (
	// retentionInterval is how often old storage records are looked for.
	retentionInterval = time.Minute
	// retentionBehind is what a new owner of a partition reads before the
	// watermark.
	retentionBehind = 10_000
)

// keepRetention deletes storage records that are older than they have to be
// kept, once every target has them: those that the published version names, and
// those of this node.
func (n *Node) keepRetention(ctx context.Context, router *platform.Router) error {
	admin, err := stream.NewAdmin(n.cfg.log())
	if err != nil {
		return err
	}
	defer admin.Close()
	tick := time.NewTicker(retentionInterval)
	defer tick.Stop()
	for {
		n.trim(ctx, admin, router, time.Now())
		n.removeFormer(ctx, admin, router, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (n *Node) trim(ctx context.Context, admin *stream.Admin, router *platform.Router, now time.Time) {
	published, names := router.Config(), router.Names()
	targets := map[string]bool{}
	for _, t := range published.GetStorageTargets() {
		targets[t] = true
	}
	for t := range n.targets {
		targets[t] = true
	}
	for _, c := range published.GetConcerns() {
		if c.GetStorageRetentionMs() <= 0 || ctx.Err() != nil {
			continue
		}
		r := storage.Retention{Topic: names.StorageTopic(c.GetName()), Partitions: c.GetPartitions(), Behind: retentionBehind}
		for _, t := range slices.Sorted(maps.Keys(targets)) {
			r.Groups = append(r.Groups, names.StorageGroup(c.GetName(), t))
		}
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := r.Apply(ctx, admin, now.Add(-time.Duration(c.GetStorageRetentionMs())*time.Millisecond))
		cancel()
		if err != nil {
			n.cfg.Logger.Warn("old storage records could not be deleted; trying again", "concern", c.GetName(), "error", err)
		}
	}
}
