package node_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func gold(t *testing.T, c rpgv1.RpgServiceClient, id string) int64 {
	t.Helper()
	got, err := c.ReadCharacter(t.Context(), &rpgv1.ReadCharacterRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	return got.GetCurrency().GetGold()
}

// A handler that panics ends its transaction, not the process: the caller is
// told, the record is kept, nothing took effect, and the instances go on.
func TestHandlerPanic(t *testing.T) {
	w := newWorld(t)
	n, stop := w.start(t, node.AllRoles())
	c := client(t, n)
	if _, err := c.CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "p", Username: "anna"}}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"c1", "c2"} {
		if _, err := c.CreateCharacter(t.Context(), &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{
			Id: id, PlayerId: "p", Fullname: id, Currency: &rpgv1.Currency{Gold: 100},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	fund := func(amount int64) error {
		_, err := c.FundCharacter(t.Context(), &rpgv1.FundCharacterRequest{Id: "c1", Currency: &rpgv1.Currency{Gold: amount}})
		return err
	}
	trade := func(amount int64) error {
		_, err := c.Trade(t.Context(), &rpgv1.TradeRequest{
			Lhs: &rpgv1.TradeSide{CharacterId: "c1", Currency: &rpgv1.Currency{Gold: amount}}, Rhs: &rpgv1.TradeSide{CharacterId: "c2"},
		})
		return err
	}
	for name, do := range map[string]func(int64) error{"Fund": fund, "CreditFunds": trade} {
		err := do(13)
		if status.Code(err) != codes.Internal {
			t.Errorf("%s: %v, want %v", name, err, codes.Internal)
		}
		for _, want := range []string{name, "panicked", "error topic"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the message lacks %q: %v", name, want, err)
			}
		}
	}
	if a, b := gold(t, c, "c1"), gold(t, c, "c2"); a != 100 || b != 100 {
		t.Errorf("after the panics c1 has %d and c2 %d, want 100 each", a, b)
	}
	// Neither instance is held.
	if err := trade(40); err != nil {
		t.Fatal(err)
	}
	if err := fund(1); err != nil {
		t.Fatal(err)
	}
	if a, b := gold(t, c, "c1"), gold(t, c, "c2"); a != 61 || b != 140 {
		t.Errorf("c1 has %d and c2 %d, want 61 and 140", a, b)
	}
	stop()

	reader, err := stream.NewReader(w.stream)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	reasons := map[string]string{}
	at := stream.TopicPartition{Topic: w.cfg.Names().ErrorTopic("character")}
	_, err = reader.ReadTo(t.Context(), at, stream.OffsetBeginning, func(r stream.Record) error {
		q, step := &rkcyv1.Quarantined{}, &rkcyv1.Step{}
		if err := proto.Unmarshal(r.Value, q); err != nil {
			return err
		}
		if _, err := txn.IDFromBytes(q.GetTxnId()); err != nil {
			t.Errorf("the record has no transaction: %v", q)
		}
		if err := proto.Unmarshal(q.GetValue(), step); err != nil {
			return err
		}
		reasons[step.GetCommand()] = q.GetReason()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(reasons) != 2 || !strings.Contains(reasons["Fund"], "thirteen") || !strings.Contains(reasons["CreditFunds"], "nil pointer") {
		t.Errorf("the error topic has %q", reasons)
	}
}

// Each role may have a process of its own.
func TestRoles(t *testing.T) {
	w := newWorld(t)
	_, stopStorage := w.start(t, node.Roles{Storage: true})
	_, stopProcessor := w.start(t, node.Roles{Processor: true})
	n, stopEdge := w.start(t, node.Roles{Edge: true})
	c := client(t, n)
	if _, err := c.CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "p1", Username: "anna"}}); err != nil {
		t.Fatal(err)
	}
	// Without a processor nobody answers: the deadline does, and says what that
	// means. The next processor finds the request in the log.
	stopProcessor()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := c.ReadPlayer(ctx, &rpgv1.ReadPlayerRequest{Id: "p1"})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("without a processor: %v, want %v", err, codes.DeadlineExceeded)
	}
	_, stopProcessor = w.start(t, node.Roles{Processor: true})
	p, err := c.ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{Id: "p1"})
	if err != nil || p.GetUsername() != "anna" {
		t.Errorf("%v, %v", p, err)
	}
	stopEdge()
	stopProcessor()
	stopStorage()
	if n.HTTPAddr() == "" || (&node.Node{}).HTTPAddr() != "" {
		t.Error("addresses are of nodes with an edge")
	}
}

// A node that cannot start says why, and ends.
func TestRefusedStart(t *testing.T) {
	w := newWorld(t)
	run := func(change func(*node.Config)) error {
		cfg := node.Config{Application: application(), Platform: w.cfg, Roles: node.AllRoles(), StartTimeout: 2 * time.Second}
		change(&cfg)
		n, err := node.New(cfg)
		if err != nil {
			return err
		}
		return n.Run(t.Context())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := l.Addr().String()
	defer l.Close()
	for name, c := range map[string]struct {
		change func(*node.Config)
		code   txn.Code
		words  []string
	}{
		"no role":        {func(c *node.Config) { c.Roles = node.Roles{} }, txn.CodeInvalidArgument, []string{"role"}},
		"no broker":      {func(c *node.Config) { c.Platform.Kafka.Bootstrap = "127.0.0.1:1" }, txn.CodeUnavailable, []string{"127.0.0.1:1"}},
		"not published":  {func(c *node.Config) { c.Platform.Name = "nowhere" }, txn.CodeNotFound, []string{"nowhere", "platform update"}},
		"other Concerns": {func(c *node.Config) { c.Application.Concerns = c.Application.Concerns[:1] }, txn.CodeFailedPrecondition, []string{"character"}},
		"port in use":    {func(c *node.Config) { c.Platform.Edge.HTTP = taken }, txn.CodeFailedPrecondition, []string{taken}},
		"not an address": {func(c *node.Config) {
			c.Platform.Storage.Targets = []platform.Target{{Name: "main", Type: "postgres", Role: "primary", DSN: "postgres://nobody@host:port/name"}}
		}, txn.CodeInvalidArgument, []string{"storage.targets[0].dsn"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(c.change)
			if txn.CodeOf(err) != c.code {
				t.Fatalf("error %v, want %v", err, c.code)
			}
			for _, want := range c.words {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
		})
	}
}
