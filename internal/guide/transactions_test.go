package guide

import (
	"context"
	"fmt"
	"testing"
	"time"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// What docs/guide/transactions.md shows. Each function runs on a platform of its
// own, where the characters brock and thora have 100 gold each, and says how
// much they have to have afterwards.

func gold(n int64) *rpgv1.Funds { return &rpgv1.Funds{Currency: &rpgv1.Currency{Gold: n}} }

func isolated(ctx context.Context, runner txn.Runner) error {
	b := txn.New()
	txn.Add(b, rpgv1.CharacterDebitFunds("brock", gold(5)))
	got := txn.Add(b, rpgv1.CharacterCreditFunds("thora", gold(5)))
	result, err := runner.Run(ctx, b)
	if err != nil {
		return err // coded: txn.CodeOf(err), txn.AsError(err).Details
	}
	thora, err := got.Result(result)
	fmt.Println(thora.GetCurrency().GetGold())
	return err
}

func refused(ctx context.Context, runner txn.Runner) error {
	b := txn.New()
	txn.Add(b, rpgv1.CharacterDebitFunds("brock", gold(5)))
	txn.Add(b, rpgv1.CharacterDebitFunds("thora", gold(1000)))
	_, err := runner.Run(ctx, b)
	e := txn.AsError(err)
	if e == nil || e.Code != txn.CodeFailedPrecondition || e.Details[txn.DetailKey] != "thora" {
		return fmt.Errorf("it should have been refused by thora: %w", err)
	}
	return nil // and brock has what he had
}

// Thora gets exactly what was taken from Brock: items as they were there, not as
// the request describes them.
func dataFlow(ctx context.Context, runner txn.Runner) error {
	b := txn.New()
	taken := txn.Add(b, rpgv1.CharacterDebitFunds("brock", gold(7)))
	given := txn.Add(b, rpgv1.CharacterCreditFunds("thora", &rpgv1.Funds{}))
	txn.Bind(b, taken, "", given, "") // the whole result becomes the whole payload
	_, err := runner.Run(ctx, b)
	return err
}

// A field that does not fit is refused when the transaction is built, before
// anything is sent.
func dataFlowIsChecked(ctx context.Context, runner txn.Runner) error {
	b := txn.New()
	taken := txn.Add(b, rpgv1.CharacterDebitFunds("brock", gold(7)))
	given := txn.Add(b, rpgv1.CharacterCreditFunds("thora", &rpgv1.Funds{}))
	txn.Bind(b, taken, "currency.gold", given, "items")
	if _, err := runner.Run(ctx, b); txn.CodeOf(err) != txn.CodeInvalidArgument {
		return fmt.Errorf("it should not have been built: %w", err)
	}
	return nil
}

// Thora gets a bonus unless she is rich already.
func condition(ctx context.Context, runner txn.Runner) error {
	b := txn.New()
	thora := txn.Add(b, rpgv1.CharacterRead("thora"))
	bonus := txn.Add(b, rpgv1.CharacterFund("thora", gold(50)))
	txn.SkipWhen(b, bonus, thora, "currency.gold", txn.GreaterOrEqual, 100)
	_, err := runner.Run(ctx, b)
	return err
}

func saga(ctx context.Context, runner txn.Runner) error {
	b := txn.Saga()
	txn.Add(b, rpgv1.CharacterDebitFunds("brock", gold(20))) // undone by CreditFunds, as its option says
	txn.Add(b, rpgv1.CharacterCreditFunds("thora", gold(20)))
	_, err := runner.Run(ctx, b)
	return err
}

func sagaIsUndone(ctx context.Context, runner txn.Runner) error {
	b := txn.Saga()
	txn.Add(b, rpgv1.CharacterDebitFunds("brock", gold(20)))
	txn.Add(b, rpgv1.CharacterDebitFunds("thora", gold(1000)))
	_, err := runner.Run(ctx, b)
	if e := txn.AsError(err); e == nil || e.Details[txn.DetailSaga] != txn.SagaCompensated {
		return fmt.Errorf("it should have been undone: %w", err)
	}
	return nil
}

// A step that nobody could undo is refused when the saga is built, unless it
// says that it needs no undoing.
func sagaIsChecked(ctx context.Context, runner txn.Runner) error {
	brock := &rpgv1.Character{Id: "brock", Active: true}
	b := txn.Saga()
	txn.Add(b, rpgv1.CharacterUpdate(brock, "active"))
	if _, err := runner.Run(ctx, b); txn.CodeOf(err) != txn.CodeInvalidArgument {
		return fmt.Errorf("it should not have been built: %w", err)
	}
	b = txn.Saga()
	txn.Add(b, rpgv1.CharacterUpdate(brock, "active").WithoutCompensation())
	_, err := runner.Run(ctx, b)
	return err
}

func idempotency(ctx context.Context, runner txn.Runner) error {
	for range 2 { // the second one gets the result of the first
		ctx, err := txn.WithIdempotency(ctx, "order-4711", nil)
		if err != nil {
			return err
		}
		if _, err = txn.Do(ctx, runner, rpgv1.CharacterFund("brock", gold(10))); err != nil {
			return err
		}
	}
	ctx, err := txn.WithIdempotency(ctx, "order-4711", nil)
	if err != nil {
		return err
	}
	if _, err = txn.Do(ctx, runner, rpgv1.CharacterFund("brock", gold(11))); txn.CodeOf(err) != txn.CodeInvalidArgument {
		return fmt.Errorf("another request with the same key should have been refused: %w", err)
	}
	return nil
}

func deadline(ctx context.Context, runner txn.Runner) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // bounds the work, not only the waiting
	defer cancel()
	_, err := txn.Do(ctx, runner, rpgv1.CharacterFund("brock", gold(10)))
	if e := txn.AsError(err); e != nil && e.Details[txn.DetailOutcome] == txn.OutcomeUnknown {
		fmt.Println("ask later what became of", e.Details[txn.DetailTxnID]) // rpg txn wait ID
	}
	return err
}

