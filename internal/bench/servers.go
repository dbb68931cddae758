package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
)

// startPostgres starts a PostgreSQL with its usual settings for durability.
func startPostgres(ctx context.Context, dir string, logger *slog.Logger) (*devpostgres.Server, error) {
	return devpostgres.Start(ctx, devpostgres.Config{
		DataDir: filepath.Join(dir, "postgres"), Logger: logger,
		Settings: map[string]string{"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "256MB"},
		Progress: func(text string) { _, _ = fmt.Fprintln(os.Stderr, text) },
	})
}

// broker is a broker in a process of its own.
type broker struct {
	bootstrap string
	pid       int
	stop      func() error
}

func startBroker(ctx context.Context, kind, dir string, logger *slog.Logger) (*broker, error) {
	switch kind {
	case brokerKafka:
		k, err := devbroker.StartKafka(ctx, devbroker.KafkaConfig{DataDir: filepath.Join(dir, "kafka"), HeapMB: 1024, Logger: logger})
		if err != nil {
			return nil, err
		}
		return &broker{bootstrap: k.Bootstrap(), pid: k.PID(0), stop: k.Close}, nil
	case brokerEmbedded:
		var ready brokerReady
		c, err := startChild("broker", brokerConfig{DataDir: filepath.Join(dir, "embedded")}, &ready)
		if err != nil {
			return nil, err
		}
		return &broker{bootstrap: ready.Bootstrap, pid: c.cmd.Process.Pid, stop: c.stop}, nil
	default:
		return nil, errors.New("unknown broker " + kind)
	}
}
