package txn

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func apply(t *testing.T, from proto.Message, fromPath string, to proto.Message, toPath string) error {
	t.Helper()
	raw, err := proto.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	return ApplyInputs(to, []*rkcyv1.Input{{
		FromStep: 1, FromType: string(from.ProtoReflect().Descriptor().FullName()), FromPath: fromPath, ToPath: toPath,
	}}, []*rkcyv1.StepResult{nil, {Value: raw}})
}

func TestApplyInputs(t *testing.T) {
	for name, c := range map[string]struct {
		from     proto.Message
		fromPath string
		to       proto.Message
		toPath   string
		want     proto.Message
	}{
		"scalar": {
			&rkcyv1.Visit{Attempt: 7}, "attempt",
			&rkcyv1.Visit{Visit: 1}, "visit",
			&rkcyv1.Visit{Visit: 7},
		},
		"zero replaces what was there": {
			&rkcyv1.Visit{}, "attempt",
			&rkcyv1.Visit{Visit: 1}, "visit",
			&rkcyv1.Visit{},
		},
		"nested to nested that did not exist": {
			&rkcyv1.Visit{Txn: &rkcyv1.Transaction{ReplyTo: &rkcyv1.ReplyTo{Partition: 4}}}, "txn.reply_to.partition",
			&rkcyv1.Visit{}, "txn.reply_to.partition",
			&rkcyv1.Visit{Txn: &rkcyv1.Transaction{ReplyTo: &rkcyv1.ReplyTo{Partition: 4}}},
		},
		"absent through an absent parent leaves no parent": {
			&rkcyv1.Visit{}, "txn.reply_to.partition",
			&rkcyv1.Visit{}, "txn.reply_to.partition",
			&rkcyv1.Visit{},
		},
		"message": {
			&rkcyv1.Visit{Txn: &rkcyv1.Transaction{Id: []byte("id")}}, "txn",
			&rkcyv1.Visit{Attempt: 1, Txn: &rkcyv1.Transaction{SubmitTimeMs: 3}}, "txn",
			&rkcyv1.Visit{Attempt: 1, Txn: &rkcyv1.Transaction{Id: []byte("id")}},
		},
		"absent message clears": {
			&rkcyv1.Visit{}, "txn",
			&rkcyv1.Visit{Txn: &rkcyv1.Transaction{}}, "txn",
			&rkcyv1.Visit{},
		},
		"present empty message is present": {
			&rkcyv1.Visit{Txn: &rkcyv1.Transaction{}}, "txn",
			&rkcyv1.Visit{}, "txn",
			&rkcyv1.Visit{Txn: &rkcyv1.Transaction{}},
		},
		"whole message replaces the whole payload": {
			&rkcyv1.Visit{Attempt: 2}, "",
			&rkcyv1.Visit{Visit: 9}, "",
			&rkcyv1.Visit{Attempt: 2},
		},
		"whole message into a field": {
			&rkcyv1.Transaction{SubmitTimeMs: 5}, "",
			&rkcyv1.Visit{Visit: 9}, "txn",
			&rkcyv1.Visit{Visit: 9, Txn: &rkcyv1.Transaction{SubmitTimeMs: 5}},
		},
		"field into the whole payload": {
			&rkcyv1.Visit{Txn: &rkcyv1.Transaction{SubmitTimeMs: 5}}, "txn",
			&rkcyv1.Transaction{DeadlineMs: 1}, "",
			&rkcyv1.Transaction{SubmitTimeMs: 5},
		},
		"absent field into the whole payload": {
			&rkcyv1.Visit{}, "txn",
			&rkcyv1.Transaction{DeadlineMs: 1}, "",
			&rkcyv1.Transaction{},
		},
		"list": {
			&rkcyv1.Visit{Participants: []*rkcyv1.Participant{{Topic: "a"}, {Topic: "b"}}}, "participants",
			&rkcyv1.Visit{Participants: []*rkcyv1.Participant{{Topic: "c"}}}, "participants",
			&rkcyv1.Visit{Participants: []*rkcyv1.Participant{{Topic: "a"}, {Topic: "b"}}},
		},
		"map": {
			&rkcyv1.Error{Details: map[string]string{"a": "b"}}, "details",
			&rkcyv1.Visit{Txn: &rkcyv1.Transaction{Headers: map[string]string{"c": "d"}}}, "txn.headers",
			&rkcyv1.Visit{Txn: &rkcyv1.Transaction{Headers: map[string]string{"a": "b"}}},
		},
		"enum": {
			&rkcyv1.Hold{Access: rkcyv1.Access_ACCESS_READ}, "access",
			&rkcyv1.Step{}, "access",
			&rkcyv1.Step{Access: rkcyv1.Access_ACCESS_READ},
		},
		"zero without presence is a value where there is presence": {
			&rkcyv1.Participant{}, "topic",
			&descriptorpb.FieldDescriptorProto{}, "name",
			&descriptorpb.FieldDescriptorProto{Name: proto.String("")},
		},
		"absent with presence clears": {
			&descriptorpb.FieldDescriptorProto{}, "name",
			&descriptorpb.FieldDescriptorProto{Name: proto.String("x")}, "name",
			&descriptorpb.FieldDescriptorProto{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := apply(t, c.from, c.fromPath, c.to, c.toPath); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(c.to, c.want) {
				t.Errorf("got %v, want %v", c.to, c.want)
			}
		})
	}
}

