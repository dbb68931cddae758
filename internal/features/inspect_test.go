package features

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	adminv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/admin/v1"
)

// delayed submits a trade of 2 gold that starts at a time.
func delayed(t *testing.T, w *world, at time.Time) txn.ID {
	t.Helper()
	b := txn.New()
	b.NotBefore(at)
	two := &rpgv1.Funds{Currency: &rpgv1.Currency{Gold: 2}}
	txn.Add(b, rpgv1.CharacterDebitFunds("c1", two))
	txn.Add(b, rpgv1.CharacterCreditFunds("c2", two))
	ctx, cancel := context.WithDeadline(t.Context(), at.Add(5*time.Minute))
	defer cancel()
	id, err := w.client.Submit(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func state(t *testing.T, p *peer, id string) adminv1.TransactionStatus_State {
	t.Helper()
	s, err := p.txns.GetTransaction(t.Context(), &adminv1.GetTransactionRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	return s.GetState()
}

// await asks until a transaction is in a state.
func await(t *testing.T, p *peer, id string, want adminv1.TransactionStatus_State) {
	t.Helper()
	for got := state(t, p, id); got != want; got = state(t, p, id) {
		if t.Context().Err() != nil {
			t.Fatalf("%v is %v", id, got)
		}
	}
}

// A transaction that starts later is seen through every edge, survives its
// processor, can be cancelled, and is waited for.
func TestDelayedStart(t *testing.T) {
	w := newWorld(t)
	one := w.start(node.AllRoles())
	w.cast(one)
	two := w.start(node.Roles{Edge: true})
	soon := delayed(t, w, time.Now().Add(3*time.Second)).String()
	never := delayed(t, w, time.Now().Add(time.Minute)).String()
	await(t, two, soon, adminv1.TransactionStatus_STATE_DELAYED)
	await(t, two, never, adminv1.TransactionStatus_STATE_DELAYED)
	w.wantGold(two, 100, 100)
	code, answer := two.ask(t, "POST", "/v1/transactions/"+never+":cancel")
	if failure, _ := answer["error"].(map[string]any); code != 200 || answer["state"] != "STATE_REFUSED" || failure["code"] != "CODE_CANCELLED" {
		t.Errorf("cancel: %d %v", code, answer)
	}
	one.stop()
	w.start(node.Roles{Processor: true, Storage: true})
	code, answer = two.ask(t, "GET", "/v1/transactions/"+soon+":wait")
	if results, _ := answer["results"].([]any); code != 200 || answer["state"] != "STATE_COMMITTED" || len(results) != 2 {
		t.Errorf("wait: %d %v", code, answer)
	}
	w.wantGold(two, 98, 102)
	// It has ended: a cancel comes too late, and there is nothing to retry.
	s, err := two.txns.CancelTransaction(t.Context(), &adminv1.CancelTransactionRequest{Id: soon})
	if err != nil || s.GetState() != adminv1.TransactionStatus_STATE_COMMITTED {
		t.Errorf("%v, %v", s, err)
	}
	_, err = two.txns.RetryTransaction(t.Context(), &adminv1.RetryTransactionRequest{Id: soon})
	wantCode(t, err, codes.FailedPrecondition)
	w.wantGold(two, 98, 102)
}

// A client that stopped waiting asks later, through another edge.
func TestAskLater(t *testing.T) {
	w := newWorld(t)
	one, two := w.start(node.Roles{Edge: true, Storage: true}), w.start(node.Roles{Edge: true})
	// Nobody works on it yet. The caller leaves; the deadline of the transaction
	// is not reached before a processor comes.
	b := txn.New()
	txn.Add(b, rpgv1.PlayerCreate(&rpgv1.Player{Id: "p", Username: "anna"}))
	waiting, stop := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error, 1)
	go func() { _, err := one.runner.Run(waiting, b); done <- err }()
	admin, err := stream.NewAdmin(w.stream)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topic := w.cfg.Names().ProcessTopic("player")
	eventually(t, "it is submitted", func() bool {
		ends, err := admin.EndOffsets(t.Context(), []stream.TopicPartition{{Topic: topic}, {Topic: topic, Partition: 1}})
		return err == nil && ends[stream.TopicPartition{Topic: topic}]+ends[stream.TopicPartition{Topic: topic, Partition: 1}] > 0
	})
	stop()
	e := txn.AsError(<-done)
	id := e.Details[txn.DetailTxnID]
	if e.Details[txn.DetailOutcome] != txn.OutcomeUnknown || id == "" {
		t.Fatalf("%v", e)
	}
	if got := state(t, two, id); got != adminv1.TransactionStatus_STATE_UNKNOWN {
		t.Errorf("nothing has happened, and it is %v", got)
	}
	w.start(node.Roles{Processor: true})
	s, err := two.txns.WaitTransaction(t.Context(), &adminv1.WaitTransactionRequest{Id: id})
	if err != nil || s.GetState() != adminv1.TransactionStatus_STATE_COMMITTED {
		t.Errorf("%v, %v", s, err)
	}
}

// Ids that are none are refused, those that nobody knows are told as such.
func TestIDs(t *testing.T) {
	w := newWorld(t)
	p := w.start(node.AllRoles())
	for _, id := range []string{"x", "0192a1b2", "0192a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b3"} {
		for _, what := range []string{"", ":wait", ":cancel", ":retry"} {
			method := "GET"
			if what == ":cancel" || what == ":retry" {
				method = "POST"
			}
			if code, answer := p.ask(t, method, "/v1/transactions/"+id+what); code != 400 {
				t.Errorf("%s%s: %d %v", id, what, code, answer)
			}
		}
	}
	_, err := p.txns.GetTransaction(t.Context(), &adminv1.GetTransactionRequest{})
	wantCode(t, err, codes.InvalidArgument)
	unknown := txn.NewID().String()
	if got := state(t, p, unknown); got != adminv1.TransactionStatus_STATE_UNKNOWN {
		t.Errorf("%v", got)
	}
	_, err = p.txns.RetryTransaction(t.Context(), &adminv1.RetryTransactionRequest{Id: unknown})
	wantCode(t, err, codes.FailedPrecondition)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	s, err := p.txns.CancelTransaction(ctx, &adminv1.CancelTransactionRequest{Id: unknown})
	if err != nil || s.GetState() != adminv1.TransactionStatus_STATE_UNKNOWN {
		t.Errorf("%v, %v", s, err)
	}
}

// Cancels race with commits: whatever the caller was told is what happened, and
// what the canceller was told.
func TestCancelRacesCommit(t *testing.T) {
	w := newWorld(t)
	p := w.start(node.AllRoles())
	w.cast(p)
	var mu sync.Mutex
	committed, cancelled := int64(0), 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 4 {
				id := delayed(t, w, time.Now().Add(30*time.Millisecond)).String()
				s, err := p.txns.CancelTransaction(t.Context(), &adminv1.CancelTransactionRequest{Id: id})
				if err != nil {
					t.Error(err)
					return
				}
				again, err := p.txns.WaitTransaction(t.Context(), &adminv1.WaitTransactionRequest{Id: id})
				if err != nil || again.GetState() != s.GetState() {
					t.Errorf("first %v, then %v, %v", s, again, err)
				}
				mu.Lock()
				switch {
				case s.GetState() == adminv1.TransactionStatus_STATE_COMMITTED:
					committed++
				case s.GetError().GetCode() == txn.CodeCancelled:
					cancelled++
				default:
					t.Errorf("it ended as %v", s)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d committed, %d cancelled", committed, cancelled)
	w.wantGold(p, 100-2*committed, 100+2*committed)
}

// The command line asks the same.
func TestCommandLine(t *testing.T) {
	w := newWorld(t)
	p := w.start(node.AllRoles())
	w.cast(p)
	run := func(args ...string) (string, error) {
		root := cli.New(w.application(nil))
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(&out)
		root.SetArgs(append(args, "--edge", p.grpc))
		err := root.ExecuteContext(t.Context())
		return out.String(), err
	}
	id := delayed(t, w, time.Now().Add(time.Minute)).String()
	await(t, p, id, adminv1.TransactionStatus_STATE_DELAYED)
	for _, c := range []struct{ command, want string }{
		{"status", "DELAYED"}, {"cancel", "CANCELLED"}, {"wait", "CANCELLED"}, {"status", "REFUSED"},
	} {
		if out, err := run("txn", c.command, id); err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", c.command, err, out)
		}
	}
	for _, args := range [][]string{{"txn", "retry", id}, {"txn", "status", "x"}} {
		if out, err := run(args...); err == nil {
			t.Errorf("%v: no error\n%s", args, out)
		}
	}
	for range 2 {
		if out, err := run("edge", "fund", "character", "id=c1", "gold=5", "--idempotency-key", "k"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	w.wantGold(p, 105, 100)
	if out, err := run("edge", "fund", "character", "id=c1", "gold=6", "--idempotency-key", "k"); err == nil {
		t.Errorf("no error\n%s", out)
	}
}
