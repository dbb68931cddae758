package streamtest

import (
	"crypto/rand"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// EnvKafka names a running broker, as host:port, that tests use instead of
// one of their own.
const EnvKafka = devbroker.EnvKafka

// Broker returns the address of a broker that lives as long as the test.
func Broker(t testing.TB) string {
	t.Helper()
	if at := os.Getenv(EnvKafka); at != "" {
		return at
	}
	b, err := devbroker.StartEmbedded(t.Context(), devbroker.EmbeddedConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.Bootstrap()
}

// Config returns the configuration of clients of Broker.
func Config(t testing.TB) stream.Config {
	t.Helper()
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	return stream.Config{
		Bootstrap: Broker(t), Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: level})),
	}
}

// Name returns a name that no other test uses, on a broker that tests share.
func Name(prefix string) string { return prefix + "-" + strings.ToLower(rand.Text()[:10]) }

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	// A goroutine that the test waits for in a cleanup may still log.
	defer func() { _ = recover() }()
	w.t.Log(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}
