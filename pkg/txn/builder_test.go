package txn

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func newVisit() *rkcyv1.Visit { return &rkcyv1.Visit{} }

// visitStep has a nested message both as payload and as result.
func visitStep(key string) TypedStep[*rkcyv1.Visit] {
	return NewStep("thing", key, "Do", rkcyv1.Access_ACCESS_WRITE, &rkcyv1.Visit{}, newVisit)
}

func build(b *Builder) (*rkcyv1.Transaction, error) {
	return b.Build(NewID(), time.UnixMilli(1000), time.UnixMilli(2000), nil)
}

func TestBuildRefuses(t *testing.T) {
	add := func(s Step) func(*Builder) { return func(b *Builder) { b.AddStep(s) } }
	with := func(change func(*Step)) func(*Builder) {
		s := Step{Concern: "thing", Key: "k", Command: "Do", Payload: &rkcyv1.Visit{}}
		change(&s)
		return add(s)
	}
	bind := func(fromPath, toPath string) func(*Builder) {
		return func(b *Builder) {
			one, two := Add(b, visitStep("a")), Add(b, visitStep("b"))
			Bind(b, one, fromPath, two, toPath)
		}
	}
	for name, c := range map[string]struct {
		fill func(*Builder)
		want string
	}{
		"no step":        {func(*Builder) {}, "no step"},
		"no concern":     {with(func(s *Step) { s.Concern = "" }), "names a Concern"},
		"no command":     {with(func(s *Step) { s.Command = "" }), "names a Concern"},
		"no key":         {with(func(s *Step) { s.Key = "" }), "key is empty"},
		"long key":       {with(func(s *Step) { s.Key = strings.Repeat("k", MaxKeyBytes+1) }), "at most 512"},
		"key not UTF-8":  {with(func(s *Step) { s.Key = "\xff" }), "not valid UTF-8"},
		"key with NUL":   {with(func(s *Step) { s.Key = "a\x00" }), "NUL"},
		"text with NUL":  {with(func(s *Step) { s.Payload = &rkcyv1.UpdatePayload{Paths: []string{"a\x00b"}} }), "field paths contains a NUL"},
		"nested NUL":     {with(func(s *Step) { s.Payload = &rkcyv1.Visit{Participants: []*rkcyv1.Participant{{Topic: "\x00"}}} }), "field topic contains a NUL"},
		"NUL in a map":   {with(func(s *Step) { s.Payload = &rkcyv1.Error{Details: map[string]string{"a": "\x00"}} }), "field value contains a NUL"},
		"NUL as map key": {with(func(s *Step) { s.Payload = &rkcyv1.Error{Details: map[string]string{"\x00": "a"}} }), "field key contains a NUL"},
		"text not UTF-8": {with(func(s *Step) { s.Payload = &rkcyv1.UpdatePayload{Paths: []string{"\xff"}} }), "UTF-8"},
		"bad update":     {with(func(s *Step) { s.Payload = UpdatePayload(&rkcyv1.Participant{Topic: "\xff"}) }), "UTF-8"},
		"too many steps": {func(b *Builder) {
			for range MaxSteps + 1 {
				b.AddStep(visitStep("k").Step)
			}
		}, "at most 256"},
		"unknown source field":   {bind("nope", "attempt"), `has no field "nope"`},
		"unknown target field":   {bind("attempt", "nope"), `has no field "nope"`},
		"path through a scalar":  {bind("attempt.x", "attempt"), "not a message"},
		"path through a list":    {bind("participants.topic", "attempt"), "not a message"},
		"other scalar":           {bind("attempt", "txn.id"), "differ in type"},
		"list to single":         {bind("participants", "txn"), "differ in type"},
		"message to scalar":      {bind("", "attempt"), "differ in type"},
		"other message":          {bind("txn", ""), "differ in type"},
		"list of other messages": {bind("participants", "results"), "differ in type"},
		"map to list":            {bind("txn.headers", "results"), "differ in type"},
		"enum to number":         {bind("txn.mode", "attempt"), "differ in type"},
		"result of a later step": {func(b *Builder) {
			one, two := Add(b, visitStep("a")), Add(b, visitStep("b"))
			Bind(b, two, "", one, "")
		}, "earlier steps only"},
		"its own result":          {func(b *Builder) { one := Add(b, visitStep("a")); Bind(b, one, "", one, "") }, "earlier steps only"},
		"step of another builder": {func(b *Builder) { Bind(b, Add(New(), visitStep("a")), "", Add(b, visitStep("b")), "") }, "another builder"},
		"no payload to bind to": {func(b *Builder) {
			one := Add(b, visitStep("a"))
			Bind(b, one, "", Add(b, NewStep("thing", "b", "Do", rkcyv1.Access_ACCESS_WRITE, nil, newVisit)), "")
		}, "has no payload"},
	} {
		t.Run(name, func(t *testing.T) {
			b := New()
			c.fill(b)
			got, err := build(b)
			if CodeOf(err) != CodeInvalidArgument || got != nil {
				t.Fatalf("%v, %v; want a refusal", got, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q does not say %q", err, c.want)
			}
		})
	}
}

func TestBuildReportsEveryFault(t *testing.T) {
	b := New()
	b.AddStep(Step{Concern: "thing", Key: "", Command: "Do"})
	b.AddStep(Step{Concern: "", Key: "k", Command: "Do"})
	one, two := Add(b, visitStep("a")), Add(b, visitStep("b"))
	Bind(b, one, "nope", two, "")
	_, err := build(b)
	for _, want := range []string{"step 0", "step 1", "bind step 2 to step 3"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestBuildOnce(t *testing.T) {
	b := New()
	Add(b, visitStep("k"))
	if _, err := build(b); err != nil {
		t.Fatal(err)
	}
	if _, err := build(b); CodeOf(err) != CodeInvalidArgument {
		t.Errorf("a second transaction from one builder: %v", err)
	}
}

func TestBuildAtTheLimits(t *testing.T) {
	b := New()
	for range MaxSteps {
		b.AddStep(Step{Concern: "thing", Key: strings.Repeat("k", MaxKeyBytes), Command: "Do"})
	}
	got, err := build(b)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.GetVisits()); n != 1 {
		t.Errorf("%d visits to one instance", n)
	}
}

// What travels is what was added, and it passes the check of processors.
func TestBuildCarriesSteps(t *testing.T) {
	b := New()
	one := Add(b, visitStep("a"))
	two := Add(b, NewStep("other", "b", "Look", rkcyv1.Access_ACCESS_READ, &rkcyv1.Visit{Attempt: 5}, newVisit))
	Bind(b, one, "txn.id", two, "txn.id")
	id := NewID()
	reply := &rkcyv1.ReplyTo{Partition: 3, Edge: 4}
	got, err := b.Build(id, time.UnixMilli(1000), time.UnixMilli(2000), reply)
	if err != nil {
		t.Fatal(err)
	}
	want := &rkcyv1.Transaction{
		Id: id[:], SubmitTimeMs: 1000, DeadlineMs: 2000, EffectiveTimeMs: 1000, ReplyTo: reply,
		Steps: []*rkcyv1.Step{
			{Concern: "thing", Key: "a", Command: "Do"},
			{
				Concern: "other", Key: "b", Command: "Look", Payload: []byte{0x10, 5}, Access: rkcyv1.Access_ACCESS_READ,
				Inputs: []*rkcyv1.Input{{FromStep: 0, FromType: "rkcy.v1.Visit", FromPath: "txn.id", ToPath: "txn.id"}},
			},
		},
		Visits: []*rkcyv1.VisitPlan{{Steps: []uint32{0}}, {Steps: []uint32{1}}},
	}
	if !proto.Equal(got, want) {
		t.Errorf("built %v, want %v", got, want)
	}
	if err := CheckVisit(&rkcyv1.Visit{Txn: got, Attempt: 1}); err != nil {
		t.Error(err)
	}
}
