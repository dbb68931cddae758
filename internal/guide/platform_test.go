package guide

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/examples/rpg/db"
	rpgedge "github.com/rocketcycle/rocketcycle/examples/rpg/edge"
	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/examples/rpg/store"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

func TestMain(m *testing.M) { os.Exit(devpostgres.Main(m)) }

// platformOf runs the game in this process, with two characters, and returns
// what runs transactions on it.
func platformOf(t *testing.T) txn.Runner {
	t.Helper()
	var runner txn.Runner
	app := node.Application{
		Name: "game",
		Concerns: []node.Concern{
			{Definition: rpgv1.NewPlayer(logic.Player{}), Mapping: rpgv1.PlayerMapping()},
			{Definition: rpgv1.NewCharacter(logic.Character{}), Mapping: store.CharacterMapping()},
		},
		Services: func(r txn.Runner) []edge.Service { runner = r; return rpgedge.Services(r) },
	}
	stream := streamtest.Config(t)
	cfg := app.Complete(platform.Config{
		Name: streamtest.Name("guide"), Environment: "test",
		Kafka:    platform.Kafka{Bootstrap: stream.Bootstrap},
		Concerns: []platform.Concern{{Name: "player", Partitions: 2}, {Name: "character", Partitions: 3}},
		Storage:  platform.Storage{Targets: []platform.Target{{Name: "main", DSN: devpostgres.Test(t).NewDatabase(t)}}},
		Edge:     platform.Edge{HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0"},
	}).WithDefaults()
	update, err := platform.PrepareUpdate(t.Context(), stream, cfg)
	if err == nil {
		_, err = update.Apply(t.Context(), "test")
	}
	if err == nil {
		_, err = postgres.Migrate(t.Context(), cfg.Storage.Targets[0].DSN, db.Migrations(), nil)
	}
	var n *node.Node
	if err == nil {
		n, err = node.New(node.Config{
			Application: app, Platform: cfg, Roles: node.AllRoles(), Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	select {
	case <-n.Ready():
	case err := <-done:
		done <- nil
		t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	within, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	must(txn.Do(within, runner, rpgv1.PlayerCreate(&rpgv1.Player{Id: "p", Username: "anna"})))
	for _, id := range []string{"brock", "thora"} {
		must(txn.Do(within, runner, rpgv1.CharacterCreate(&rpgv1.Character{
			Id: id, PlayerId: "p", Fullname: id, Currency: &rpgv1.Currency{Gold: 100},
		})))
	}
	return runner
}
