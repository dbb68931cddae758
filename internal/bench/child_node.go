package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

// nodeReady is what a node says when it serves.
type nodeReady struct {
	GRPC string `json:"grpc"`
	// Settled is the time from the last assignment of partitions until all of
	// them are served, SinceFirst that from the first one: the workers of a node
	// join the group one after the other, each with a rebalance.
	Settled    time.Duration `json:"settled_ns"`
	SinceFirst time.Duration `json:"since_first_ns"`
	// Restores lists how long each partition took, as the node logs it.
	Restores []restored `json:"restores"`
}

type restored struct {
	Topic     string        `json:"topic"`
	Partition int64         `json:"partition"`
	Instances int64         `json:"instances"`
	Took      time.Duration `json:"took_ns"`
}

// runNode is a child that runs a node, in full or some roles of it.
func runNode(ctx context.Context, cfg nodeConfig) error {
	watch := &restoreWatch{Handler: slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})}
	n, err := node.New(node.Config{
		Application: application(), Platform: cfg.platform(), Roles: cfg.Roles, Logger: slog.New(watch),
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	select {
	case err := <-done:
		return errors.Join(err, errors.New("the node ended by itself"))
	case <-n.Ready():
	}
	err = serveChild(os.Stdin, os.Stdout, watch.ready(n.GRPCAddr()), func(u *usage) {
		u.Processor, _ = n.ProcessorStatus()
	})
	stop()
	return errors.Join(err, <-done)
}

// restoreWatch passes warnings on, and notes what the log says of restores.
type restoreWatch struct {
	slog.Handler
	mu          sync.Mutex
	first, last time.Time
	restores    []restored
}

// Enabled implements slog.Handler.
func (w *restoreWatch) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// WithAttrs implements slog.Handler. The node's loggers have no attributes.
func (w *restoreWatch) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup implements slog.Handler.
func (w *restoreWatch) WithGroup(string) slog.Handler { return w }

// Handle implements slog.Handler.
func (w *restoreWatch) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		return w.Handler.Handle(ctx, r)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch r.Message {
	case "partitions assigned":
		w.last = time.Now()
		if w.first.IsZero() {
			w.first = w.last
		}
	case "partition restored":
		var one restored
		r.Attrs(func(a slog.Attr) bool {
			switch a.Key {
			case "topic":
				one.Topic = a.Value.String()
			case "partition":
				one.Partition = a.Value.Int64()
			case "instances":
				one.Instances = a.Value.Int64()
			case "took":
				one.Took = a.Value.Duration()
			}
			return true
		})
		w.restores = append(w.restores, one)
	}
	return nil
}

func (w *restoreWatch) ready(grpc string) nodeReady {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := nodeReady{GRPC: grpc, Restores: slices.Clone(w.restores)}
	if !w.first.IsZero() {
		r.Settled, r.SinceFirst = time.Since(w.last), time.Since(w.first)
	}
	return r
}
