package concern

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

const testTraceparent = "00-01000000000000000000000000000000-0200000000000000-01"

// sendTraced submits a transaction that appends to two instances, which hop.
func (x *table) sendTraced(headers map[string]string) {
	x.t.Helper()
	b := txn.New()
	for _, concern := range simConcerns {
		txn.Add(b, txn.NewStep(concern, "k0", "Append", rkcyv1.Access_ACCESS_WRITE, &list{}, func() *list { return &list{} }))
	}
	x.clock++
	s := &simTxn{id: txn.ID{14: byte(x.clock >> 8), 15: byte(x.clock)}}
	t, err := b.Build(s.id, x.now, x.now.Add(time.Hour), &rkcyv1.ReplyTo{})
	if err != nil {
		x.t.Fatal(err)
	}
	t.Headers = headers
	x.txns[s.id] = s
	v := &rkcyv1.Visit{Txn: t, Attempt: 1}
	concern, key := txn.Instance(v)
	topic, partition, _ := x.Route(concern, key)
	r := stream.Record{Topic: topic, Partition: partition, Key: []byte(key), Value: x.marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: v}})}
	for name, value := range headers {
		r.Headers = append(r.Headers, stream.Header{Key: name, Value: []byte(value)})
	}
	x.append([]stream.Record{r})
}

// carried counts the records with and without a trace, by kind of their topic.
func (x *table) carried() (with, without map[string]int) {
	with, without = map[string]int{}, map[string]int{}
	for tp, records := range x.log {
		kind, _, _ := strings.Cut(tp.Topic, ".")
		for _, r := range records {
			switch {
			case r.Topic == "control":
			case r.Header(txn.HeaderTraceparent) == testTraceparent:
				with[kind]++
			default:
				without[kind]++
			}
		}
	}
	return with, without
}

func TestTracesTravelInTheLog(t *testing.T) {
	x := newTable(t)
	x.sendTraced(map[string]string{txn.HeaderTraceparent: testTraceparent})
	x.rest()
	with, without := x.carried()
	// Two visits and a marker; a change each; the answer.
	if with["process"] != 3 || with["storage"] != 2 || with["response"] != 1 {
		t.Errorf("with the trace: %v", with)
	}
	if without["process"]+without["storage"]+without["response"] > 0 || with["state"] > 0 {
		t.Errorf("without the trace: %v; with: %v", without, with)
	}
	x.sendTraced(nil)
	x.rest()
	if again, _ := x.carried(); again["process"] != 3 || again["storage"] != 2 || again["response"] != 1 {
		t.Errorf("a transaction without a trace carries one: %v", again)
	}
	x.wantFree()
}

// A parked visit goes on in its own trace, not in that of who lets it.
func TestParkedVisitsKeepTheirTrace(t *testing.T) {
	x := newTable(t)
	x.sendTraced(nil)
	x.work(simConcerns[0]) // it holds the first instance
	x.sendTraced(map[string]string{txn.HeaderTraceparent: testTraceparent})
	x.rest()
	if with, _ := x.carried(); with["process"] != 3 || with["storage"] != 2 || with["response"] != 1 {
		t.Errorf("with the trace: %v", with)
	}
	if e := x.engines[simConcerns[0]].engine; e.stats.Parked == 0 {
		t.Error("nothing was parked; the test shows nothing")
	}
}

func TestWaiting(t *testing.T) {
	x := newTable(t)
	x.sendTraced(nil)
	x.work(simConcerns[0])
	x.sendTraced(nil)
	x.work(simConcerns[0])
	w := x.engines[simConcerns[0]].engine.waiting()
	if w.Holds != 1 || w.Parked != 1 || w.ParkedBytes == 0 || w.OldestMs == 0 {
		t.Errorf("%+v", w)
	}
	x.rest()
	total := Stats{}
	for _, c := range simConcerns {
		e := x.engines[c].engine
		if w := e.waiting(); w != (Waiting{}) {
			t.Errorf("%s: %+v is left", c, w)
		}
		total = total.Add(e.total())
	}
	if total.Ended[0] != 2 || total.CacheHits+total.CacheMisses != 4 || total.CacheMisses == 0 {
		t.Errorf("%+v", total)
	}
}

func testRecorder(t testing.TB, tracer trace.TracerProvider) (*stepRecorder, toldStep) {
	t.Helper()
	set, err := newCommandSet(listDefinition("list"))
	if err != nil {
		t.Fatal(err)
	}
	served := &servedConcern{commands: set}
	telemetry, err := newProcessorTelemetry(Config{
		Group: "group", MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())), TracerProvider: tracer,
	}, map[string]*servedConcern{"topic": served})
	if err != nil {
		t.Fatal(err)
	}
	id := txn.NewID()
	return newStepRecorder(telemetry), toldStep{
		part: newPartition(stream.TopicPartition{Topic: "topic", Partition: 3}, served, 1), command: set.byName["Append"],
		visit: &rkcyv1.Visit{Txn: &rkcyv1.Transaction{Id: id[:]}, Attempt: 1}, cause: &cause{offset: 9, at: time.Now()}, config: 4,
	}
}

