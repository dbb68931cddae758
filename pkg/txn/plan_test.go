package txn

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// parseSteps reads "a b a<1": steps on instances a, b, a; the third uses the
// result of step 1.
func parseSteps(text string) []*rkcyv1.Step {
	var steps []*rkcyv1.Step
	for f := range strings.FieldsSeq(text) {
		key, inputs, _ := strings.Cut(f, "<")
		s := &rkcyv1.Step{Concern: "c", Key: key, Command: "Do"}
		for from := range strings.SplitSeq(inputs, ",") {
			var n uint32
			if _, err := fmt.Sscan(from, &n); err == nil {
				s.Inputs = append(s.Inputs, &rkcyv1.Input{FromStep: n})
			}
		}
		steps = append(steps, s)
	}
	return steps
}

func describePlan(steps []*rkcyv1.Step, plan []*rkcyv1.VisitPlan) string {
	var out []string
	for _, v := range plan {
		out = append(out, fmt.Sprint(steps[v.GetSteps()[0]].GetKey(), v.GetSteps()))
	}
	return strings.Join(out, " ")
}

func TestPlan(t *testing.T) {
	for _, c := range []struct{ steps, want string }{
		{"a", "a[0]"},
		{"b a", "a[1] b[0]"},
		{"a b a b", "a[0 2] b[1 3]"},             // a trade
		{"a b<0", "a[0] b[1]"},                   // data against the order of keys
		{"b a<0", "b[0] a[1]"},                   //
		{"a b<0 a<1", "a[0] b[1] a[2]"},          // out and back: two visits
		{"a b a<1", "b[1] a[0 2]"},               // back only: one visit is enough
		{"a b<0 a", "a[0 2] b[1]"},               // a later step need not wait
		{"a a<0 a<1", "a[0 1 2]"},                // data within an instance
		{"a b a<1 b<0", "b[1] a[0 2] b[3]"},      // crossing: one of them has to be seen twice
		{"c b a c<2 b<3", "a[2] c[0 3] b[1 4]"},  // a chain
		{"a b<0 c<1 a<2", "a[0] b[1] c[2] a[3]"}, // far and back
		{"a b<0 a<1 a", "a[0] b[1] a[2 3]"},      // order within an instance is kept
	} {
		steps := parseSteps(c.steps)
		if got := describePlan(steps, Plan(steps)); got != c.want {
			t.Errorf("%s: %s, want %s", c.steps, got, c.want)
		}
	}
}

func TestPlanSortsByConcern(t *testing.T) {
	steps := []*rkcyv1.Step{{Concern: "b", Key: "a"}, {Concern: "a", Key: "b"}, {Concern: "a", Key: "a"}, {Concern: "b", Key: "a"}}
	if got := fmt.Sprint(Plan(steps)); got != fmt.Sprint([]*rkcyv1.VisitPlan{{Steps: []uint32{2}}, {Steps: []uint32{1}}, {Steps: []uint32{0, 3}}}) {
		t.Error(got)
	}
}

func randomSteps(rng *rand.Rand) []*rkcyv1.Step {
	n := 1 + rng.IntN(12)
	steps := make([]*rkcyv1.Step, n)
	for i := range steps {
		steps[i] = &rkcyv1.Step{Concern: string(rune('a' + rng.IntN(2))), Key: string(rune('a' + rng.IntN(3))), Command: "Do"}
		for i > 0 && rng.IntN(3) == 0 {
			steps[i].Inputs = append(steps[i].Inputs, &rkcyv1.Input{FromStep: uint32(rng.IntN(i))})
		}
	}
	return steps
}

// A plan runs every step once, each visit on one instance, data before its
// use, steps of one instance in their order; and no two visits to an instance
// could be one.
func TestPlanProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		steps := randomSteps(rng)
		plan := Plan(steps)
		text := describePlan(steps, plan)
		txn := &rkcyv1.Transaction{Id: make([]byte, 16), Steps: steps, Visits: plan}
		if err := CheckVisit(&rkcyv1.Visit{Txn: txn, Attempt: 1}); err != nil {
			t.Fatalf("%v: %s: %v", steps, text, err)
		}
		last := map[string]uint32{}
		visitsTo := map[string][]int{}
		for i, v := range plan {
			at := steps[v.GetSteps()[0]].GetConcern() + "/" + steps[v.GetSteps()[0]].GetKey()
			visitsTo[at] = append(visitsTo[at], i)
			for _, s := range v.GetSteps() {
				if n, ok := last[at]; ok && s < n {
					t.Fatalf("%v: %s: steps of %s change their order", steps, text, at)
				}
				last[at] = s
			}
		}
		for at, visits := range visitsTo {
			for i := 1; i < len(visits); i++ {
				if !tied(steps, plan, visits[i-1], visits[i]) {
					t.Fatalf("%v: %s: two visits to %s, and nothing stands between them", steps, text, at)
				}
			}
		}
		for range 3 { // no iteration order of maps
			if again := Plan(steps); describePlan(steps, again) != text {
				t.Fatalf("%v: planned as %s and as %s", steps, text, describePlan(steps, again))
			}
		}
	}
}