func TestApplyInputsRefuses(t *testing.T) {
	visit := []*rkcyv1.StepResult{{}, nil}
	for name, c := range map[string]struct {
		in      *rkcyv1.Input
		results []*rkcyv1.StepResult
	}{
		"step out of range":     {&rkcyv1.Input{FromStep: 2, FromType: "rkcy.v1.Visit"}, visit},
		"step that has not run": {&rkcyv1.Input{FromStep: 1, FromType: "rkcy.v1.Visit"}, visit},
		"unknown type":          {&rkcyv1.Input{FromType: "no.such.Message"}, visit},
		"bytes of no type":      {&rkcyv1.Input{FromType: "rkcy.v1.Visit"}, []*rkcyv1.StepResult{{Value: []byte{0xff}}}},
		"unknown field":         {&rkcyv1.Input{FromType: "rkcy.v1.Visit", FromPath: "nope", ToPath: "attempt"}, visit},
		"unknown target":        {&rkcyv1.Input{FromType: "rkcy.v1.Visit", FromPath: "attempt", ToPath: "nope"}, visit},
		"type does not fit":     {&rkcyv1.Input{FromType: "rkcy.v1.Visit", FromPath: "attempt", ToPath: "txn"}, visit},
		"empty element":         {&rkcyv1.Input{FromType: "rkcy.v1.Visit", FromPath: "txn..id", ToPath: "txn.id"}, visit},
	} {
		t.Run(name, func(t *testing.T) {
			p := &rkcyv1.Visit{Attempt: 3}
			if err := ApplyInputs(p, []*rkcyv1.Input{c.in}, c.results); err == nil {
				t.Error("it was accepted")
			}
			if !proto.Equal(p, &rkcyv1.Visit{Attempt: 3}) {
				t.Errorf("the payload was changed to %v", p)
			}
		})
	}
}

// Two payloads that are fed from one message share no memory with it or each
// other.
func TestCopyFieldDoesNotAlias(t *testing.T) {
	for _, path := range []string{"", "txn", "txn.id", "participants", "txn.headers", "txn.steps"} {
		src := &rkcyv1.Visit{
			Txn: &rkcyv1.Transaction{
				Id: []byte("0123456789abcdef"), Headers: map[string]string{"a": "b"}, Steps: []*rkcyv1.Step{{Payload: []byte("p")}},
			},
			Participants: []*rkcyv1.Participant{{Topic: "t"}},
		}
		before := proto.Clone(src)
		dst := &rkcyv1.Visit{}
		if err := copyField(src.ProtoReflect(), path, dst.ProtoReflect(), path); err != nil {
			t.Fatal(err)
		}
		spoil := func(v *rkcyv1.Visit) {
			for i := range v.GetTxn().GetId() {
				v.GetTxn().GetId()[i] = 'x'
			}
			for k := range v.GetTxn().GetHeaders() {
				v.GetTxn().GetHeaders()[k] = "x"
			}
			for _, s := range v.GetTxn().GetSteps() {
				s.Payload[0] = 'x'
			}
			for _, p := range v.GetParticipants() {
				p.Topic = "x"
			}
		}
		spoil(dst)
		if !proto.Equal(src, before) {
			t.Errorf("path %q: a change of the payload changed the result to %v", path, src)
		}
	}
}
