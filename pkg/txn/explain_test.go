package txn

import (
	"strings"
	"testing"
)

func TestExplained(t *testing.T) {
	b := New()
	a := Add(b, thing("take", "a"))
	c := Add(b, thing("give", "c"))
	Bind(b, a, "attempt", c, "attempt")
	SkipWhen(b, c, a, "visit", Equal, 3)
	err := Explained(b, oneTopic{})
	if CodeOf(err) != CodeAborted || AsError(err).Details[DetailPlan] != "explained" {
		t.Fatalf("got %v", err)
	}
	want := `isolated transaction, 2 steps in 2 visits
1. thing "a" at things[1]: prepares under an exclusive hold
   step 0 take
2. thing "c" at things[1]: the commit point: answer and commit markers in one Kafka transaction
   step 1 give (attempt from step 0; skipped when visit of step 0 is equal 3)
`
	if got := AsError(err).Message; got != want {
		t.Errorf("got\n%s", got)
	}
	b = Saga()
	Add(b, thing("take", "a").CompensatedBy("give"))
	Add(b, thing("take", "b").CompensatedBy("give"))
	if err := Explained(b, oneTopic{}); !strings.Contains(err.Error(), "saga transaction") || !strings.Contains(err.Error(), "undone by give") {
		t.Errorf("got %v", err)
	}
	if err := Explained(New(), oneTopic{}); CodeOf(err) != CodeInvalidArgument {
		t.Errorf("a transaction without steps has a plan: %v", err)
	}
}

func TestExplainSubmitsNothing(t *testing.T) {
	c, log := newTestClient(t, nil)
	b := New()
	Add(b, thing("x", "k"))
	if _, err := c.Run(WithExplain(t.Context()), b); CodeOf(err) != CodeAborted {
		t.Fatalf("got %v", err)
	}
	if len(log.sent) != 0 {
		t.Fatal("it was submitted")
	}
}
