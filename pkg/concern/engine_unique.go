package concern

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// constrain returns the steps that a change of an instance adds to its
// transaction, so that unique values stay unique: take the new value, give the
// old one back.
func (s *commandSet) constrain(key string, before, after proto.Message) ([]*rkcyv1.Step, *txn.Error) {
	var out []*rkcyv1.Step
	for _, u := range s.def.Unique {
		var old, now string
		if before != nil {
			old = u.Value(before)
		}
		if after != nil {
			now = u.Value(after)
		}
		if old == now {
			continue
		}
		if now != "" {
			if err := txn.CheckKey(now); err != nil {
				return nil, txn.Errorf(txn.CodeInvalidArgument, "%s is unique, so it has the rules of a key: %w", u.Field, err).
					With(txn.DetailField, u.Field)
			}
			payload, err := proto.Marshal(&rkcyv1.UniqueEntry{Value: now, Owner: key})
			if err != nil {
				return nil, txn.Errorf(txn.CodeInternal, "%w", err)
			}
			out = append(out, &rkcyv1.Step{Concern: u.Index, Key: now, Command: txn.CommandCreate, Payload: payload})
		}
		if old != "" {
			out = append(out, &rkcyv1.Step{Concern: u.Index, Key: old, Command: txn.CommandDelete})
		}
	}
	return out, nil
}

// extend returns the visit with steps added to the end of its transaction, as
// visits of their own in order of (Concern, key).
func extend(v *rkcyv1.Visit, results []*rkcyv1.StepResult, steps []*rkcyv1.Step) (*rkcyv1.Visit, []*rkcyv1.StepResult) {
	t := &rkcyv1.Transaction{
		Id: v.GetTxn().GetId(), SubmitTimeMs: v.GetTxn().GetSubmitTimeMs(), DeadlineMs: v.GetTxn().GetDeadlineMs(),
		EffectiveTimeMs: v.GetTxn().GetEffectiveTimeMs(), Mode: v.GetTxn().GetMode(), ReplyTo: v.GetTxn().GetReplyTo(),
		Headers: v.GetTxn().GetHeaders(), Idempotency: v.GetTxn().GetIdempotency(), NotBeforeMs: v.GetTxn().GetNotBeforeMs(),
		Steps:  slices.Concat(v.GetTxn().GetSteps(), steps),
		Visits: slices.Clone(v.GetTxn().GetVisits()),
		// What another attempt adds may be something else.
		SubmittedSteps: v.GetTxn().GetSubmittedSteps(),
	}
	if t.GetSubmittedSteps() == 0 {
		t.SubmittedSteps = uint32(len(v.GetTxn().GetSteps())) //nolint:gosec // < MaxSteps
	}
	first := uint32(len(v.GetTxn().GetSteps())) //nolint:gosec // < MaxSteps
	for _, p := range txn.Plan(steps) {
		own := &rkcyv1.VisitPlan{}
		for _, i := range p.GetSteps() {
			own.Steps = append(own.Steps, first+i)
		}
		t.Visits = append(t.Visits, own)
	}
	results = slices.Clone(results)
	for range steps {
		results = append(results, &rkcyv1.StepResult{})
	}
	return &rkcyv1.Visit{
		Txn: t, Attempt: v.GetAttempt(), Visit: v.GetVisit(), Results: results, Participants: v.GetParticipants(), Related: v.GetRelated(),
	}, results
}
