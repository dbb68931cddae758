package txn

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Result is what a committed transaction returned.
type Result struct {
	// ID is the transaction's id.
	ID ID
	// Attempts counts how often it had to start, 1 without conflicts.
	Attempts int
	// Repeated says that the request had been made before, with the same
	// idempotency key; ID and results are those of the first.
	Repeated bool
	steps    []*rkcyv1.StepResult
}

// Raw returns the serialized result of step i.
func (r *Result) Raw(i int) []byte { return r.steps[i].GetValue() }

// Version returns the version of the instance that step i saw or made.
func (r *Result) Version(i int) uint64 { return r.steps[i].GetVersion() }

// Skipped reports whether the step did not run, since its conditions held.
func (h *Handle[R]) Skipped(r *Result) bool {
	return h.index < len(r.steps) && r.steps[h.index].GetSkipped()
}

// Result decodes what the step returned: an empty message for one that was
// skipped.
func (h *Handle[R]) Result(r *Result) (R, error) {
	out := h.newResult()
	if h.index >= len(r.steps) {
		return out, Errorf(CodeInternal, "the answer has no result for step %d", h.index)
	}
	if err := proto.Unmarshal(r.steps[h.index].GetValue(), out); err != nil {
		return out, Errorf(CodeInternal, "result of step %d: %w", h.index, err)
	}
	return out, nil
}

// Do runs a transaction of one step and returns its result.
func Do[R proto.Message](ctx context.Context, runner Runner, s TypedStep[R]) (R, error) {
	b := New()
	h := Add(b, s)
	r, err := runner.Run(ctx, b)
	if err != nil {
		var none R
		return none, fmt.Errorf("%s %s: %w", s.Concern, s.Command, err)
	}
	return h.Result(r)
}
