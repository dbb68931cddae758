package txn_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// read and update stand in for what the generator writes for a Concern.
func read(key string) txn.TypedStep[*rkcyv1.Participant] {
	return txn.NewStep("place", key, txn.CommandRead, rkcyv1.Access_ACCESS_READ, &rkcyv1.Empty{},
		func() *rkcyv1.Participant { return &rkcyv1.Participant{} })
}

func move(key string) txn.TypedStep[*rkcyv1.Participant] {
	return txn.NewStep("place", key, "Move", rkcyv1.Access_ACCESS_WRITE, &rkcyv1.Participant{},
		func() *rkcyv1.Participant { return &rkcyv1.Participant{} })
}

// echo is a Runner that answers every step with nothing.
type echo struct{}

func (echo) Run(_ context.Context, b *txn.Builder) (*txn.Result, error) {
	if b.Len() == 0 {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "no step was added")
	}
	return nil, fmt.Errorf("run: %w", txn.Errorf(txn.CodeNotFound, "place %q does not exist", "north").With(txn.DetailKey, "north"))
}

func ExampleBuilder() {
	b := txn.New()
	txn.Add(b, move("b"))
	txn.Add(b, move("a"))
	txn.Add(b, move("b"))
	t, err := b.Build(txn.NewID(), time.Now(), time.Now().Add(time.Second), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range t.GetVisits() {
		fmt.Println(t.GetSteps()[v.GetSteps()[0]].GetKey(), v.GetSteps())
	}
	// Output:
	// a [1]
	// b [0 2]
}

// The partition of one place becomes that of another.
func ExampleBind() {
	b := txn.New()
	from := txn.Add(b, read("north"))
	to := txn.Add(b, move("south"))
	txn.Bind(b, from, "partition", to, "partition")
	txn.Bind(b, from, "topic", to, "partition")
	_, err := b.Build(txn.NewID(), time.Now(), time.Now().Add(time.Second), nil)
	fmt.Println(err)
	// Output:
	// INVALID_ARGUMENT: bind step 0 to step 1: rkcy.v1.Participant.topic and rkcy.v1.Participant.partition differ in type
}

func ExampleDo() {
	_, err := txn.Do(context.Background(), echo{}, read("north"))
	fmt.Println(txn.CodeOf(err) == txn.CodeNotFound)
	var e *txn.Error
	if errors.As(err, &e) {
		fmt.Println(e.Message, e.Details[txn.DetailKey])
	}
	// Output:
	// true
	// place "north" does not exist north
}

func ExampleErrorf() {
	err := txn.Errorf(txn.CodeFailedPrecondition, "the purse holds %d, not %d", 3, 5).With(txn.DetailField, "amount")
	fmt.Println(err)
	// Output:
	// FAILED_PRECONDITION: the purse holds 3, not 5 (field=amount)
}

func ExampleHoldQueue() {
	older, younger := txn.Age{SubmitMs: 1}, txn.Age{SubmitMs: 2, ID: txn.ID{1}}
	var q txn.HoldQueue[string]
	q.Grant(txn.Request{Age: younger, Write: true})
	r := txn.Request{Age: older, Write: true, HoldsOther: true}
	fmt.Println(q.Ask(r) == txn.Wait) // the older one may wait although it holds something
	q.Park(r, "older")
	q.Release(younger.ID)
	w, ok := q.Next()
	fmt.Println(w.Value, ok)
	// Output:
	// true
	// older true
}
