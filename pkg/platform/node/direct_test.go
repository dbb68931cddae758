package node_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// After a trade the same client reads both sides: from the processor of the edge's
// own node, and by an edge without one through the log.
func TestReadService(t *testing.T) {
	w := newWorld(t)
	n, stop := w.start(t, node.AllRoles())
	defer stop()
	other, stopOther := w.start(t, node.Roles{Edge: true})
	defer stopOther()
	c := client(t, n)
	if _, err := c.CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "p", Username: "anna"}}); err != nil {
		t.Fatal(err)
	}
	keys := []string{"c1", "c2", "c3", "nobody"}
	for _, id := range keys[:3] {
		if _, err := c.CreateCharacter(t.Context(), &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{
			Id: id, PlayerId: "p", Fullname: id, Currency: &rpgv1.Currency{Gold: 100},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	direct := 0
	// The lease of a node that has just started may not be there yet.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i := 1; i <= 20 || direct == 0; i++ {
		var header metadata.MD
		if _, err := c.Trade(ctx, &rpgv1.TradeRequest{
			Lhs: &rpgv1.TradeSide{CharacterId: "c1", Currency: &rpgv1.Currency{Gold: 1}}, Rhs: &rpgv1.TradeSide{CharacterId: "c2"},
		}, grpc.Header(&header)); err != nil {
			t.Fatal(err)
		}
		for _, at := range []*node.Node{n, other} {
			for _, in := range []*edgev1.ReadRequest{
				{Concern: "character", Keys: keys, Consistency: edgev1.Consistency_CONSISTENCY_SESSION, After: header.Get("rkcy-txn-id")},
				{Concern: "character", Keys: keys},
			} {
				out, err := readClient(t, at).Read(ctx, in)
				if err != nil {
					t.Fatal(err)
				}
				for k, want := range []int64{int64(100 - i), int64(100 + i), 100, -1} {
					a := out.GetAnswers()[k]
					if a.GetError() != nil || a.GetKey() != keys[k] {
						t.Fatalf("%v", a)
					}
					if !a.GetThroughLog() {
						direct++
						if at == other || in.GetConsistency() != edgev1.Consistency_CONSISTENCY_SESSION {
							t.Errorf("%v did not go through the log", in)
						}
					}
					if want < 0 {
						if a.GetVersion() != 0 || a.GetInstance() != nil {
							t.Errorf("nobody: %v", a)
						}
						continue
					}
					got := &rpgv1.Character{}
					if err := a.GetInstance().UnmarshalTo(got); err != nil {
						t.Fatal(err)
					}
					if got.GetCurrency().GetGold() != want {
						t.Errorf("after trade %d, %v: %s has %d, want %d", i, in.GetConsistency(), keys[k], got.GetCurrency().GetGold(), want)
					}
				}
			}
		}
	}
}

func TestReadServiceRefusals(t *testing.T) {
	w := newWorld(t)
	n, stop := w.start(t, node.AllRoles())
	defer stop()
	c := readClient(t, n)
	for want, list := range map[codes.Code][]*edgev1.ReadRequest{
		codes.Unimplemented: {{Concern: "nothing", Keys: []string{"k"}}},
		codes.InvalidArgument: {
			{Concern: "character"},
			{Concern: "character", Keys: make([]string, 1001)},
			{Concern: "character", Keys: []string{"k"}, Consistency: 77},
			{Concern: "character", Keys: []string{"k"}, After: []string{"019ab000-0000-7000-8000-000000000000"}},
			{Concern: "character", Keys: []string{"k"}, Consistency: edgev1.Consistency_CONSISTENCY_SESSION, After: []string{"x"}},
			{Concern: "character", Keys: []string{"k"}, Consistency: edgev1.Consistency_CONSISTENCY_SESSION, After: make([]string, 65)},
		},
	} {
		for i, in := range list {
			if _, err := c.Read(t.Context(), in); status.Code(err) != want {
				t.Errorf("%v %d: %v", want, i, err)
			}
		}
	}
	for _, consistency := range []edgev1.Consistency{edgev1.Consistency_CONSISTENCY_LINEARIZABLE, edgev1.Consistency_CONSISTENCY_EVENTUAL} {
		out, err := c.Read(t.Context(), &edgev1.ReadRequest{Concern: "character", Keys: []string{"", "fine"}, Consistency: consistency})
		if err != nil {
			t.Fatal(err)
		}
		if code := out.GetAnswers()[0].GetError().GetCode(); code != txn.CodeInvalidArgument || out.GetAnswers()[1].GetError() != nil {
			t.Errorf("%v: %v", consistency, fmt.Sprint(out))
		}
	}
}

func readClient(t *testing.T, n *node.Node) edgev1.ReadServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(n.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return edgev1.NewReadServiceClient(conn)
}
