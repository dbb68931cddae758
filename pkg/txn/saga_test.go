package txn

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func thing(command, key string) TypedStep[*rkcyv1.Visit] {
	return NewStep("thing", key, command, rkcyv1.Access_ACCESS_WRITE, &rkcyv1.Visit{Attempt: 1}, func() *rkcyv1.Visit { return &rkcyv1.Visit{} })
}

// sagaOf builds a saga on instances a, b, c, whose visits are in that order.
func sagaOf(t *testing.T) *rkcyv1.Transaction {
	t.Helper()
	b := Saga()
	Add(b, thing("take", "a").CompensatedBy("give"))
	Add(b, thing("mark", "a").CompensatedByResult("unmark"))
	Add(b, thing("look", "b").WithoutCompensation())
	Add(b, thing("take", "c").CompensatedBy("give"))
	saga, err := b.Build(NewID(), time.UnixMilli(1000), time.UnixMilli(2000), nil)
	if err != nil {
		t.Fatal(err)
	}
	return saga
}

func TestSagaRefusesWhatItCannotUndo(t *testing.T) {
	b := Saga()
	Add(b, thing("take", "a"))
	Add(b, thing(CommandUpdate, "a"))
	Add(b, thing(CommandCreate, "a"))
	Add(b, thing("note", "a").WithoutCompensation())
	_, err := b.Build(NewID(), time.UnixMilli(1), time.UnixMilli(2), nil)
	if CodeOf(err) != CodeInvalidArgument || !strings.Contains(err.Error(), "step 0 (thing take): a saga cannot undo it") ||
		!strings.Contains(err.Error(), "step 1 (thing update)") || strings.Contains(err.Error(), "step 2") || strings.Contains(err.Error(), "step 3") {
		t.Fatalf("got %v", err)
	}
	// The same steps are fine when they are isolated.
	b = New()
	Add(b, thing("take", "a"))
	if _, err := b.Build(NewID(), time.UnixMilli(1), time.UnixMilli(2), nil); err != nil {
		t.Fatal(err)
	}
}

func TestSagaGoesBackInReverse(t *testing.T) {
	saga := sagaOf(t)
	results := []*rkcyv1.StepResult{{Value: []byte("r0")}, {Value: []byte("r1")}, {}, {}}
	v := &rkcyv1.Visit{Txn: saga, Attempt: 1, Visit: 2, Results: results}
	failure := Errorf(CodeFailedPrecondition, "no")
	next := Refuse(v, failure)
	if next.Response != nil || next.Next == nil {
		t.Fatalf("a saga with something to undo was answered: %v", next)
	}
	u := next.Next
	if err := CheckVisit(u); err != nil {
		t.Fatal(err)
	}
	// b needs no compensation, so a is next: its two steps, the later first.
	if c, key := Instance(u); c != "thing" || key != "a" || u.GetVisit() != 5 || !slices.Equal(StepsOf(u), []uint32{1, 0}) {
		t.Fatalf("undo visit %d of %s with steps %v", u.GetVisit(), key, StepsOf(u))
	}
	unmark, give := StepAt(u, 1), StepAt(u, 0)
	if unmark.GetCommand() != "unmark" || string(unmark.GetPayload()) != "r1" {
		t.Errorf("undo of mark is %v", unmark)
	}
	if give.GetCommand() != "give" || !proto.Equal(give, &rkcyv1.Step{Concern: "thing", Key: "a", Command: "give", Payload: saga.GetSteps()[0].GetPayload()}) {
		t.Errorf("undo of take is %v", give)
	}
	if IsLast(u) {
		t.Error("an undo visit passes for the commit point")
	}
	end := AdvanceUndo(u)
	if end.Next != nil || end.Commit || end.Response.GetError().GetCode() != CodeFailedPrecondition ||
		end.Response.GetError().GetDetails()[DetailSaga] != SagaCompensated {
		t.Fatalf("got %v", end)
	}
	stuck := Stuck(u, Errorf(CodeNotFound, "gone"))
	if d := stuck.Response.GetError().GetDetails(); d[DetailSaga] != SagaStuck || d[DetailRefusal] != "NOT_FOUND: gone" {
		t.Fatalf("got %v", stuck)
	}
}

func TestSagaWithNothingToUndoIsAnswered(t *testing.T) {
	saga := sagaOf(t)
	if first := Refuse(&rkcyv1.Visit{Txn: saga, Attempt: 1}, Errorf(CodeNotFound, "x")); first.Next != nil || first.Response.GetError().GetCode() != CodeNotFound {
		t.Fatalf("got %v", first)
	}
	skipped := []*rkcyv1.StepResult{{Skipped: true}, {Skipped: true}, {}, {}}
	if after := Refuse(&rkcyv1.Visit{Txn: saga, Attempt: 1, Visit: 2, Results: skipped}, Errorf(CodeNotFound, "x")); after.Next != nil {
		t.Fatalf("what was skipped is undone: %v", after)
	}
}

func TestCheckVisitOfSagas(t *testing.T) {
	saga := sagaOf(t)
	results := make([]*rkcyv1.StepResult, 4)
	for i := range results {
		results[i] = &rkcyv1.StepResult{}
	}
	undo := &rkcyv1.Error{Code: CodeNotFound}
	isolated := proto.CloneOf(saga)
	isolated.Mode = rkcyv1.Mode_MODE_ISOLATED
	for name, v := range map[string]*rkcyv1.Visit{
		"undo below the plan":        {Txn: saga, Attempt: 1, Visit: 2, Undo: undo, Results: results},
		"undo above the plan":        {Txn: saga, Attempt: 1, Visit: 6, Undo: undo, Results: results},
		"undo without results":       {Txn: saga, Attempt: 1, Visit: 4, Undo: undo},
		"undo of an isolated one":    {Txn: isolated, Attempt: 1, Visit: 4, Undo: undo, Results: results},
		"forward above the plan":     {Txn: saga, Attempt: 1, Visit: 3, Results: results},
		"claim without a key":        {Txn: saga, Attempt: 1, Claim: true},
		"a mode that is not known":   {Txn: &rkcyv1.Transaction{Id: saga.GetId(), Mode: 9, Steps: saga.GetSteps(), Visits: saga.GetVisits()}, Attempt: 1},
		"more visits than steps":     {Txn: &rkcyv1.Transaction{Id: saga.GetId(), Steps: saga.GetSteps()[:1], Visits: saga.GetVisits()}, Attempt: 1},
		"a visit number that is odd": {Txn: saga, Attempt: 1, Visit: 1 << 31, Undo: undo, Results: results},
	} {
		if err := CheckVisit(v); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
