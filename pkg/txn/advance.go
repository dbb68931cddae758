package txn

import (
	"slices"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Transition is what follows when a visit ends. Everything in it happens in
// one Kafka transaction, or nothing does.
type Transition struct {
	// Next is the visit to send on; nil at the end of the transaction.
	Next *rkcyv1.Visit
	// Restart is the first visit of the next attempt, to be sent once the
	// hold that this attempt died for has passed on.
	Restart *rkcyv1.Visit
	// Settle lists the participants that learn the outcome: Commit or not.
	Settle []*rkcyv1.Participant
	Commit bool
	// Response answers the submitter; nil while the transaction goes on.
	Response *rkcyv1.Response
}

// Advance returns what follows after the steps of a visit ran without a fault.
// results are the transaction's results so far, by step index. at is where the
// visit ran; held says that something stays held there for the transaction if
// it goes on. v is not changed.
//
// Executing the last visit is the commit point: the markers of all
// participants and the response are in one Kafka transaction, so whatever a
// client sends after it saw the response lies behind the markers.
func Advance(v *rkcyv1.Visit, results []*rkcyv1.StepResult, at *rkcyv1.Participant, held bool) Transition {
	if IsLast(v) {
		return Transition{
			Settle:   v.GetParticipants(),
			Commit:   true,
			Response: response(v, &rkcyv1.Response{Results: results[:submitted(v.GetTxn(), len(results))]}),
		}
	}
	next := &rkcyv1.Visit{
		Txn:          v.GetTxn(),
		Attempt:      v.GetAttempt(),
		Visit:        v.GetVisit() + 1,
		Results:      results,
		Participants: v.GetParticipants(),
	}
	if held && !IsParticipant(v, at.GetTopic(), at.GetPartition()) {
		next.Participants = append(slices.Clone(v.GetParticipants()), at)
	}
	return Transition{Next: next}
}

// Refuse returns what follows when a transaction ends without effect: a
// handler refused, the deadline passed, a limit was met. In isolated mode nobody
// has written anything that would have to be undone; participants drop what
// they prepared. A saga goes back.
func Refuse(v *rkcyv1.Visit, err *Error) Transition {
	if IsSaga(v.GetTxn()) && !v.GetClaim() && len(v.GetResults()) > 0 {
		if next := nextUndo(v, PlanIndex(v)-1, err.ToProto()); next != nil {
			return Transition{Next: next}
		}
	}
	return Transition{
		Settle:   v.GetParticipants(),
		Response: response(v, &rkcyv1.Response{Error: err.ToProto()}),
	}
}

// Die returns what follows when a transaction gives way to an older one: its
// participants drop what they prepared, and it starts again with its original
// age.
func Die(v *rkcyv1.Visit) Transition {
	return Transition{
		Settle:  v.GetParticipants(),
		Restart: &rkcyv1.Visit{Txn: Submitted(v.GetTxn()), Attempt: v.GetAttempt() + 1},
	}
}

// Submitted returns a transaction without the steps that a processor has added,
// which depend on what it saw.
func Submitted(t *rkcyv1.Transaction) *rkcyv1.Transaction {
	n := submitted(t, len(t.GetSteps()))
	if n == len(t.GetSteps()) {
		return t
	}
	return &rkcyv1.Transaction{
		Id: t.GetId(), SubmitTimeMs: t.GetSubmitTimeMs(), DeadlineMs: t.GetDeadlineMs(), EffectiveTimeMs: t.GetEffectiveTimeMs(),
		Mode: t.GetMode(), ReplyTo: t.GetReplyTo(), Headers: t.GetHeaders(), Idempotency: t.GetIdempotency(), NotBeforeMs: t.GetNotBeforeMs(),
		Steps: t.GetSteps()[:n],
		Visits: slices.DeleteFunc(slices.Clone(t.GetVisits()), func(p *rkcyv1.VisitPlan) bool {
			return int(p.GetSteps()[0]) >= n
		}),
	}
}

func submitted(t *rkcyv1.Transaction, all int) int {
	if n := int(t.GetSubmittedSteps()); n > 0 && n < all {
		return n
	}
	return all
}

// IsParticipant reports whether a partition holds something for the
// transaction of v.
func IsParticipant(v *rkcyv1.Visit, topic string, partition int32) bool {
	return slices.ContainsFunc(v.GetParticipants(), func(p *rkcyv1.Participant) bool {
		return p.GetPartition() == partition && p.GetTopic() == topic
	})
}

func response(v *rkcyv1.Visit, r *rkcyv1.Response) *rkcyv1.Response {
	r.TxnId = v.GetTxn().GetId()
	r.Edge = v.GetTxn().GetReplyTo().GetEdge()
	r.Attempts = v.GetAttempt()
	return r
}
