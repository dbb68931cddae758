package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
)

type storageConfig struct {
	Node nodeConfig `json:"node"`
	// Changes is how many there are in the storage topic.
	Changes uint64 `json:"changes"`
}

type storageReady struct {
	// Took is the time from the first batch being written to the last.
	Took    time.Duration `json:"took_ns"`
	Batches uint64        `json:"batches"`
}

// runStorage is a child that runs one storage writer until it has applied all
// that is in its topic, and then says how long that took.
func runStorage(ctx context.Context, cfg storageConfig) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p := cfg.Node.platform()
	names := p.Names()
	target, err := postgres.Open(postgres.Config{DSN: cfg.Node.DSN, Mappings: application().Mappings(), Logger: logger})
	if err != nil {
		return err
	}
	defer target.Close()
	timed := &timedTarget{Target: target}
	w, err := storage.NewWriter(storage.WriterConfig{
		Stream: node.Stream(p, "bench", logger), Group: names.StorageGroup(concernName, targetName), Concern: concernName,
		Generation: names.Generation(concernName), Topic: names.StorageTopic(concernName), Target: timed, Logger: logger,
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for w.Status().Changes < cfg.Changes {
		select {
		case <-tick.C:
		case err := <-done:
			return errors.Join(err, errors.New("the writer ended before it was done"))
		}
	}
	err = serveChild(os.Stdin, os.Stdout, storageReady{Took: timed.last.Sub(timed.first), Batches: w.Status().Batches}, nil)
	stop()
	return errors.Join(err, <-done)
}

// timedTarget notes when the first batch came and the last one was written. The
// time to join the group is not in it, that of reading and decoding is, but for
// the first batch. Its times may be read once all changes are applied.
type timedTarget struct {
	storage.Target
	first, last time.Time
}

// Apply implements storage.Target.
func (t *timedTarget) Apply(ctx context.Context, batches []storage.Batch) error {
	if t.first.IsZero() {
		t.first = time.Now()
	}
	err := t.Target.Apply(ctx, batches)
	t.last = time.Now()
	return err
}
