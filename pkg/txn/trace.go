package txn

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Names of the headers that carry a trace: in a transaction, and in the records
// of the log. Their values are those of the W3C recommendation Trace Context.
const (
	HeaderTraceparent = "traceparent"
	HeaderTracestate  = "tracestate"
)

// TraceHeaders returns the headers that carry the trace of ctx; nil if it is in
// none, or in one that is not sampled, which costs nobody anything.
func TraceHeaders(ctx context.Context) map[string]string {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return nil
	}
	headers := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, headers)
	return headers
}

// Trace returns the place in a trace that headers carry. It is not valid if they
// carry none, or what does not parse.
func Trace(traceparent, tracestate string) trace.SpanContext {
	if !Sampled(traceparent) {
		return trace.SpanContext{}
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(),
		propagation.MapCarrier{HeaderTraceparent: traceparent, HeaderTracestate: tracestate})
	return trace.SpanContextFromContext(ctx)
}

// Sampled reports whether a traceparent looks like one of a sampled trace. It is
// for those who must not spend anything on the others.
func Sampled(traceparent string) bool {
	const length = len("00-") + 32 + len("-") + 16 + len("-01")
	if len(traceparent) != length {
		return false
	}
	switch traceparent[length-1] {
	case '1', '3', '5', '7', '9', 'b', 'd', 'f':
		return true
	}
	return false
}

// noteID tells the span of ctx which transaction its request became.
func noteID(ctx context.Context, id ID) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.String("txn.id", id.String()))
	}
}