// tied reports whether data flows from visit a through others into the first
// step of visit b, which is why that one cannot be part of a.
func tied(steps []*rkcyv1.Step, plan []*rkcyv1.VisitPlan, a, b int) bool {
	at := make([]int, len(steps))
	for i, v := range plan {
		for _, s := range v.GetSteps() {
			at[s] = i
		}
	}
	tainted := map[int]bool{}
	for v := a + 1; v < b; v++ {
		for _, s := range plan[v].GetSteps() {
			for _, in := range steps[s].GetInputs() {
				from := at[in.GetFromStep()]
				tainted[v] = tainted[v] || from == a || tainted[from]
			}
		}
		for w := a + 1; w < v; w++ { // visits to one instance come in order
			i, j := steps[plan[v].GetSteps()[0]], steps[plan[w].GetSteps()[0]]
			if i.GetConcern() == j.GetConcern() && i.GetKey() == j.GetKey() {
				tainted[v] = tainted[v] || tainted[w]
			}
		}
	}
	return slices.ContainsFunc(steps[plan[b].GetSteps()[0]].GetInputs(), func(in *rkcyv1.Input) bool { return tainted[at[in.GetFromStep()]] })
}

// goodVisit is the second visit of a transaction of three steps.
func goodVisit() *rkcyv1.Visit {
	return &rkcyv1.Visit{
		Attempt: 1, Visit: 1,
		Results:      []*rkcyv1.StepResult{{}, {}, {}},
		Participants: []*rkcyv1.Participant{{Topic: "a"}},
		Txn: &rkcyv1.Transaction{
			Id: make([]byte, 16), ReplyTo: &rkcyv1.ReplyTo{},
			Steps: []*rkcyv1.Step{
				{Concern: "a", Key: "1"}, {Concern: "b", Key: "1"},
				{Concern: "a", Key: "1", Inputs: []*rkcyv1.Input{{FromStep: 0}}},
			},
			Visits: []*rkcyv1.VisitPlan{{Steps: []uint32{0, 2}}, {Steps: []uint32{1}}},
		},
	}
}

func TestCheckVisit(t *testing.T) {
	if err := CheckVisit(goodVisit()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*rkcyv1.Visit){
		"no transaction":       func(v *rkcyv1.Visit) { v.Txn = nil },
		"no id":                func(v *rkcyv1.Visit) { v.Txn.Id = nil },
		"short id":             func(v *rkcyv1.Visit) { v.Txn.Id = make([]byte, 15) },
		"no step":              func(v *rkcyv1.Visit) { v.Txn.Steps = nil },
		"too many steps":       func(v *rkcyv1.Visit) { v.Txn.Steps = make([]*rkcyv1.Step, MaxSteps+1) },
		"no visits":            func(v *rkcyv1.Visit) { v.Txn.Visits = nil },
		"visit out of range":   func(v *rkcyv1.Visit) { v.Visit = 2 },
		"attempt 0":            func(v *rkcyv1.Visit) { v.Attempt = 0 },
		"too few results":      func(v *rkcyv1.Visit) { v.Results = v.Results[:2] },
		"no results":           func(v *rkcyv1.Visit) { v.Results = nil },
		"unknown mode":         func(v *rkcyv1.Visit) { v.Txn.Mode = 99 },
		"visit without step":   func(v *rkcyv1.Visit) { v.Txn.Visits[0].Steps = nil },
		"step out of range":    func(v *rkcyv1.Visit) { v.Txn.Visits[1].Steps[0] = 3 },
		"step twice":           func(v *rkcyv1.Visit) { v.Txn.Visits[1].Steps[0] = 0 },
		"step in no visit":     func(v *rkcyv1.Visit) { v.Txn.Visits[0].Steps = []uint32{0} },
		"two instances":        func(v *rkcyv1.Visit) { v.Txn.Steps[2].Key = "2" },
		"two Concerns":         func(v *rkcyv1.Visit) { v.Txn.Steps[2].Concern = "b" },
		"bad key":              func(v *rkcyv1.Visit) { v.Txn.Steps[1].Key = "" },
		"input of later step":  func(v *rkcyv1.Visit) { v.Txn.Steps[2].Inputs[0].FromStep = 1 },
		"input of itself":      func(v *rkcyv1.Visit) { v.Txn.Steps[2].Inputs[0].FromStep = 2 },
		"input out of range":   func(v *rkcyv1.Visit) { v.Txn.Steps[2].Inputs[0].FromStep = 1 << 31 },
		"answer to nowhere":    func(v *rkcyv1.Visit) { v.Txn.ReplyTo.Partition = -1 },
		"participant no topic": func(v *rkcyv1.Visit) { v.Participants[0].Topic = "" },
		"participant nowhere":  func(v *rkcyv1.Visit) { v.Participants[0].Partition = -1 },
	} {
		v := goodVisit()
		spoil(v)
		if CheckVisit(v) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzCheckVisit(f *testing.F) {
	for _, v := range []*rkcyv1.Visit{goodVisit(), {}, {Txn: &rkcyv1.Transaction{}}} {
		raw, err := proto.Marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: v}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := &rkcyv1.ProcessRecord{}
		if proto.Unmarshal(raw, r) != nil || r.GetVisit() == nil || CheckVisit(r.GetVisit()) != nil {
			return
		}
		// What passes can be walked to its end.
		v := r.GetVisit()
		for v != nil {
			Instance(v)
			AgeOf(v.GetTxn())
			for _, i := range StepsOf(v) {
				StepAt(v, i)
			}
			if Undoing(v) {
				v = AdvanceUndo(v).Next
				continue
			}
			next := Advance(v, make([]*rkcyv1.StepResult, len(v.GetTxn().GetSteps())), &rkcyv1.Participant{Topic: "t"}, true)
			if next.Next == nil && !next.Commit {
				t.Fatal("a visit with neither successor nor end")
			}
			v = next.Next
		}
	})
}

func BenchmarkPlanTrade(b *testing.B) {
	steps := parseSteps("a b a b")
	for b.Loop() {
		Plan(steps)
	}
}
