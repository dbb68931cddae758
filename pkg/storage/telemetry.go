package storage

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketcycle/rocketcycle/internal/telemetry"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// tracedMax is how many traced changes of a partition are kept for spans.
const tracedMax = 256

// writerTelemetry traces and measures what a writer does. nil does neither.
type writerTelemetry struct {
	tracer               trace.Tracer // nil: nobody traces
	attributes           []attribute.KeyValue
	apply, delay         metric.Float64Histogram
	labels, done, failed []metric.RecordOption
}

// tracedChange is a pending change that is part of a trace.
type tracedChange struct {
	parent trace.SpanContext
	at     stream.TopicPartition
	offset int64
	time   time.Time
}

func newWriterTelemetry(cfg WriterConfig) (*writerTelemetry, error) {
	if cfg.TracerProvider == nil && cfg.MeterProvider == nil {
		return nil, nil //nolint:nilnil // nobody is told
	}
	i := telemetry.New(cfg.MeterProvider)
	concern, target := attribute.String(telemetry.LabelConcern, cfg.Concern), attribute.String(telemetry.LabelTarget, cfg.TargetName)
	option := func(more ...attribute.KeyValue) []metric.RecordOption {
		return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(append(more, concern, target)...))}
	}
	t := &writerTelemetry{
		apply: i.Histogram(telemetry.StorageApplyDuration), delay: i.Histogram(telemetry.StorageDelay),
		labels: option(),
		done:   option(attribute.String(telemetry.LabelOutcome, telemetry.OutcomeDone)),
		failed: option(attribute.String(telemetry.LabelOutcome, telemetry.OutcomeFailed)),
		attributes: []attribute.KeyValue{
			attribute.String("rkcy.concern", cfg.Concern), attribute.String("rkcy.target", cfg.TargetName),
			attribute.String("messaging.system", "kafka"), attribute.String("messaging.consumer.group.name", cfg.Group),
		},
	}
	if cfg.TracerProvider != nil {
		t.tracer = cfg.TracerProvider.Tracer(telemetry.Scope)
	}
	return t, i.Err()
}

// took notes a record that has become pending.
func (t *writerTelemetry) took(p *writerPartition, r *stream.Record) {
	if len(p.pending) == 1 {
		p.oldest = r.Time
	}
	if t == nil || t.tracer == nil || len(r.Headers) == 0 || len(p.traced) == tracedMax {
		return
	}
	if parent := txn.Trace(r.Header(txn.HeaderTraceparent), r.Header(txn.HeaderTracestate)); parent.IsValid() {
		p.traced = append(p.traced, tracedChange{
			parent: parent, at: stream.TopicPartition{Topic: r.Topic, Partition: r.Partition}, offset: r.Offset, time: r.Time,
		})
	}
}

// applied records a database transaction that began and has just ended.
func (t *writerTelemetry) applied(parts []*writerPartition, began time.Time, changes int, failure error) {
	if t == nil {
		return
	}
	ctx, ended := context.Background(), time.Now()
	for _, p := range parts {
		if len(p.traced) > 0 {
			ctx = trace.ContextWithSpanContext(ctx, t.trace(parts, began, ended, changes, failure))
			break
		}
	}
	if failure != nil {
		t.apply.Record(ctx, ended.Sub(began).Seconds(), t.failed...)
		return
	}
	t.apply.Record(ctx, ended.Sub(began).Seconds(), t.done...)
	var oldest time.Time
	for _, p := range parts {
		if oldest.IsZero() || p.oldest.Before(oldest) {
			oldest = p.oldest
		}
	}
	if !oldest.IsZero() {
		t.delay.Record(ctx, max(ended.Sub(oldest), 0).Seconds(), t.labels...)
	}
}

// trace makes the span of a database transaction, in the trace of the first
// traced change and with links to all of them; and one for each of them, in its
// own trace, from when it came into the log until it was written.
func (t *writerTelemetry) trace(parts []*writerPartition, began, ended time.Time, changes int, failure error) trace.SpanContext {
	var apply trace.Span
	for _, p := range parts {
		for _, c := range p.traced {
			parent := trace.ContextWithRemoteSpanContext(context.Background(), c.parent)
			if apply == nil {
				_, apply = t.tracer.Start(parent, "apply", trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(t.attributes...),
					trace.WithAttributes(attribute.Int("messaging.batch.message_count", changes), attribute.String("db.operation.name", "apply")))
			}
			apply.AddLink(trace.Link{SpanContext: c.parent})
			if failure != nil {
				continue // it is tried again
			}
			start := c.time
			if start.IsZero() || start.After(began) {
				start = began
			}
			_, span := t.tracer.Start(parent, "store", trace.WithTimestamp(start), trace.WithSpanKind(trace.SpanKindConsumer),
				trace.WithLinks(trace.Link{SpanContext: apply.SpanContext()}), trace.WithAttributes(t.attributes...), trace.WithAttributes(
					attribute.String("messaging.operation.name", "process"), attribute.String("messaging.operation.type", "process"),
					attribute.String("messaging.destination.name", c.at.Topic), attribute.Int("messaging.destination.partition.id", int(c.at.Partition)),
					attribute.Int64("messaging.kafka.offset", c.offset)))
			span.End(trace.WithTimestamp(ended))
		}
	}
	if failure != nil {
		apply.SetStatus(codes.Error, failure.Error())
	}
	apply.End(trace.WithTimestamp(ended))
	return apply.SpanContext()
}

// written forgets what was pending.
func (p *writerPartition) written() { p.traced, p.oldest = nil, time.Time{} }

// oldestPending is when the oldest change came into the log that is pending.
func (w *Writer) oldestPending() (oldest time.Time) {
	for _, p := range w.parts {
		if len(p.pending) > 0 && !p.oldest.IsZero() && (oldest.IsZero() || p.oldest.Before(oldest)) {
			oldest = p.oldest
		}
	}
	return oldest
}
