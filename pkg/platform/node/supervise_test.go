package node

import (
	"context"
	"errors"
	"log/slog"
	"testing"
)

// A part that fails runs again, until there is an end.
func TestSupervise(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	runs := 0
	supervise(ctx, slog.New(slog.DiscardHandler), "part", func(context.Context) error {
		if runs++; runs == 3 {
			cancel()
		}
		return errors.New("broken")
	})
	if runs != 3 {
		t.Errorf("%d runs, want 3", runs)
	}
}
