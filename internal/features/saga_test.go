package features

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	adminv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/admin/v1"
)

func trade(lhs, rhs int64) *rpgv1.TradeRequest {
	return &rpgv1.TradeRequest{
		Lhs:  &rpgv1.TradeSide{CharacterId: "c1", Currency: &rpgv1.Currency{Gold: lhs}},
		Rhs:  &rpgv1.TradeSide{CharacterId: "c2", Currency: &rpgv1.Currency{Gold: rhs}},
		Mode: rpgv1.TradeMode_TRADE_MODE_SAGA,
	}
}

func TestSagaIsUndone(t *testing.T) {
	w := newWorld(t)
	p := w.start(node.AllRoles())
	w.cast(p)
	if _, err := p.Trade(t.Context(), trade(30, 10)); err != nil {
		t.Fatal(err)
	}
	w.wantGold(p, 80, 120)
	for range 5 { // c1 gives first, c2 has not enough
		_, err := p.Trade(t.Context(), trade(20, 1000))
		wantCode(t, err, codes.FailedPrecondition)
		if !strings.Contains(err.Error(), "gold") {
			t.Errorf("the refusal is %v", err)
		}
	}
	w.wantGold(p, 80, 120)
	unknown := trade(1, 1)
	unknown.Mode = 7
	_, err := p.Trade(t.Context(), unknown)
	wantCode(t, err, codes.InvalidArgument)
	p.stop()
	w.wantGold(w.start(node.AllRoles()), 80, 120)
}

// A saga whose compensation is refused is stuck, in the sight of operators,
// until one asks for a retry. It takes the tries half a minute.
func TestStuckSagaIsRetried(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the pauses between the tries of a compensation")
	}
	t.Parallel()
	w := newWorld(t)
	p := w.start(node.AllRoles())
	w.cast(p)
	w.closed.Store(true)
	b := txn.Saga()
	taken := rpgv1.CharacterDebitFunds("c1", &rpgv1.Funds{Currency: &rpgv1.Currency{Gold: 40}}).CompensatedBy("CreditFunds")
	first := txn.Add(b, taken)
	second := txn.Add(b, rpgv1.CharacterCreditFunds("c2", &rpgv1.Funds{}))
	txn.Bind(b, first, "", second, "")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, err := p.runner.Run(ctx, b)
	e := txn.AsError(err)
	if e == nil || e.Details[txn.DetailSaga] != txn.SagaStuck {
		t.Fatalf("the saga is not stuck: %v", err)
	}
	id := e.Details[txn.DetailTxnID]
	w.wantGold(p, 60, 100)
	p.stop()
	p = w.start(node.AllRoles())
	at, err := p.txns.WaitTransaction(t.Context(), &adminv1.WaitTransactionRequest{Id: id})
	if err != nil || at.GetState() != adminv1.TransactionStatus_STATE_STUCK || len(at.GetAt()) != 1 || at.GetAt()[0].GetKey() != "c1" {
		t.Fatalf("%v, %v", at, err)
	}
	// What waits for a retry cannot be cancelled.
	if at, err = p.txns.CancelTransaction(t.Context(), &adminv1.CancelTransactionRequest{Id: id}); err != nil || at.GetState() != adminv1.TransactionStatus_STATE_STUCK {
		t.Errorf("%v, %v", at, err)
	}
	w.closed.Store(false)
	code, answer := p.ask(t, "POST", "/v1/transactions/"+id+":retry")
	if code != 200 || answer["state"] != "STATE_REFUSED" {
		t.Errorf("retry: %d %v", code, answer)
	}
	w.wantGold(p, 100, 100)
	_, err = p.txns.RetryTransaction(t.Context(), &adminv1.RetryTransactionRequest{Id: id})
	wantCode(t, err, codes.FailedPrecondition)
}
