package txn

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Saga returns an empty builder of a saga: each visit commits at once, and when
// a later one fails, the compensations of the steps that ran are run in reverse
// order (Garcia-Molina, Salem: Sagas, 1987). Every step that writes needs a
// compensation or says that it needs none.
func Saga() *Builder {
	b := New()
	b.mode = rkcyv1.Mode_MODE_SAGA
	return b
}

// checkCompensation refuses a step that a saga could not undo.
func checkCompensation(s Step) error {
	if s.Access == rkcyv1.Access_ACCESS_READ || s.Compensation != "" || s.NoCompensation {
		return nil
	}
	return fmt.Errorf("a saga cannot undo it: name a compensation in the option of %s, use CompensatedBy, or say WithoutCompensation", s.Command)
}

// IsSaga reports whether every visit of a transaction commits at once.
func IsSaga(t *rkcyv1.Transaction) bool { return t.GetMode() == rkcyv1.Mode_MODE_SAGA }

// Undoing reports whether a visit is one of a saga that is being undone.
func Undoing(v *rkcyv1.Visit) bool { return v.GetUndo() != nil }

// PlanIndex returns the index in the plan of what a visit works on. Undo visits
// are numbered on: with n visits, visit 2n-1-j undoes visit j.
func PlanIndex(v *rkcyv1.Visit) int {
	n, i := len(v.GetTxn().GetVisits()), int(v.GetVisit())
	if Undoing(v) {
		return 2*n - 1 - i
	}
	return i
}

// IsLast reports whether a visit is the one whose end commits the transaction.
func IsLast(v *rkcyv1.Visit) bool {
	return !Undoing(v) && int(v.GetVisit())+1 == len(v.GetTxn().GetVisits())
}

// StepsOf returns the indexes of the steps that a visit runs, in order: those
// of the plan, or in reverse those that have to be undone.
func StepsOf(v *rkcyv1.Visit) []uint32 {
	steps := v.GetTxn().GetVisits()[PlanIndex(v)].GetSteps()
	if !Undoing(v) {
		return steps
	}
	return undoSteps(v, PlanIndex(v))
}

func undoSteps(v *rkcyv1.Visit, index int) []uint32 {
	var out []uint32
	for _, i := range v.GetTxn().GetVisits()[index].GetSteps() {
		if v.GetTxn().GetSteps()[i].GetCompensation() != "" && !v.GetResults()[i].GetSkipped() {
			out = append(out, i)
		}
	}
	slices.Reverse(out)
	return out
}

// StepAt returns step i as a visit runs it: as it was submitted, or its
// compensation.
func StepAt(v *rkcyv1.Visit, i uint32) *rkcyv1.Step {
	s := v.GetTxn().GetSteps()[i]
	if !Undoing(v) {
		return s
	}
	undo := &rkcyv1.Step{Concern: s.GetConcern(), Key: s.GetKey(), Command: s.GetCompensation()}
	if s.GetCompensateWithResult() {
		undo.Payload = v.GetResults()[i].GetValue()
	} else {
		undo.Payload, undo.Inputs = s.GetPayload(), s.GetInputs()
	}
	return undo
}

// nextUndo returns the visit that undoes the latest of the visits up to index
// that leaves something to undo; nil if there is none.
func nextUndo(v *rkcyv1.Visit, index int, failure *rkcyv1.Error) *rkcyv1.Visit {
	for j := index; j >= 0; j-- {
		if len(undoSteps(v, j)) > 0 {
			return &rkcyv1.Visit{
				Txn: v.GetTxn(), Attempt: v.GetAttempt(), Results: v.GetResults(), Undo: failure,
				Visit: uint32(2*len(v.GetTxn().GetVisits()) - 1 - j), //nolint:gosec // < 2*MaxSteps
			}
		}
	}
	return nil
}

// Values of DetailSaga.
const (
	// SagaCompensated: what had been done was undone.
	SagaCompensated = "compensated"
	// SagaStuck: a compensation is refused again and again; somebody has to
	// decide.
	SagaStuck = "stuck"
)

// AdvanceUndo returns what follows after the compensations of an undo visit
// ran.
func AdvanceUndo(v *rkcyv1.Visit) Transition {
	if next := nextUndo(v, PlanIndex(v)-1, v.GetUndo()); next != nil {
		return Transition{Next: next}
	}
	return Transition{Response: response(v, &rkcyv1.Response{
		Error: undone(v, map[string]string{DetailSaga: SagaCompensated}),
	})}
}

// Stuck returns the answer for a saga whose compensation was refused too often.
// The saga stays where it is.
func Stuck(v *rkcyv1.Visit, refusal *Error) Transition {
	return Transition{Response: response(v, &rkcyv1.Response{
		Error: undone(v, map[string]string{DetailSaga: SagaStuck, DetailRefusal: refusal.Error()}),
	})}
}

// undone returns why a saga went back, with details that are there however many
// others the handler has given.
func undone(v *rkcyv1.Visit, details map[string]string) *rkcyv1.Error {
	e := proto.CloneOf(v.GetUndo())
	if e.Details == nil {
		e.Details = map[string]string{}
	}
	for name, value := range details {
		e.Details[name] = cut(value, maxErrorDetail)
	}
	return e
}
