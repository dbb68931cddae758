package concern

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockedBuffer is written by the watchdog and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestWatchdogReportsHandlers(t *testing.T) {
	d, log := &watchdog{}, &lockedBuffer{}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.watch(ctx, slog.New(slog.NewTextHandler(log, nil)), 50*time.Millisecond) })
	defer wg.Wait()
	defer cancel()
	until := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("never: %s\n%s", what, log)
			}
		}
	}
	d.begin(Context{concern: "c", key: "slow"}, "Sleep")
	until("reported", d.blocked.Load)
	d.end()
	until("over", func() bool { return !d.blocked.Load() })
	until("said", func() bool { return strings.Contains(log.String(), "has come back") })
	if !strings.Contains(log.String(), "does not come back") || !strings.Contains(log.String(), "key=slow command=Sleep") {
		t.Errorf("the log is %s", log)
	}
}
