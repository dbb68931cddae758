package concern

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// ran reports whether a transaction that committed ran a command.
func (x *simTxn) ran(command string) bool {
	for i, step := range x.steps {
		if step.Command == command && !x.response.GetResults()[i].GetSkipped() {
			return true
		}
	}
	return false
}

// checkKeys verifies what idempotency keys promise: of the transactions with
// one key, one at most took effect; others got its outcome, or ran after it had
// ended without effect, or were refused since they are another request.
func (s *sim) checkKeys() (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	first := map[string]*simTxn{} // by key: who committed
	for _, x := range s.order {
		original, err := txn.IDFromBytes(x.response.GetOriginalTxnId())
		switch {
		case err != nil && x.key != "" && x.response.GetError() == nil:
			if was := first[x.key]; was != nil {
				fault("%v and %v both committed with key %s", was.id, x.id, x.key)
			}
			first[x.key] = x
		case err == nil:
			of := s.txns[original]
			if of.key != x.key || of.print != x.print || of == x {
				fault("%v (key %s %s) got the answer of %v (key %s %s)", x.id, x.key, x.print, of.id, of.key, of.print)
			}
			if len(x.parts) > 0 {
				fault("%v is a repeat of %v and took effect", x.id, of.id)
			}
			want := proto.CloneOf(x.response)
			want.TxnId, want.OriginalTxnId = original[:], nil
			if !slices.ContainsFunc(append(slices.Clone(of.stuck), of.response), func(r *rkcyv1.Response) bool { return proto.Equal(r, want) }) {
				fault("%v, a repeat of %v, got %v and not %v", x.id, of.id, x.response, of.response)
			}
		}
	}
	for _, x := range s.keyed {
		was := first[x.key]
		if was == nil || was == x || x.submitted <= was.answered {
			continue
		}
		if x.print != was.print && x.response.GetError().GetCode() != txn.CodeInvalidArgument {
			fault("%v has the key %s of another request, and got %v", x.id, x.key, x.response)
		}
		if x.print == was.print && x.response.GetOriginalTxnId() == nil {
			fault("%v came after %v, with the same key, and got %v", x.id, was.id, x.response)
		}
	}
	return faults
}

// checkSagas verifies that each saga did all, or undid what it did, in reverse.
func (s *sim) checkSagas() (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, x := range s.order {
		if !x.saga || x.response.GetOriginalTxnId() != nil {
			continue
		}
		n := len(x.plan)
		var done []*simPart // not undone
		for _, p := range x.parts {
			change := count(p.after, x.id) - count(p.before, x.id)
			if !sameBut(p.before, p.after, x.id) {
				fault("visit %d of saga %v made %v of %v", p.visit, x.id, p.after, p.before)
			}
			if p.visit < n {
				if change <= 0 || len(done) > 0 && done[len(done)-1].visit >= p.visit {
					fault("visit %d of saga %v changed %s by %d, after %d visits", p.visit, x.id, p.at, change, len(done))
				}
				done = append(done, p)
				continue
			}
			if len(done) == 0 || done[len(done)-1].visit != 2*n-1-p.visit {
				fault("visit %d of saga %v undoes out of order", p.visit, x.id)
				continue
			}
			last := done[len(done)-1]
			if change != count(last.before, x.id)-count(last.after, x.id) {
				fault("visit %d of saga %v changed %s by %d", p.visit, x.id, p.at, change)
			}
			done = done[:len(done)-1]
		}
		if x.response.GetError() != nil {
			if len(done) > 0 {
				fault("saga %v ended with %v, and %d visits are not undone", x.id, x.response.GetError(), len(done))
			}
			if was := len(x.parts) > 0; was != (x.response.GetError().GetDetails()[txn.DetailSaga] == txn.SagaCompensated) {
				fault("saga %v was undone: %v, and tells %v", x.id, was, x.response.GetError())
			}
			continue
		}
		// Each visit that had something to append is among the parts.
		for i, plan := range x.plan {
			want := 0
			for _, at := range plan.GetSteps() {
				if x.steps[at].Command == "Append" && !x.response.GetResults()[at].GetSkipped() {
					want++
				}
			}
			got := 0
			for _, p := range done {
				if p.visit == i {
					got = count(p.after, x.id) - count(p.before, x.id)
				}
			}
			if got != want {
				fault("visit %d of saga %v appended %d times, not %d", i, x.id, got, want)
			}
		}
	}
	return faults
}

// count returns how often a transaction is in a list.
func count(l *list, id txn.ID) (n int) {
	for _, path := range l.GetPaths() {
		if path == id.String() {
			n++
		}
	}
	return n
}

// sameBut reports whether two lists differ in one transaction only.
func sameBut(a, b *list, id txn.ID) bool {
	without := func(l *list) []string {
		return slices.DeleteFunc(slices.Clone(l.GetPaths()), func(p string) bool { return p == id.String() || p == "-"+id.String() })
	}
	return slices.Equal(without(a), without(b))
}
