package txn

import (
	"context"
	"fmt"
	"strings"
	"time"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// DetailPlan marks the error that stands for a plan.
const DetailPlan = "plan"

type explainInContext struct{}

// WithExplain makes Run return the plan of a transaction instead of running
// it, as an Error with CodeAborted whose detail DetailPlan is "explained".
// Nothing is submitted.
func WithExplain(ctx context.Context) context.Context {
	return context.WithValue(ctx, explainInContext{}, true)
}

// Explaining reports whether ctx is of WithExplain.
func Explaining(ctx context.Context) bool {
	on, _ := ctx.Value(explainInContext{}).(bool)
	return on
}

// Explained returns the error that stands for a transaction's plan.
func Explained(b *Builder, router Router) error {
	t, err := b.Build(NewID(), time.Now(), time.Now().Add(time.Minute), nil)
	if err != nil {
		return err
	}
	text, err := Explain(t, router)
	if err != nil {
		return err
	}
	return Errorf(CodeAborted, "%s", text).With(DetailPlan, "explained")
}

// Explain describes how a transaction will run, visit by visit, for people.
func Explain(t *rkcyv1.Transaction, router Router) (string, error) {
	var b strings.Builder
	n := len(t.GetVisits())
	mode := "isolated"
	if IsSaga(t) {
		mode = "saga"
	}
	fmt.Fprintf(&b, "%s transaction, %s in %s\n", mode, count(len(t.GetSteps()), "step"), count(n, "visit"))
	for i, p := range t.GetVisits() {
		v := &rkcyv1.Visit{Txn: t, Visit: uint32(i)} //nolint:gosec // < MaxSteps
		concern, key := Instance(v)
		topic, partition, err := router.Route(concern, key)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%d. %s %q at %s[%d]: %s\n", i+1, concern, key, topic, partition, visitEffect(v))
		for _, s := range p.GetSteps() {
			step := t.GetSteps()[s]
			fmt.Fprintf(&b, "   step %d %s%s\n", s, step.GetCommand(), stepNotes(step))
		}
	}
	return b.String(), nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func visitEffect(v *rkcyv1.Visit) string {
	reads := true
	for _, i := range StepsOf(v) {
		reads = reads && v.GetTxn().GetSteps()[i].GetAccess() == rkcyv1.Access_ACCESS_READ
	}
	switch {
	case len(v.GetTxn().GetVisits()) == 1 && reads:
		return "reads the committed value, waits for nobody"
	case len(v.GetTxn().GetVisits()) == 1:
		return "commits at once, takes no hold"
	case IsSaga(v.GetTxn()):
		return "commits at once; the next visit follows in the same Kafka transaction"
	case IsLast(v):
		return "the commit point: answer and commit markers in one Kafka transaction"
	case reads:
		return "takes a shared hold"
	default:
		return "prepares under an exclusive hold"
	}
}

func stepNotes(s *rkcyv1.Step) string {
	var notes []string
	for _, in := range s.GetInputs() {
		notes = append(notes, fmt.Sprintf("%s from step %d", whole(in.GetToPath(), "payload"), in.GetFromStep()))
	}
	for _, c := range s.GetSkipWhen() {
		notes = append(notes, fmt.Sprintf("skipped when %s of step %d is %s %s", c.GetFromPath(), c.GetFromStep(),
			strings.ToLower(strings.TrimPrefix(c.GetOperator().String(), "OPERATOR_")), c.GetValue()))
	}
	if s.GetCompensation() != "" {
		notes = append(notes, "undone by "+s.GetCompensation())
	}
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, "; ") + ")"
}

func whole(path, what string) string {
	if path == "" {
		return what
	}
	return path
}
