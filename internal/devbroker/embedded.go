package devbroker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// EmbeddedConfig configures an embedded broker.
type EmbeddedConfig struct {
	// DataDir keeps topics, groups and transactions over restarts. Empty:
	// memory only.
	DataDir string
	// Addr is where to listen, host:port; port 0 picks a free one. Default
	// 127.0.0.1:0.
	Addr   string
	Logger *slog.Logger
}

// Embedded is a Kafka-compatible broker in this process.
type Embedded struct {
	cluster   *kfake.Cluster
	bootstrap string
}

// StartEmbedded starts a broker. Every write reaches the operating system
// before it is acknowledged, so data survives the end of the process, but not
// that of the machine.
func StartEmbedded(ctx context.Context, cfg EmbeddedConfig) (*Embedded, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	_, port, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: address %q: %w", cfg.Addr, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("embedded broker: port %q: %w", port, err)
	}
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.Ports(n),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			var lc net.ListenConfig
			return lc.Listen(ctx, network, cfg.Addr)
		}),
		kfake.GroupMinSessionTimeout(500 * time.Millisecond),
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": strconv.Itoa(8 << 20)}),
		kfake.WithLogger(logger{cfg.Logger}),
	}
	if cfg.DataDir != "" {
		opts = append(opts, kfake.DataDir(cfg.DataDir))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("embedded broker at %s: %w", cfg.Addr, err)
	}
	return &Embedded{cluster: cluster, bootstrap: cluster.ListenAddrs()[0]}, nil
}

// Bootstrap returns the broker's address as host:port.
func (e *Embedded) Bootstrap() string { return e.bootstrap }

// Close stops the broker and writes all that it has to disk.
func (e *Embedded) Close() { e.cluster.Close() }

// logger passes kfake's log on, one level lower: its information is per
// request.
type logger struct{ l *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	to := slog.LevelDebug
	if level == kfake.LogLevelError {
		to = slog.LevelWarn
	}
	if level <= kfake.LogLevelWarn && l.l.Enabled(context.Background(), to) {
		l.l.Log(context.Background(), to, "embedded broker: "+fmt.Sprintf(format, args...))
	}
}
