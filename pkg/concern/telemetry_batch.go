package concern

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketcycle/rocketcycle/internal/telemetry"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// processorTelemetry is what the workers of a processor measure with. It does
// not change.
type processorTelemetry struct {
	tracer                                 trace.Tracer // nil: nobody traces
	group                                  string
	total, queue, execution, commit, kafka metric.Float64Histogram
	commands                               map[*command]*commandTelemetry
	done, failed                           []metric.RecordOption
}

// commandTelemetry has the labels of a command, made once.
type commandTelemetry struct {
	concern, command     string
	byConcern, byCommand []metric.RecordOption
}

// newProcessorTelemetry returns nil if nobody measures or traces.
func newProcessorTelemetry(cfg Config, served map[string]*servedConcern) (*processorTelemetry, error) {
	if cfg.MeterProvider == nil && cfg.TracerProvider == nil {
		return nil, nil //nolint:nilnil // nobody is told
	}
	i := telemetry.New(cfg.MeterProvider)
	t := &processorTelemetry{
		group: cfg.Group, commands: map[*command]*commandTelemetry{},
		total: i.Histogram(telemetry.StepDuration), queue: i.Histogram(telemetry.StepQueueDuration),
		execution: i.Histogram(telemetry.StepExecutionDuration), commit: i.Histogram(telemetry.StepCommitDuration),
		kafka: i.Histogram(telemetry.CommitDuration),
		done:  recordOption(attribute.String(telemetry.LabelOutcome, telemetry.OutcomeDone)),
		failed: recordOption(
			attribute.String(telemetry.LabelOutcome, telemetry.OutcomeFailed)),
	}
	if cfg.TracerProvider != nil {
		t.tracer = cfg.TracerProvider.Tracer(telemetry.Scope)
	}
	for _, s := range served {
		name := s.commands.def.Name
		byConcern := recordOption(attribute.String(telemetry.LabelConcern, name))
		for _, c := range s.commands.byName {
			t.commands[c] = &commandTelemetry{
				concern: name, command: c.name, byConcern: byConcern,
				byCommand: recordOption(attribute.String(telemetry.LabelConcern, name), attribute.String(telemetry.LabelCommand, c.name)),
			}
		}
	}
	return t, i.Err()
}

func recordOption(labels ...attribute.KeyValue) []metric.RecordOption {
	return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(labels...))}
}

// stepRecorder is the teller of a worker. It keeps the steps of the batch being
// built; their end is known when the Kafka transaction of the batch ends. nil
// records nothing.
type stepRecorder struct {
	t        *processorTelemetry
	began    time.Time
	building *stepBatch

	mu   sync.Mutex
	free []*stepBatch
}

// stepBatch are the steps of one Kafka transaction.
type stepBatch struct {
	steps  []stepTimes
	traced int
}

// stepTimes are the times of one execution of a step.
type stepTimes struct {
	of *commandTelemetry
	// queued is zero where the step did not come through the log.
	queued, began, ended time.Time
	traced               *tracedStep // nil: nobody traces it
}

func newStepRecorder(t *processorTelemetry) *stepRecorder {
	if t == nil {
		return nil
	}
	return &stepRecorder{t: t, building: &stepBatch{}}
}

// teller returns the recorder as the engine wants it.
func (r *stepRecorder) teller() teller {
	if r == nil {
		return nil
	}
	return r
}

// stepBegins implements teller.
func (r *stepRecorder) stepBegins() { r.began = time.Now() }

// stepEnds implements teller.
func (r *stepRecorder) stepEnds(s toldStep) {
	of := r.t.commands[s.command]
	if of == nil {
		return
	}
	times := stepTimes{of: of, queued: s.cause.at, began: r.began, ended: time.Now()}
	if r.t.tracer != nil {
		if h := s.visit.GetTxn().GetHeaders(); len(h) > 0 && txn.Sampled(h[txn.HeaderTraceparent]) {
			times.traced = traceStep(s)
			r.building.traced++
		}
	}
	r.building.steps = append(r.building.steps, times)
}

// take returns the batch that was built, to be settled, and begins another.
func (r *stepRecorder) take() *stepBatch {
	if r == nil {
		return nil
	}
	b := r.building
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.free); n > 0 {
		r.building, r.free = r.free[n-1], r.free[:n-1]
	} else {
		r.building = &stepBatch{}
	}
	return b
}

// drop forgets the batch being built.
func (r *stepRecorder) drop() {
	if r != nil {
		r.building.reset()
	}
}

func (b *stepBatch) reset() {
	clear(b.steps)
	b.steps, b.traced = b.steps[:0], 0
}

// settle records a batch whose Kafka transaction began and ended. It may be
// called on another goroutine than the other methods.
func (r *stepRecorder) settle(b *stepBatch, began, ended time.Time, err error) {
	if r == nil {
		return
	}
	t, ctx := r.t, context.Background()
	if err != nil {
		t.kafka.Record(ctx, ended.Sub(began).Seconds(), t.failed...)
	} else {
		t.kafka.Record(ctx, ended.Sub(began).Seconds(), t.done...)
	}
	if b.traced > 0 {
		t.trace(b, began, ended, err)
	}
	if err == nil {
		for i := range b.steps {
			t.measure(&b.steps[i], ended)
		}
	}
	b.reset()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = append(r.free, b)
}

func (t *processorTelemetry) measure(s *stepTimes, committed time.Time) {
	ctx := context.Background()
	if s.traced != nil { // an exemplar
		ctx = trace.ContextWithSpanContext(ctx, s.traced.span)
	}
	start := s.began
	if !s.queued.IsZero() {
		// Clocks of several machines differ.
		if s.queued.Before(start) {
			start = s.queued
		}
		t.queue.Record(ctx, s.began.Sub(start).Seconds(), s.of.byConcern...)
	}
	t.execution.Record(ctx, s.ended.Sub(s.began).Seconds(), s.of.byCommand...)
	t.commit.Record(ctx, committed.Sub(s.ended).Seconds(), s.of.byConcern...)
	t.total.Record(ctx, committed.Sub(start).Seconds(), s.of.byCommand...)
}
