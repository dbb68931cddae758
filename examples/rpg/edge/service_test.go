package edge_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/rocketcycle/rocketcycle/examples/rpg/edge"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// errRan is the answer of a runner that was asked.
var errRan = errors.New("ran")

// recorder counts the transactions that it is asked to run, and runs none.
type recorder struct{ steps []int }

func (r *recorder) Run(_ context.Context, b *txn.Builder) (*txn.Result, error) {
	r.steps = append(r.steps, b.Len())
	return nil, errRan
}

// serve returns a client of the game's service over r, without a platform.
func serve(t *testing.T, r txn.Runner) rpgv1.RpgServiceClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	for _, service := range edge.Services(r) {
		service.Register(s)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return rpgv1.NewRpgServiceClient(conn)
}

// What a request cannot mean is refused before a transaction is made of it.
func TestRequests(t *testing.T) {
	player := func(p *rpgv1.Player, mask ...string) func(rpgv1.RpgServiceClient) error {
		in := &rpgv1.UpdatePlayerRequest{Player: p}
		if mask != nil {
			in.UpdateMask = &fieldmaskpb.FieldMask{Paths: mask}
		}
		return func(c rpgv1.RpgServiceClient) error { _, err := c.UpdatePlayer(t.Context(), in); return err }
	}
	trade := func(lhs, rhs string) func(rpgv1.RpgServiceClient) error {
		return func(c rpgv1.RpgServiceClient) error {
			_, err := c.Trade(t.Context(), &rpgv1.TradeRequest{Lhs: &rpgv1.TradeSide{CharacterId: lhs}, Rhs: &rpgv1.TradeSide{CharacterId: rhs}})
			return err
		}
	}
	for name, c := range map[string]struct {
		call  func(rpgv1.RpgServiceClient) error
		steps int // 0: refused
	}{
		"trade":                 {trade("a", "b"), 4},
		"trade with oneself":    {trade("a", "a"), 0},
		"trade without a side":  {trade("a", ""), 0},
		"trade without another": {trade("", "b"), 0},
		"update":                {player(&rpgv1.Player{Id: "p", Username: "x"}), 1},
		"update to empty":       {player(&rpgv1.Player{Id: "p"}, "active"), 1},
		"update of nobody":      {player(&rpgv1.Player{Username: "x"}), 0},
		"update of nothing":     {player(&rpgv1.Player{Id: "p"}), 0},
		"update of the id":      {player(&rpgv1.Player{Id: "p", Username: "x"}, "username", "id"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{}
			if err := c.call(serve(t, r)); err == nil {
				t.Error("there is no answer to be had")
			}
			if c.steps == 0 && len(r.steps) != 0 || c.steps != 0 && (len(r.steps) != 1 || r.steps[0] != c.steps) {
				t.Errorf("transactions of %v steps were made, want %d", r.steps, c.steps)
			}
		})
	}
}
