package node

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// supervise runs a part until ctx ends, and starts it again when it fails, with
// a pause that grows up to 5 s and shrinks again once the part has run for a
// while.
func supervise(ctx context.Context, logger *slog.Logger, name string, run func(context.Context) error) {
	const shortest, longest = 100 * time.Millisecond, 5 * time.Second
	pause := shortest
	for {
		began := time.Now()
		err := run(ctx)
		if ctx.Err() != nil {
			if err != nil && !errors.Is(err, context.Canceled) {
				logger.Warn("a part did not stop cleanly", "part", name, "error", err)
			}
			return
		}
		if time.Since(began) > time.Minute {
			pause = shortest
		}
		logger.Error("a part failed and is started again", "part", name, "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, longest)
	}
}
