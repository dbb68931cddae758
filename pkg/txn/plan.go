package txn

import (
	"fmt"
	"slices"
	"strings"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Plan groups steps into visits. Steps on the same instance share a visit
// unless data that flows between instances forbids it; steps of one instance
// keep their order. Visits that no data ties to each other are put in order of
// (concern, key), so that transactions which need the same instances meet them
// in the same order and seldom have to die for each other.
//
// Handlers are pure and a transaction is atomic, so the order of independent
// steps shows only in which of several refusals is reported.
func Plan(steps []*rkcyv1.Step) []*rkcyv1.VisitPlan {
	type instance struct{ concern, key string }
	type node struct {
		at    instance
		steps []uint32
		after map[int]bool // visits that must come before this one
	}
	var nodes []*node
	visitOf := make([]int, len(steps))
	latest := map[instance]int{}
	// comesAfter reports whether visit a has to come after visit b.
	comesAfter := func(a, b int) bool {
		seen := make([]bool, len(nodes))
		stack := []int{a}
		for len(stack) > 0 {
			n := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			for d := range nodes[n].after {
				if d == b {
					return true
				}
				if !seen[d] {
					seen[d] = true
					stack = append(stack, d)
				}
			}
		}
		return false
	}
	for i, s := range steps {
		at := instance{s.GetConcern(), s.GetKey()}
		// The step joins the latest visit of its instance, unless data comes
		// from a visit that has to come after that one.
		v, ok := latest[at]
		sources := sourcesOf(s)
		if !ok || slices.ContainsFunc(sources, func(from uint32) bool { return comesAfter(visitOf[from], v) }) {
			n := &node{at: at, after: map[int]bool{}}
			if ok {
				n.after[v] = true
			}
			nodes = append(nodes, n)
			v = len(nodes) - 1
			latest[at] = v
		}
		for _, from := range sources {
			if d := visitOf[from]; d != v {
				nodes[v].after[d] = true
			}
		}
		nodes[v].steps = append(nodes[v].steps, uint32(i)) //nolint:gosec // < MaxSteps
		visitOf[i] = v
	}
	// Smallest (concern, key) first among the visits that are free to run.
	plan := make([]*rkcyv1.VisitPlan, 0, len(nodes))
	done := make([]bool, len(nodes))
	for range nodes {
		best := -1
		for i, n := range nodes {
			if done[i] {
				continue
			}
			free := true
			for d := range n.after {
				free = free && done[d]
			}
			if !free {
				continue
			}
			if best < 0 || less(n.at.concern, n.at.key, nodes[best].at.concern, nodes[best].at.key) {
				best = i
			}
		}
		done[best] = true
		plan = append(plan, &rkcyv1.VisitPlan{Steps: nodes[best].steps})
	}
	return plan
}

// sourcesOf returns the steps whose results a step uses.
func sourcesOf(s *rkcyv1.Step) []uint32 {
	if len(s.GetInputs()) == 0 && len(s.GetSkipWhen()) == 0 {
		return nil
	}
	var from []uint32
	for _, in := range s.GetInputs() {
		from = append(from, in.GetFromStep())
	}
	for _, c := range s.GetSkipWhen() {
		from = append(from, c.GetFromStep())
	}
	return from
}

func less(c1, k1, c2, k2 string) bool {
	if c := strings.Compare(c1, c2); c != 0 {
		return c < 0
	}
	return k1 < k2
}

// CheckVisit returns an error unless v can be worked on: a transaction that is
// well formed, with a plan that runs every step once, each visit on one
// instance, no step before one whose result it uses. Processors call it on
// every record, since a log outlives the programs that wrote to it.
func CheckVisit(v *rkcyv1.Visit) error {
	t := v.GetTxn()
	if _, err := IDFromBytes(t.GetId()); err != nil {
		return err
	}
	if n := len(t.GetSteps()); n == 0 || n > MaxSteps {
		return fmt.Errorf("transaction has %d steps; 1 to %d are allowed", n, MaxSteps)
	}
	if n := len(t.GetVisits()); n > len(t.GetSteps()) || PlanIndex(v) < 0 || PlanIndex(v) >= n {
		return fmt.Errorf("visit %d of %d does not exist", v.GetVisit(), n)
	}
	if Undoing(v) && (!IsSaga(t) || len(v.GetResults()) != len(t.GetSteps())) {
		return fmt.Errorf("only a saga that has results is undone")
	}
	if v.GetClaim() && (t.GetIdempotency().GetKey() == "" || v.GetVisit() != 0) {
		return fmt.Errorf("a claim without an idempotency key")
	}
	if v.GetAttempt() == 0 {
		return fmt.Errorf("attempt is 0")
	}
	if n := len(v.GetResults()); n != len(t.GetSteps()) && (n != 0 || v.GetVisit() > 0) {
		return fmt.Errorf("%d results for %d steps", n, len(t.GetSteps()))
	}
	if t.GetReplyTo().GetPartition() < 0 {
		return fmt.Errorf("the answer goes to partition %d", t.GetReplyTo().GetPartition())
	}
	for _, p := range v.GetParticipants() {
		if p.GetTopic() == "" || p.GetPartition() < 0 {
			return fmt.Errorf("participant %q[%d] cannot exist", p.GetTopic(), p.GetPartition())
		}
	}
	if t.GetMode() != rkcyv1.Mode_MODE_ISOLATED && !IsSaga(t) {
		return fmt.Errorf("mode %v is not known here", t.GetMode())
	}
	ran := make([]bool, len(t.GetSteps()))
	for i, p := range t.GetVisits() {
		if len(p.GetSteps()) == 0 {
			return fmt.Errorf("visit %d has no step", i)
		}
		for _, s := range p.GetSteps() {
			if int(s) >= len(ran) || ran[s] {
				return fmt.Errorf("visit %d runs step %d, which does not exist or runs twice", i, s)
			}
			step, first := t.GetSteps()[s], t.GetSteps()[p.GetSteps()[0]]
			if step.GetConcern() != first.GetConcern() || step.GetKey() != first.GetKey() {
				return fmt.Errorf("visit %d is on more than one instance", i)
			}
			if err := CheckKey(step.GetKey()); err != nil {
				return fmt.Errorf("step %d: %w", s, err)
			}
			for _, from := range sourcesOf(step) {
				if int(from) >= len(ran) || !ran[from] {
					return fmt.Errorf("step %d uses the result of step %d, which does not run before it", s, from)
				}
			}
			ran[s] = true
		}
	}
	if i := slices.Index(ran, false); i >= 0 {
		return fmt.Errorf("step %d is in no visit", i)
	}
	return nil
}

// Instance returns the Concern and key that a visit works on.
func Instance(v *rkcyv1.Visit) (concern, key string) {
	s := v.GetTxn().GetSteps()[v.GetTxn().GetVisits()[PlanIndex(v)].GetSteps()[0]]
	return s.GetConcern(), s.GetKey()
}