// What nobody traces costs no memory, with and without a tracer.
func TestStepsAreRecordedWithoutAllocation(t *testing.T) {
	for name, tracer := range map[string]trace.TracerProvider{"no tracer": nil, "not sampled": sdktrace.NewTracerProvider()} {
		r, s := testRecorder(t, tracer)
		now := time.Now()
		batch := func() {
			for range 100 {
				r.stepBegins()
				r.stepEnds(s)
			}
			r.settle(r.take(), now, now, nil)
		}
		batch() // room for a batch
		batch()
		if n := testing.AllocsPerRun(20, batch); n > 3 { // of a batch of 100 steps
			t.Errorf("%s: %v allocations for 100 steps", name, n)
		}
	}
}

func BenchmarkStepRecorder(b *testing.B) {
	r, s := testRecorder(b, sdktrace.NewTracerProvider())
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.stepBegins()
		r.stepEnds(s)
		if n++; n%100 == 0 {
			r.settle(r.take(), r.began, r.began, nil)
		}
	}
}

func TestBatchesOfSeveralTraces(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	r, s := testRecorder(t, sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	for i := range 3 {
		s.visit.Txn.Headers = map[string]string{txn.HeaderTraceparent: "00-0" + string(rune('1'+i)) + "000000000000000000000000000000-0200000000000000-01"}
		r.stepBegins()
		r.stepEnds(s)
	}
	failure := errors.New("fenced")
	r.settle(r.take(), time.Now(), time.Now(), failure)
	var commit tracetest.SpanStub
	traces := map[trace.TraceID]int{}
	for _, span := range spans.GetSpans() {
		if traces[span.SpanContext.TraceID()]++; span.Name == "commit" {
			commit = span
		}
		if span.Status.Code != codes.Error {
			t.Errorf("%s: the failure of the Kafka transaction is not told", span.Name)
		}
	}
	if len(traces) != 3 || len(commit.Links) != 3 {
		t.Errorf("spans in %d traces, the commit has %d links; want 3 and 3", len(traces), len(commit.Links))
	}
}

func TestProcessorTellsOfSteps(t *testing.T) {
	r := newRig(t, 4)
	spans, reader := tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	p, stop := r.startWith(func(c *Config) {
		c.TracerProvider, c.MeterProvider = provider, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		c.ConfigSet = func() *ConfigSet { return (*ConfigSet)(nil).With(17, "rules", nil) }
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, key := range []string{"a", "b"} {
		if _, err := txn.Do(ctx, r.client, listStep(txn.CommandCreate, key)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, request := provider.Tracer("test").Start(ctx, "request")
	b := txn.New()
	for _, key := range []string{"a", "b"} {
		txn.Add(b, listStep("Append", key))
	}
	result, err := r.client.Run(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	request.End()
	stop() // spans are made once a batch has ended
	steps, commits := 0, 0
	for _, s := range spans.GetSpans() {
		if s.SpanContext.TraceID() != request.SpanContext().TraceID() {
			t.Errorf("%s is in another trace", s.Name)
		}
		has := map[string]string{}
		for _, a := range s.Attributes {
			has[string(a.Key)] = a.Value.String()
		}
		switch s.Name {
		case "commit":
			commits++
		case "list.Append":
			steps++
			for name, want := range map[string]string{
				"txn.id": result.ID.String(), "rkcy.attempt": "1", "rkcy.config_version": "17", "messaging.system": "kafka",
				"messaging.destination.name": r.prefix + ".list.process",
			} {
				if has[name] != want {
					t.Errorf("%s is %q, want %q", name, has[name], want)
				}
			}
			if len(s.Links) != 1 || s.Parent.SpanID() != request.SpanContext().SpanID() {
				t.Errorf("a step with %d links, parent %v", len(s.Links), s.Parent)
			}
		case "request":
			if has["txn.id"] != result.ID.String() {
				t.Errorf("the request does not know its transaction: %v", has)
			}
		default:
			t.Errorf("a span %q", s.Name)
		}
	}
	if steps != 2 || commits == 0 {
		t.Errorf("%d steps and %d commits", steps, commits)
	}
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, m := range got.ScopeMetrics[0].Metrics {
		for _, point := range m.Data.(metricdata.Histogram[float64]).DataPoints {
			counts[m.Name] += point.Count
			if v, ok := point.Attributes.Value(attribute.Key("command")); ok && !slices.Contains([]string{"Append", "create"}, v.AsString()) {
				t.Errorf("%s has the command %q", m.Name, v.AsString())
			}
		}
	}
	for _, name := range []string{"rkcy.step.duration", "rkcy.step.execution.duration", "rkcy.step.commit.duration"} {
		if counts[name] != 4 {
			t.Errorf("%s has %d values, want 4: %v", name, counts[name], counts)
		}
	}
	if counts["rkcy.step.queue.duration"] < 3 || counts["rkcy.commit.duration"] == 0 {
		t.Errorf("%v", counts)
	}
	if s := p.Status(); s.Stats.Ended[0] != 3 {
		t.Errorf("%+v", s)
	}
}

func (r *rig) startWith(change func(*Config)) (*Processor, func()) {
	r.t.Helper()
	cfg := r.config(0)
	change(&cfg)
	p, err := NewProcessor(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(stop)
	return p, stop
}
