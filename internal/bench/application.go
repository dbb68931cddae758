package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/rocketcycle/rocketcycle/examples/rpg/db"
	"github.com/rocketcycle/rocketcycle/examples/rpg/edge"
	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/examples/rpg/store"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
)

const (
	platformName = "bench"
	concernName  = "character"
	targetName   = "main"
)

// application is the rpg example.
func application() node.Application {
	return node.Application{
		Name: "rpg",
		Concerns: []node.Concern{
			{Definition: rpgv1.NewPlayer(logic.Player{}), Mapping: rpgv1.PlayerMapping()},
			{Definition: rpgv1.NewCharacter(logic.Character{}), Mapping: store.CharacterMapping()},
		},
		ConfigConcerns: []concern.ConfigDefinition{rpgv1.NewLimitsConfig(logic.ValidateLimits)},
		Services:       edge.Services,
		Migrations:     db.Migrations(),
	}
}

// nodeConfig is what a child needs to know to take part in a platform.
type nodeConfig struct {
	Bootstrap   string     `json:"bootstrap"`
	DSN         string     `json:"dsn"`
	Environment string     `json:"environment"`
	Partitions  int        `json:"partitions"`
	Workers     int        `json:"workers"`
	CacheBytes  int64      `json:"cache_bytes"`
	Roles       node.Roles `json:"roles"`

	Settings map[string]string `json:"settings,omitempty"`
}

func (c nodeConfig) platform() platform.Config {
	return application().Complete(platform.Config{
		Name: platformName, Environment: c.Environment,
		Kafka:     platform.Kafka{Bootstrap: c.Bootstrap, Extra: c.Settings},
		Concerns:  []platform.Concern{{Name: "player", Partitions: c.Partitions}, {Name: concernName, Partitions: c.Partitions}},
		Storage:   platform.Storage{Targets: []platform.Target{{Name: targetName, DSN: c.DSN}}},
		Edge:      platform.Edge{HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0"},
		Processor: platform.Processor{Workers: c.Workers, CacheBytes: platform.Size(c.CacheBytes)},
	}).WithDefaults()
}

// prepare makes the topics and tables of a platform.
func (c nodeConfig) prepare(ctx context.Context, logger *slog.Logger) error {
	p := c.platform()
	update, err := platform.PrepareUpdate(ctx, node.Stream(p, "bench", logger), p)
	if err != nil {
		return err
	}
	if _, err := update.Apply(ctx, "bench"); err != nil {
		return err
	}
	if _, err := postgres.Migrate(ctx, c.DSN, db.Migrations(), logger); err != nil {
		return fmt.Errorf("tables: %w", err)
	}
	return nil
}
