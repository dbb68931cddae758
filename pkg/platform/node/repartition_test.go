package node_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// partitions changes the number of partitions of every Concern in the file.
func (w *world) partitions(n int) {
	for i := range w.cfg.Concerns {
		w.cfg.Concerns[i].Partitions = n
	}
}

func (w *world) repartition(t *testing.T, ctx context.Context, n int) (*node.Repartitioned, error) {
	t.Helper()
	w.partitions(n)
	u, err := platform.PrepareUpdate(ctx, w.stream, w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return node.Repartition(ctx, w.stream, w.cfg, u, "test", func(line string) { t.Log(line) })
}

// bank is a load whose every effect is accounted for: trades keep the sum, each
// fund adds one.
type bank struct {
	client     rpgv1.RpgServiceClient
	characters int
	funds      []atomic.Int64 // acknowledged, by character
	unknown    atomic.Int64
	done       atomic.Int64
	wg         sync.WaitGroup
}

const startGold = 1000

func newBank(t *testing.T, c rpgv1.RpgServiceClient, characters int) *bank {
	t.Helper()
	b := &bank{client: c, characters: characters, funds: make([]atomic.Int64, characters)}
	for p := range 4 {
		if _, err := c.CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: fmt.Sprint("p", p), Username: fmt.Sprint("player", p)}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range characters {
		if _, err := c.CreateCharacter(t.Context(), &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{
			Id: b.id(i), PlayerId: fmt.Sprint("p", i%4), Fullname: b.id(i), Currency: &rpgv1.Currency{Gold: startGold},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bank) id(i int) string { return fmt.Sprint("c", i) }

// run works until ctx ends. What it does it waits for.
func (b *bank) run(ctx context.Context, t *testing.T, clients int) {
	for n := range clients {
		rng := rand.New(rand.NewPCG(uint64(n), 1)) //nolint:gosec // a test
		b.wg.Go(func() {
			for ctx.Err() == nil {
				x, y := rng.IntN(b.characters), rng.IntN(b.characters)
				var err error
				if rng.IntN(2) == 0 || x == y {
					_, err = b.client.FundCharacter(context.WithoutCancel(ctx), &rpgv1.FundCharacterRequest{Id: b.id(x), Currency: &rpgv1.Currency{Gold: 1}})
					if err == nil {
						b.funds[x].Add(1)
					}
				} else {
					_, err = b.client.Trade(context.WithoutCancel(ctx), &rpgv1.TradeRequest{
						Lhs: &rpgv1.TradeSide{CharacterId: b.id(x), Currency: &rpgv1.Currency{Gold: 1}},
						Rhs: &rpgv1.TradeSide{CharacterId: b.id(y)},
					})
				}
				switch status.Code(err) {
				case codes.OK:
					b.done.Add(1)
				case codes.FailedPrecondition, codes.ResourceExhausted:
				case codes.DeadlineExceeded:
					b.unknown.Add(1)
					t.Errorf("unknown outcome: %v", err)
				default:
					t.Errorf("load: %v", err)
				}
			}
		})
	}
}

// progress waits until the load has got on.
func (b *bank) progress(t *testing.T, n int64) {
	t.Helper()
	want := b.done.Load() + n
	eventually(t, fmt.Sprint(n, " more transactions"), func() bool { return b.done.Load() >= want })
}

// check compares what every character has, here and in the database, with what
// was acknowledged.
func (b *bank) check(t *testing.T, dsn string) {
	t.Helper()
	sum, want := int64(0), int64(b.characters*startGold)
	have := make([]int64, b.characters)
	for i := range have {
		have[i] = gold(t, b.client, b.id(i))
		sum += have[i]
		want += b.funds[i].Load()
	}
	if sum != want {
		t.Errorf("the characters have %d gold, but %d were paid in", sum, want)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	eventually(t, "the database has what the platform has", func() bool {
		for i := range have {
			var row string
			err := conn.QueryRow(t.Context(), `SELECT row_to_json(t)::text FROM "character" t WHERE id = $1`, b.id(i)).Scan(&row)
			if errors.Is(err, pgx.ErrNoRows) {
				return false
			}
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.ReplaceAll(row, " ", ""), fmt.Sprintf(`"gold":%d`, have[i])) &&
				!strings.Contains(strings.ReplaceAll(row, " ", ""), fmt.Sprintf(`"gold":"%d"`, have[i])) {
				return false
			}
		}
		return true
	})
}

// More and fewer partitions while the platform works: nothing is lost or
// doubled, every request gets its answer, and the database has it all.
func TestRepartition(t *testing.T) {
	w := newWorld(t)
	n, _ := w.start(t, node.AllRoles())
	other, stopOther := w.start(t, node.Roles{Processor: true})
	_ = other
	b := newBank(t, client(t, n), 40)
	load, stop := context.WithCancel(t.Context())
	defer stop()
	b.run(load, t, 8)
	b.progress(t, 100)
	for _, partitions := range []int{8, 3} {
		done, err := w.repartition(t, t.Context(), partitions)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d partitions: pause %v", partitions, done.Pause)
		b.progress(t, 200)
	}
	stopOther()
	b.progress(t, 100)
	stop()
	b.wg.Wait()
	b.check(t, w.cfg.Storage.Targets[0].DSN)

	version, err := platform.Current(t.Context(), w.stream, w.cfg.Names())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range version.GetConfig().GetConcerns() {
		if c.GetGeneration() != 3 || len(c.GetRetired()) != 2 || c.GetPartitions() != 3 {
			t.Errorf("Concern %s has generation %d, %d partitions, %d former generations", c.GetName(), c.GetGeneration(), c.GetPartitions(), len(c.GetRetired()))
		}
	}

	// The old topics go, but not at once; changes are kept for ever.
	admin, err := stream.NewAdmin(w.stream)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	old := map[string]bool{"process.0001": false, "process.0002": false, "state.0001": false, "state.0002": false, "storage.0001": true, "storage.0002": true, "process.0003": true}
	exist := func(after time.Duration, targets ...string) map[string]bool {
		t.Helper()
		if err := n.RemoveRetired(t.Context(), admin, version.GetConfig(), targets, time.Now().Add(after)); err != nil {
			t.Fatal(err)
		}
		topics, err := admin.Topics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for name := range old {
			_, have[name] = topics["rkcy."+w.cfg.Name+".test.character."+name]
		}
		return have
	}
	for name, there := range exist(time.Minute, "main") {
		if !there {
			t.Errorf("%s was removed too early", name)
		}
	}
	for name, there := range exist(2*time.Hour, "main", "other") {
		if !there {
			t.Errorf("%s was removed, but a target has not passed it", name)
		}
	}
	eventually(t, "the old topics are removed", func() bool { return maps.Equal(exist(2*time.Hour, "main"), old) })
}

// Nobody changes partitions by the way.
func TestRepartitionRefusedByApply(t *testing.T) {
	w := newWorld(t)
	w.partitions(5)
	u, err := platform.PrepareUpdate(t.Context(), w.stream, w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Apply(t.Context(), "test"); txn.CodeOf(err) != txn.CodeFailedPrecondition || !strings.Contains(err.Error(), "platform update") {
		t.Errorf("got %v", err)
	}
}
