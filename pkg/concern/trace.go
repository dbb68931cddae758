package concern

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// tracedStep is what a span tells of one execution of a step.
type tracedStep struct {
	parent         trace.SpanContext // of the request
	span           trace.SpanContext // once it is made
	id             txn.ID
	at             stream.TopicPartition
	offset         int64
	parked         bool
	attempt, visit uint32
	index          uint32
	config         uint64
	err            *txn.Error
}

func traceStep(s toldStep) *tracedStep {
	h := s.visit.GetTxn().GetHeaders()
	t := &tracedStep{
		parent: txn.Trace(h[txn.HeaderTraceparent], h[txn.HeaderTracestate]), id: txn.ID(s.visit.GetTxn().GetId()),
		at: s.part.tp, offset: s.cause.offset, parked: s.cause.parked,
		attempt: s.visit.GetAttempt(), visit: s.visit.GetVisit(), index: s.index, config: s.config,
	}
	if s.err != nil {
		t.err = txn.AsError(s.err)
	}
	return t
}

// trace makes the spans of a batch: one for each traced step, in the trace of
// its request, and one for the Kafka transaction, which belongs to all of them.
// It is in the trace of the first and has links to the others; each step has a
// link to it.
func (t *processorTelemetry) trace(b *stepBatch, began, ended time.Time, failure error) {
	var commit trace.Span
	for i := range b.steps {
		s := &b.steps[i]
		if s.traced == nil {
			continue
		}
		parent := trace.ContextWithRemoteSpanContext(context.Background(), s.traced.parent)
		if commit == nil {
			_, commit = t.tracer.Start(parent, "commit", trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
				attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.name", "commit"),
				attribute.String("messaging.operation.type", "send"), attribute.String("messaging.consumer.group.name", t.group),
				attribute.Int("messaging.batch.message_count", len(b.steps)),
			))
		}
		commit.AddLink(trace.Link{SpanContext: t.traceStep(parent, s, commit.SpanContext(), ended, failure)})
	}
	if failure != nil {
		commit.SetStatus(codes.Error, failure.Error())
	}
	commit.End(trace.WithTimestamp(ended))
}

func (t *processorTelemetry) traceStep(parent context.Context, s *stepTimes, commit trace.SpanContext, ended time.Time, failure error) trace.SpanContext {
	start, of := s.began, s.traced
	if !s.queued.IsZero() && s.queued.Before(start) {
		start = s.queued
	}
	attributes := []attribute.KeyValue{
		attribute.String("txn.id", of.id.String()),
		attribute.String("rkcy.concern", s.of.concern), attribute.String("rkcy.command", s.of.command),
		attribute.Int64("rkcy.step", int64(of.index)), attribute.Int64("rkcy.visit", int64(of.visit)), attribute.Int64("rkcy.attempt", int64(of.attempt)),
		attribute.Int64("rkcy.config_version", int64(of.config)), attribute.Bool("rkcy.parked", of.parked),
		attribute.Float64("rkcy.queue_ms", millis(s.began.Sub(start))),
		attribute.Float64("rkcy.execution_ms", millis(s.ended.Sub(s.began))),
		attribute.Float64("rkcy.commit_ms", millis(ended.Sub(s.ended))),
		attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"), attribute.String("messaging.consumer.group.name", t.group),
		attribute.String("messaging.destination.name", of.at.Topic),
		attribute.Int("messaging.destination.partition.id", int(of.at.Partition)),
	}
	if !s.queued.IsZero() {
		attributes = append(attributes, attribute.Int64("messaging.kafka.offset", of.offset))
	}
	if of.err != nil {
		attributes = append(attributes, attribute.String("rkcy.code", txn.CodeName(of.err.Code)))
	}
	_, span := t.tracer.Start(parent, s.of.concern+"."+s.of.command, trace.WithTimestamp(start), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithLinks(trace.Link{SpanContext: commit}), trace.WithAttributes(attributes...))
	span.AddEvent("execution begins", trace.WithTimestamp(s.began))
	span.AddEvent("execution ends", trace.WithTimestamp(s.ended))
	switch {
	case failure != nil:
		span.SetStatus(codes.Error, "the Kafka transaction failed; the step is executed again: "+failure.Error())
	case of.err != nil && isFault(of.err.Code):
		span.SetStatus(codes.Error, of.err.Message)
	}
	span.End(trace.WithTimestamp(ended))
	of.span = span.SpanContext()
	return of.span
}

// isFault tells faults of the platform from refusals, which are results.
func isFault(code txn.Code) bool {
	return code == txn.CodeInternal || code == txn.CodeDataLoss || code == txn.CodeUnavailable || code == txn.CodeUnimplemented
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
