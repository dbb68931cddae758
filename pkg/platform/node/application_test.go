package node_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rocketcycle/rocketcycle/examples/rpg/db"
	"github.com/rocketcycle/rocketcycle/examples/rpg/edge"
	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/examples/rpg/store"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

func TestMain(m *testing.M) { os.Exit(devpostgres.Main(m)) }

// clumsy are the rules of the game, with a fault: 13 is too much for them.
type clumsy struct{ logic.Character }

func (c clumsy) Fund(ctx concern.Context, to *rpgv1.Character, in *rpgv1.Funds) (*rpgv1.Character, error) {
	to.Currency.Gold += 1_000_000 // what a handler did before it panicked must not stay
	if in.GetCurrency().GetGold() == 13 {
		panic("thirteen")
	}
	to.Currency.Gold -= 1_000_000
	return c.Character.Fund(ctx, to, in)
}

func (c clumsy) CreditFunds(ctx concern.Context, to *rpgv1.Character, in *rpgv1.Funds) (*rpgv1.Character, error) {
	if in.GetCurrency().GetGold() == 13 {
		var nothing *rpgv1.Character
		nothing.Active = true
	}
	return c.Character.CreditFunds(ctx, to, in)
}

func application() node.Application {
	return node.Application{
		Name: "game",
		Concerns: []node.Concern{
			{Definition: rpgv1.NewPlayer(logic.Player{}), Mapping: rpgv1.PlayerMapping()},
			{Definition: rpgv1.NewCharacter(clumsy{}), Mapping: store.CharacterMapping()},
		},
		Services: edge.Services,
	}
}

// world is a published platform with topics and tables.
type world struct {
	cfg    platform.Config
	stream stream.Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{stream: streamtest.Config(t)}
	w.cfg = application().Complete(platform.Config{
		Name: streamtest.Name("node"), Environment: "test",
		Kafka:    platform.Kafka{Bootstrap: w.stream.Bootstrap},
		Concerns: []platform.Concern{{Name: "player", Partitions: 2}, {Name: "character", Partitions: 2}},
		Storage:  platform.Storage{Targets: []platform.Target{{Name: "main", DSN: devpostgres.Test(t).NewDatabase(t)}}},
		Edge:     platform.Edge{HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0"},
	}).WithDefaults()
	update, err := platform.PrepareUpdate(t.Context(), w.stream, w.cfg)
	if err == nil {
		_, err = update.Apply(t.Context(), "test")
	}
	if err == nil {
		_, err = postgres.Migrate(t.Context(), w.cfg.Storage.Targets[0].DSN, db.Migrations(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// start runs a node until the test ends or stop is called, which checks that it
// drained.
func (w *world) start(t *testing.T, roles node.Roles) (n *node.Node, stop func()) {
	t.Helper()
	return w.startApplication(t, application(), roles)
}

func (w *world) startApplication(t *testing.T, app node.Application, roles node.Roles) (n *node.Node, stop func()) {
	t.Helper()
	n, stop, err := w.startConfig(t, node.Config{Application: app, Platform: w.cfg, Roles: roles})
	if err != nil {
		t.Fatal(err)
	}
	return n, stop
}

func (w *world) startConfig(t *testing.T, cfg node.Config) (n *node.Node, stop func(), err error) {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	n, err = node.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(stop)
	select {
	case <-n.Ready():
	case err := <-done:
		stopped = true
		t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
	return n, stop, nil
}

// client returns a client of the node's edge.
func client(t *testing.T, n *node.Node) rpgv1.RpgServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(n.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return rpgv1.NewRpgServiceClient(conn)
}

func TestValidate(t *testing.T) {
	err := node.Config{Application: node.Application{Concerns: []node.Concern{
		{Definition: rpgv1.NewPlayer(logic.Player{}), Mapping: store.CharacterMapping()},
	}}, Platform: platform.Config{Name: "UPPER"}}.WithDefaults().Validate()
	if err == nil {
		t.Fatal("no fault was found")
	}
	// All of them at once.
	for _, want := range []string{
		"name and Concerns", `Concern "player" has the mapping of "character"`, "UPPER", "kafka.bootstrap", "no role", "no primary",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}
