package txn

import (
	"testing"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestAdvance(t *testing.T) {
	v := goodVisit()
	v.Visit, v.Attempt, v.Participants = 0, 3, nil
	v.Txn.ReplyTo = &rkcyv1.ReplyTo{Partition: 2, Edge: 9}
	before := proto.Clone(v)
	results := []*rkcyv1.StepResult{{Version: 1}, {}, {Version: 1}}
	here := &rkcyv1.Participant{Topic: "a", Partition: 1}

	first := Advance(v, results, here, true)
	want := &rkcyv1.Visit{Txn: v.GetTxn(), Attempt: 3, Visit: 1, Results: results, Participants: []*rkcyv1.Participant{here}}
	if !proto.Equal(first.Next, want) || first.Restart != nil || first.Response != nil || first.Settle != nil {
		t.Errorf("after the first visit: %+v", first)
	}
	if !proto.Equal(v, before) {
		t.Error("the visit was changed")
	}
	if got := Advance(v, results, here, false); len(got.Next.GetParticipants()) != 0 {
		t.Error("a partition that holds nothing takes part")
	}
	again := proto.CloneOf(v)
	again.Participants = []*rkcyv1.Participant{here}
	if got := Advance(again, results, proto.CloneOf(here), true); len(got.Next.GetParticipants()) != 1 {
		t.Error("a partition takes part twice")
	}

	last := Advance(first.Next, results, &rkcyv1.Participant{Topic: "b"}, true)
	wantAnswer := &rkcyv1.Response{TxnId: v.GetTxn().GetId(), Edge: 9, Results: results, Attempts: 3}
	if !proto.Equal(last.Response, wantAnswer) || !last.Commit || last.Next != nil || len(last.Settle) != 1 {
		t.Errorf("after the last visit: %+v", last)
	}
}

func TestAdvanceDoesNotShareParticipants(t *testing.T) {
	v := goodVisit()
	v.Txn.Visits = append(v.Txn.Visits, &rkcyv1.VisitPlan{})
	v.Participants = make([]*rkcyv1.Participant, 1, 8)
	v.Participants[0] = &rkcyv1.Participant{Topic: "a"}
	one := Advance(v, nil, &rkcyv1.Participant{Topic: "b"}, true)
	Advance(v, nil, &rkcyv1.Participant{Topic: "c"}, true)
	if one.Next.GetParticipants()[1].GetTopic() != "b" {
		t.Error("two successors share memory")
	}
}

func TestRefuse(t *testing.T) {
	v := goodVisit()
	got := Refuse(v, Errorf(CodeNotFound, "no"))
	if got.Commit || got.Next != nil || got.Restart != nil || len(got.Settle) != 1 ||
		got.Response.GetError().GetCode() != CodeNotFound || got.Response.GetResults() != nil {
		t.Errorf("%+v", got)
	}
}

func TestDie(t *testing.T) {
	v := goodVisit()
	got := Die(v)
	if got.Commit || got.Next != nil || got.Response != nil || len(got.Settle) != 1 {
		t.Errorf("%+v", got)
	}
	if !proto.Equal(got.Restart, &rkcyv1.Visit{Txn: v.GetTxn(), Attempt: 2}) {
		t.Errorf("starts again as %v", got.Restart)
	}
	if AgeOf(got.Restart.GetTxn()) != AgeOf(v.GetTxn()) {
		t.Error("its age has changed")
	}
}

func TestIsParticipant(t *testing.T) {
	v := &rkcyv1.Visit{Participants: []*rkcyv1.Participant{{Topic: "a", Partition: 1}}}
	if !IsParticipant(v, "a", 1) || IsParticipant(v, "a", 0) || IsParticipant(v, "b", 1) {
		t.Error("topic and partition count")
	}
}
