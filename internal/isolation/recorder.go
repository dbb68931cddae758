package isolation

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Recorder takes down what clients do. Safe for concurrent use.
type Recorder struct {
	start time.Time

	mu  sync.Mutex
	ops []Operation
}

// NewRecorder returns a recorder whose clock begins now.
func NewRecorder() *Recorder { return &Recorder{start: time.Now()} }

// Pending is an operation that has begun.
type Pending struct {
	r     *Recorder
	index int
}

// Begin records that a client is about to send a transaction. Until it ends
// its outcome is unknown.
func (r *Recorder) Begin(client int, steps ...Step) *Pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, Operation{Client: client, Invoke: time.Since(r.start), Outcome: Unknown, Steps: slices.Clone(steps)})
	return &Pending{r: r, index: len(r.ops) - 1}
}

// End records the outcome. seen has, if it is OK, what each read saw, in the
// order of the reads. It is called at most once.
func (p *Pending) End(o Outcome, seen ...[]int64) {
	now := time.Since(p.r.start)
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	op := &p.r.ops[p.index]
	op.Outcome = o
	if o != Unknown {
		op.Return = now
	}
	if o != OK {
		return
	}
	for i := range op.Steps {
		if op.Steps[i].Verb.reads() {
			if len(seen) == 0 {
				panic(fmt.Sprintf("isolation: %v ended without the result of step %d", op, i))
			}
			op.Steps[i].Seen, seen = seen[0], seen[1:]
		}
	}
}

// History returns what was recorded so far.
func (r *Recorder) History() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ops)
}
