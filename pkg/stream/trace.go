package stream

import (
	"context"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// traceHeaders returns the headers that carry the trace of ctx in a record.
func traceHeaders(ctx context.Context) (out []kafka.Header) {
	carried := txn.TraceHeaders(ctx)
	for _, name := range []string{txn.HeaderTraceparent, txn.HeaderTracestate} {
		if v := carried[name]; v != "" {
			out = append(out, kafka.Header{Key: name, Value: []byte(v)})
		}
	}
	return out
}

// Header returns the value of a header of a record, "" if it has none.
func (r *Record) Header(name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
