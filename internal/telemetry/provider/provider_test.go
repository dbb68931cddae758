package provider

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/rocketcycle/rocketcycle/internal/telemetry"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

func TestRefusals(t *testing.T) {
	for want, cfg := range map[string]Config{
		"host:port":           {MetricsListen: "here"},
		"neither host:port":   {OTLPEndpoint: "ftp://x:1"},
		"host and port":       {OTLPEndpoint: "collector"},
		"between 0 and 1":     {TraceRatio: 1.5},
		"ratio -1":            {TraceRatio: -1},
		"OTLP endpoint \"a b": {OTLPEndpoint: "a b:1"},
	} {
		if _, err := Start(t.Context(), cfg); txn.CodeOf(err) != txn.CodeInvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
	p, err := Start(t.Context(), Config{MetricsListen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(t.Context()) }()
	if _, err := Start(t.Context(), Config{MetricsListen: p.Addr()}); txn.CodeOf(err) != txn.CodeFailedPrecondition {
		t.Errorf("an address in use: %v", err)
	}
}

// Latencies of traced requests have exemplars, where they are asked for.
func TestExemplars(t *testing.T) {
	p, err := Start(t.Context(), Config{MetricsListen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(t.Context()) }()
	ctx, span := sdktrace.NewTracerProvider().Tracer("test").Start(t.Context(), "request")
	i := telemetry.New(p.Meter)
	i.Histogram(telemetry.CommitDuration).Record(ctx, .003)
	i.Observe(telemetry.EdgeShed, func(s telemetry.Sample) { s(5) })
	i.Observe(telemetry.PlatformPartitions, func(s telemetry.Sample) { s(2, attribute.String(telemetry.LabelConcern, "player")) })
	stop, err := i.Start(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop() }()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Addr()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`trace_id="` + span.SpanContext().TraceID().String() + `"`, "rkcy_edge_shed_total 5.0", `rkcy_platform_partitions{concern="player"} 2.0`, "go_goroutines",
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("%q is missing in\n%s", want, body)
		}
	}
}

func TestUnknownInstruments(t *testing.T) {
	i := telemetry.New(nil)
	i.Histogram(telemetry.EdgeShed)
	i.Observe("rkcy.nothing", nil)
	if err := i.Err(); err == nil || strings.Count(err.Error(), "the catalogue has no") != 2 {
		t.Errorf("%v", err)
	}
}
