package node

import (
	"context"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// RemoveRetired is for tests, which have another time.
func (n *Node) RemoveRetired(ctx context.Context, admin *stream.Admin, p *rkcyv1.PlatformConfig, targets []string, now time.Time) error {
	return n.removeRetired(ctx, admin, p, targets, now)
}
