package stream

import (
	"testing"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

func TestRenewalsHaveReasons(t *testing.T) {
	var tr Transactor
	tr.logged(kafka.LogEvent{Level: 3, Tag: "FAIL"})
	if !tr.doubt.Load() || Renewal(tr.reasons.why.Load()) != RenewalConnection {
		t.Error("a connection that broke is no reason")
	}
	seen := map[string]bool{}
	for r := range RenewalReasons {
		seen[r.String()] = true
	}
	if len(seen) != int(RenewalReasons) || seen["unknown"] {
		t.Errorf("the reasons are %v", seen)
	}
}

func TestTraceHeaders(t *testing.T) {
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	h := traceHeaders(trace.ContextWithSpanContext(t.Context(), sc))
	if len(h) != 1 || h[0].Key != txn.HeaderTraceparent {
		t.Fatalf("%v", h)
	}
	r := Record{Headers: []Header{{Key: "other"}, {Key: h[0].Key, Value: h[0].Value}}}
	if got := txn.Trace(r.Header(txn.HeaderTraceparent), r.Header(txn.HeaderTracestate)); got.TraceID() != sc.TraceID() {
		t.Errorf("%v became %v", sc, got)
	}
	if traceHeaders(t.Context()) != nil {
		t.Error("no trace is carried")
	}
}
