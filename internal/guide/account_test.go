package guide

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	account "github.com/rocketcycle/rocketcycle/internal/codegen/testdata/golden/account"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

type (
	Account = account.Account
	Amount  = account.Amount
)

var (
	AccountDebit  = account.AccountDebit
	AccountCredit = account.AccountCredit
)

// Accounts are the rules of the README's example.
type Accounts struct{}

var _ account.AccountHandler = Accounts{}

// Credit adds an amount.
func (Accounts) Credit(_ concern.Context, a *Account, in *Amount) (*Account, error) {
	a.Balance += in.GetValue()
	return a, nil
}

func (Accounts) Debit(_ concern.Context, a *Account, in *Amount) (*Account, error) {
	if a.Balance < in.GetValue() {
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "account %s has %d, not %d", a.GetId(), a.Balance, in.GetValue())
	}
	a.Balance -= in.GetValue()
	return a, nil
}

func transfer(ctx context.Context, runner txn.Runner, amount *Amount) (*Account, error) {
	b := txn.New()
	txn.Add(b, AccountDebit("alice", amount))
	credit := txn.Add(b, AccountCredit("bob", amount))
	result, err := runner.Run(ctx, b)
	if err != nil {
		return nil, err
	}
	return credit.Result(result)
}

// planned says what a transaction would be, and runs nothing.
type planned struct{ visits int }

func (p *planned) Run(_ context.Context, b *txn.Builder) (*txn.Result, error) {
	t, err := b.Build(txn.NewID(), time.Now(), time.Now().Add(time.Minute), nil)
	p.visits = len(t.GetVisits())
	if err == nil {
		err = txn.Errorf(txn.CodeUnavailable, "nothing runs it")
	}
	return nil, err
}

func TestAccount(t *testing.T) {
	p := &planned{}
	if _, err := transfer(t.Context(), p, &Amount{Value: 5}); txn.CodeOf(err) != txn.CodeUnavailable || p.visits != 2 {
		t.Errorf("%v, %d visits", err, p.visits)
	}
	a := &Account{Id: "alice", Balance: 4}
	if _, err := (Accounts{}).Debit(concern.Context{}, a, &Amount{Value: 5}); txn.CodeOf(err) != txn.CodeFailedPrecondition {
		t.Error(err)
	}
	if got, err := (Accounts{}).Debit(concern.Context{}, a, &Amount{Value: 3}); err != nil || got.GetBalance() != 1 {
		t.Error(got, err)
	}
	if err := account.NewAccount(Accounts{}).Validate(); err != nil {
		t.Error(err)
	}
}

// The platform file that the guide shows is one.
func TestTargetsFile(t *testing.T) {
	cfg, err := platform.Load(filepath.Join(root, "docs", "guide", "targets.yaml"), func(string) string { return "" })
	if err != nil || len(cfg.Storage.Targets) != 2 || cfg.Storage.Targets[1].Role != platform.RoleSecondary {
		t.Errorf("%+v, %v", cfg.Storage, err)
	}
}
