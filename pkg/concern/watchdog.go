package concern

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// handlerPatience is how long a handler may run before somebody is told. It
// cannot be ended from outside, and while it runs nothing else of its worker
// does.
const handlerPatience = 10 * time.Second

// runningHandler is one call of a handler.
type runningHandler struct {
	ctx     Context
	command string
}

// watchdog reports handlers that do not come back. The worker's goroutine calls
// begin and end, another one watch.
type watchdog struct {
	running atomic.Pointer[runningHandler]
	// blocked says that the one that runs is late.
	blocked atomic.Bool
}

// begin is called before a handler runs, end behind it. Both do nothing on nil.
func (d *watchdog) begin(ctx Context, command string) {
	if d != nil {
		d.running.Store(&runningHandler{ctx, command})
	}
}

func (d *watchdog) end() {
	if d != nil {
		d.running.Store(nil)
	}
}

// watch looks at the handler that runs, ten times in patience, until ctx ends.
func (d *watchdog) watch(ctx context.Context, logger *slog.Logger, patience time.Duration) {
	tick := time.NewTicker(patience / 10)
	defer tick.Stop()
	var seen *runningHandler
	var since time.Time
	for {
		var now time.Time
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
		at := d.running.Load()
		if at != seen {
			if seen != nil && d.blocked.Swap(false) {
				logger.Warn("a handler has come back", append(seen.describe(), "took_at_least", now.Sub(since).Round(time.Millisecond))...)
			}
			seen, since = at, now
			continue
		}
		if at != nil && now.Sub(since) >= patience && !d.blocked.Swap(true) {
			logger.Error("a handler does not come back; its worker's partitions stand still until it does or the process is killed",
				append(at.describe(), "for", now.Sub(since).Round(time.Millisecond))...)
		}
	}
}

func (h *runningHandler) describe() []any {
	return []any{"txn_id", h.ctx.TxnID().String(), "concern", h.ctx.Concern(), "key", h.ctx.Key(), "command", h.command}
}