func delayed(ctx context.Context, runner txn.Runner) error {
	b := txn.New()
	b.NotBefore(time.Now().Add(time.Second))
	txn.Add(b, rpgv1.CharacterFund("brock", gold(10)))
	_, err := runner.Run(ctx, b) // waits until it has run
	return err
}

func explained(ctx context.Context, runner txn.Runner) error {
	b := txn.New()
	txn.Add(b, rpgv1.CharacterDebitFunds("thora", gold(5)))
	txn.Add(b, rpgv1.CharacterCreditFunds("brock", gold(5)))
	_, err := runner.Run(txn.WithExplain(ctx), b)
	e := txn.AsError(err)
	if e == nil || e.Details[txn.DetailPlan] != "explained" {
		return fmt.Errorf("there is no plan: %w", err)
	}
	fmt.Print(e.Message) // two visits, sorted by key: brock prepares, thora commits
	return nil
}

func TestTransactions(t *testing.T) {
	runner := platformOf(t)
	balance := map[string]int64{"brock": 100, "thora": 100}
	for _, c := range []struct {
		name         string
		run          func(context.Context, txn.Runner) error
		brock, thora int64 // what they get
	}{
		{"isolated", isolated, -5, 5},
		{"refused", refused, 0, 0},
		{"data flow", dataFlow, -7, 7},
		{"data flow is checked", dataFlowIsChecked, 0, 0},
		{"condition", condition, 0, 0},
		{"saga", saga, -20, 20},
		{"saga is undone", sagaIsUndone, 0, 0},
		{"saga is checked", sagaIsChecked, 0, 0},
		{"idempotency", idempotency, 10, 0},
		{"deadline", deadline, 10, 0},
		{"delayed", delayed, 10, 0},
		{"explained", explained, 0, 0},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := c.run(ctx, runner); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		balance["brock"] += c.brock
		balance["thora"] += c.thora
		for id, want := range balance {
			got, err := txn.Do(ctx, runner, rpgv1.CharacterRead(id))
			if err != nil || got.GetCurrency().GetGold() != want {
				t.Errorf("%s: %s has %v, %v; want %d", c.name, id, got.GetCurrency(), err, want)
				balance[id] = got.GetCurrency().GetGold()
			}
		}
		cancel()
	}
}
