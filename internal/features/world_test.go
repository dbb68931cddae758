package features

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rocketcycle/rocketcycle/examples/rpg/db"
	rpgedge "github.com/rocketcycle/rocketcycle/examples/rpg/edge"
	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/examples/rpg/store"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	adminv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/admin/v1"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestMain(m *testing.M) { os.Exit(devpostgres.Main(m)) }

// world is a published platform with topics and tables, and nodes on it.
type world struct {
	t      *testing.T
	cfg    platform.Config
	stream stream.Config
	// client submits what the game's edge cannot.
	client *txn.Client
	// closed makes the characters refuse what they are given.
	closed atomic.Bool
}

// gate are the rules of the game, with characters that may refuse to be given
// something.
type gate struct {
	logic.Character
	world *world
}

func (g gate) CreditFunds(ctx concern.Context, to *rpgv1.Character, in *rpgv1.Funds) (*rpgv1.Character, error) {
	if g.world.closed.Load() {
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "the gate is closed")
	}
	return g.Character.CreditFunds(ctx, to, in)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, stream: streamtest.Config(t)}
	w.cfg = w.application(nil).Complete(platform.Config{
		Name: streamtest.Name("features"), Environment: "test",
		Kafka:    platform.Kafka{Bootstrap: w.stream.Bootstrap},
		Concerns: []platform.Concern{{Name: "player", Partitions: 2}, {Name: "character", Partitions: 3}},
		Storage:  platform.Storage{Targets: []platform.Target{{Name: "main", DSN: devpostgres.Test(t).NewDatabase(t)}}},
		Edge:     platform.Edge{HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0"},
	}).WithDefaults()
	update, err := platform.PrepareUpdate(t.Context(), w.stream, w.cfg)
	var published *rkcyv1.PlatformVersion
	if err == nil {
		published, err = update.Apply(t.Context(), "test")
	}
	if err == nil {
		_, err = postgres.Migrate(t.Context(), w.cfg.Storage.Targets[0].DSN, db.Migrations(), nil)
	}
	var producer *stream.Producer
	if err == nil {
		producer, err = stream.NewProducer(w.stream)
	}
	if err == nil {
		t.Cleanup(func() { producer.Close() })
		w.client, err = txn.NewClient(txn.ClientConfig{Router: platform.NewRouter(published.GetConfig()), Sender: producer})
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// application is the game; a runner of its edge is put into runner.
func (w *world) application(runner *txn.Runner) node.Application {
	return node.Application{
		Name: "game",
		Concerns: []node.Concern{
			{Definition: rpgv1.NewPlayer(logic.Player{}), Mapping: rpgv1.PlayerMapping()},
			{Definition: rpgv1.NewCharacter(gate{world: w}), Mapping: store.CharacterMapping()},
		},
		Service: rpgv1.File_rpg_v1_edge_proto.Services().ByName("RpgService"), OpenAPI: rpgv1.OpenAPI,
		Services: func(r txn.Runner) []edge.Service {
			if runner != nil {
				*runner = r
			}
			return rpgedge.Services(r)
		},
	}
}

// peer is a node that runs, and its clients.
type peer struct {
	rpgv1.RpgServiceClient
	txns   adminv1.TransactionServiceClient
	runner txn.Runner
	http   string
	grpc   string
	stop   func()
}

func (w *world) start(roles node.Roles) *peer {
	w.t.Helper()
	p := &peer{}
	n, err := node.New(node.Config{
		Application: w.application(&p.runner), Platform: w.cfg, Roles: roles, Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stopped := false
	p.stop = func() {
		cancel()
		if !stopped {
			stopped = true
			if err := <-done; err != nil {
				w.t.Errorf("run: %v", err)
			}
		}
	}
	w.t.Cleanup(p.stop)
	select {
	case <-n.Ready():
	case err := <-done:
		stopped = true
		w.t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(time.Minute):
		w.t.Fatal("not ready")
	}
	if !roles.Edge {
		return p
	}
	conn, err := grpc.NewClient(n.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	p.RpgServiceClient, p.txns = rpgv1.NewRpgServiceClient(conn), adminv1.NewTransactionServiceClient(conn)
	p.http, p.grpc = "http://"+n.HTTPAddr(), n.GRPCAddr()
	return p
}

// cast makes two characters with 100 gold each.
func (w *world) cast(p *peer) {
	w.t.Helper()
	if _, err := p.CreatePlayer(w.t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "p", Username: "anna"}}); err != nil {
		w.t.Fatal(err)
	}
	for _, id := range []string{"c1", "c2"} {
		if _, err := p.CreateCharacter(w.t.Context(), &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{
			Id: id, PlayerId: "p", Fullname: id, Currency: &rpgv1.Currency{Gold: 100},
		}}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) wantGold(p *peer, want ...int64) {
	w.t.Helper()
	for i, id := range []string{"c1", "c2"} {
		got, err := p.ReadCharacter(w.t.Context(), &rpgv1.ReadCharacterRequest{Id: id})
		if err != nil {
			w.t.Fatal(err)
		}
		if got.GetCurrency().GetGold() != want[i] {
			w.t.Errorf("%s has %d gold, not %d", id, got.GetCurrency().GetGold(), want[i])
		}
	}
}

// keyed returns a context of a request with an idempotency key.
func keyed(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "idempotency-key", key)
}

func fund(gold int64) *rpgv1.FundCharacterRequest {
	return &rpgv1.FundCharacterRequest{Id: "c1", Currency: &rpgv1.Currency{Gold: gold}}
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%v, want %v", err, want)
	}
}

// ask sends a request over HTTP and returns the status code and the answer.
func (p *peer) ask(t *testing.T, method, path string) (int, map[string]any) {
	t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("{}")
	}
	r, err := http.NewRequestWithContext(t.Context(), method, p.http+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out := map[string]any{}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return resp.StatusCode, out
}
