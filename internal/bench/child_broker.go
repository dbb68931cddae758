package main

import (
	"context"
	"os"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
)

type brokerConfig struct {
	DataDir string `json:"data_dir"`
}

type brokerReady struct {
	Bootstrap string `json:"bootstrap"`
}

// runBroker is a child that runs an embedded broker, so that what the broker
// allocates does not count as the node's.
func runBroker(ctx context.Context, cfg brokerConfig) error {
	b, err := devbroker.StartEmbedded(ctx, devbroker.EmbeddedConfig{DataDir: cfg.DataDir})
	if err != nil {
		return err
	}
	defer b.Close()
	return serveChild(os.Stdin, os.Stdout, brokerReady{Bootstrap: b.Bootstrap()}, nil)
}
