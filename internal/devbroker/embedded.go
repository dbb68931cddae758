package devbroker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
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
	dir       string
	lock      *os.File
	close     sync.Once
}

// openMark is there while a broker uses the folder, and after it was killed.
const openMark = "open"

// StartEmbedded starts a broker. Every write reaches the operating system
// before it is acknowledged, so data survives the end of the process, kill -9
// included, but not that of the machine. Transactions that were open then are
// aborted and their producers fenced. One thing kfake cannot do: the end of a
// transaction is several writes, and a kill between two of them tears it.
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
		kfake.BrokerConfigs(map[string]string{"message.max.bytes": strconv.Itoa(10<<20 + 64<<10)}),
		kfake.WithLogger(logger{cfg.Logger}),
	}
	e := &Embedded{dir: cfg.DataDir}
	if n != 0 {
		if err := portIsFree(ctx, cfg.Addr); err != nil {
			return nil, fmt.Errorf("embedded broker: %w", err)
		}
	}
	if e.dir != "" {
		if err := e.openDir(ctx); err != nil {
			return nil, fmt.Errorf("embedded broker: %w", err)
		}
		opts = append(opts, kfake.DataDir(cfg.DataDir))
	}
	if e.cluster, err = kfake.NewCluster(opts...); err != nil {
		_ = e.lock.Close() // does no harm where there is none
		return nil, fmt.Errorf("embedded broker at %s: %w", cfg.Addr, err)
	}
	e.bootstrap = e.cluster.ListenAddrs()[0]
	return e, nil
}

// openDir locks the folder and mends what a kill left behind.
func (e *Embedded) openDir(ctx context.Context) error {
	var err error
	if e.lock, err = lockDir(ctx, e.dir); err != nil {
		return err
	}
	mark := filepath.Join(e.dir, openMark)
	if _, err = os.Stat(mark); err == nil {
		err = recoverEmbedded(e.dir)
	} else if errors.Is(err, os.ErrNotExist) {
		err = os.WriteFile(mark, nil, 0o600)
	}
	if err != nil {
		return errors.Join(err, e.lock.Close())
	}
	return nil
}

// Bootstrap returns the broker's address as host:port.
func (e *Embedded) Bootstrap() string { return e.bootstrap }

// Close stops the broker and writes all that it has to disk.
func (e *Embedded) Close() {
	e.close.Do(func() {
		e.cluster.Close()
		if e.dir != "" {
			_ = os.Remove(filepath.Join(e.dir, openMark)) // else it is recovered, in vain
			_ = e.lock.Close()
		}
	})
}

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

// Compact compacts the topics that ask for it, for tests.
func (e *Embedded) Compact() { e.cluster.Compact() }
