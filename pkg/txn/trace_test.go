package txn_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func traced(ctx context.Context, sampled bool) (context.Context, trace.SpanContext) {
	state, _ := trace.ParseTraceState("vendor=1")
	sc := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}, TraceState: state, TraceFlags: trace.TraceFlags(0).WithSampled(sampled),
	})
	return trace.ContextWithSpanContext(ctx, sc), sc
}

func TestTraceHeaders(t *testing.T) {
	ctx, want := traced(t.Context(), true)
	h := txn.TraceHeaders(ctx)
	got := txn.Trace(h[txn.HeaderTraceparent], h[txn.HeaderTracestate])
	if !got.IsRemote() || !got.WithRemote(false).Equal(want) {
		t.Errorf("%v became %v", want, got)
	}
	if ctx, _ := traced(t.Context(), false); txn.TraceHeaders(ctx) != nil {
		t.Error("a trace that is not sampled is carried")
	}
	if txn.TraceHeaders(t.Context()) != nil {
		t.Error("no trace is carried")
	}
	for _, bad := range []string{"", "00", h[txn.HeaderTraceparent] + "-more", "zz" + h[txn.HeaderTraceparent][2:], "00-00000000000000000000000000000000-0300000000000000-01"} {
		if sc := txn.Trace(bad, ""); sc.IsValid() {
			t.Errorf("%q became %v", bad, sc)
		}
	}
}

// sent takes what a client submits, and answers nothing.
type sent struct{ value []byte }

func (s *sent) Send(_ context.Context, _ string, _ int32, _, value []byte) error {
	s.value = value
	return nil
}

type everywhere struct{}

func (everywhere) Route(string, string) (string, int32, error) { return "topic", 0, nil }

func TestTransactionsCarryTheirTrace(t *testing.T) {
	s := &sent{}
	c, err := txn.NewClient(txn.ClientConfig{Router: everywhere{}, Sender: s})
	if err != nil {
		t.Fatal(err)
	}
	for _, sampled := range []bool{true, false} {
		ctx, want := traced(t.Context(), sampled)
		b := txn.New()
		txn.Add(b, txn.NewStep("thing", "key", txn.CommandRead, rkcyv1.Access_ACCESS_READ, &rkcyv1.Empty{}, func() *rkcyv1.Instance { return &rkcyv1.Instance{} }))
		if _, err := c.Submit(ctx, b); err != nil {
			t.Fatal(err)
		}
		r := &rkcyv1.ProcessRecord{}
		if err := proto.Unmarshal(s.value, r); err != nil {
			t.Fatal(err)
		}
		h := r.GetVisit().GetTxn().GetHeaders()
		if got := txn.Trace(h[txn.HeaderTraceparent], h[txn.HeaderTracestate]); got.IsValid() != sampled || sampled && got.TraceID() != want.TraceID() {
			t.Errorf("sampled %v: the transaction carries %v", sampled, h)
		}
	}
}

func (everywhere) IdempotencyHome() string { return "thing" }

func BenchmarkTraceHeadersOff(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		txn.TraceHeaders(b.Context())
	}
}
