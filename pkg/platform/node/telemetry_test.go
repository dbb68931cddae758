package node_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/internal/telemetry"
	"github.com/rocketcycle/rocketcycle/internal/telemetry/provider"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// scrape asks for metrics as Prometheus does.
func scrape(t *testing.T, addr string) map[string]*dto.MetricFamily {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return families
}

// measured is a platform that runs with metrics and traces, and has done all
// kinds of work.
func measured(t *testing.T) (addr string, spans *tracetest.InMemoryExporter, request trace.TraceID, answer metadata.MD) {
	t.Helper()
	w := newWorld(t)
	p, err := provider.Start(t.Context(), provider.Config{MetricsListen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	spans = tracetest.NewInMemoryExporter()
	n, _, err := w.startConfig(t, node.Config{
		Application: application(), Platform: w.cfg, Roles: node.AllRoles(), MeterProvider: p.Meter,
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample()))),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, n)
	ctx := t.Context()
	for _, id := range []string{"secret-one", "secret-two"} {
		if _, err := c.CreatePlayer(ctx, &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: id, Username: id}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.CreatePlayer(ctx, &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "secret-one", Username: "x"}}); err == nil {
		t.Fatal("a player was made twice")
	}
	request = trace.TraceID{0xab, 1}
	traced := metadata.AppendToOutgoingContext(ctx, txn.HeaderTraceparent, "00-"+request.String()+"-0200000000000000-01")
	if _, err := c.CreateCharacter(traced, &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{Id: "secret-c", PlayerId: "secret-one", Fullname: "c"}},
		grpc.Header(&answer)); err != nil {
		t.Fatal(err)
	}
	return p.Addr(), spans, request, answer
}

func TestTelemetry(t *testing.T) {
	addr, spans, request, answer := measured(t)
	t.Run("one trace per transaction", func(t *testing.T) {
		if got := answer.Get(txn.HeaderTraceparent); len(got) != 1 || !strings.Contains(got[0], request.String()) {
			t.Errorf("the client is told of the traces %q", got)
		}
		want := []string{"rpg.v1.RpgService/CreateCharacter", "commit", "character.create", "apply", "store"}
		names := func() map[string]int {
			out := map[string]int{}
			for _, s := range spans.GetSpans() {
				out[s.Name]++
				if s.SpanContext.TraceID() != request {
					t.Errorf("%s is in a trace that nobody sampled", s.Name)
				}
			}
			return out
		}
		eventually(t, "all spans", func() bool {
			has := names()
			return !slices.ContainsFunc(want, func(name string) bool { return has[name] == 0 })
		})
		t.Log(names())
	})
	families := map[string]*dto.MetricFamily{}
	eventually(t, "all metrics", func() bool {
		families = scrape(t, addr)
		return !slices.ContainsFunc(telemetry.Catalogue(), func(m telemetry.Metric) bool { return families[m.PrometheusName()] == nil })
	})
	t.Run("as the catalogue says", func(t *testing.T) { checkCatalogue(t, families) })
	t.Run("labels are bounded", func(t *testing.T) { checkBounded(t, families) })
	t.Run("dashboards and alerts", func(t *testing.T) { checkQueries(t, families) })
}

func checkCatalogue(t *testing.T, families map[string]*dto.MetricFamily) {
	kinds := map[dto.MetricType]telemetry.Kind{
		dto.MetricType_COUNTER: telemetry.KindCounter, dto.MetricType_GAUGE: telemetry.KindGauge, dto.MetricType_HISTOGRAM: telemetry.KindHistogram,
	}
	known := map[string]telemetry.Metric{}
	for _, m := range telemetry.Catalogue() {
		known[m.PrometheusName()] = m
	}
	for name, f := range families {
		if !strings.HasPrefix(name, "rkcy") {
			continue
		}
		m, ok := known[name]
		if !ok {
			t.Errorf("%s is not in the catalogue", name)
			continue
		}
		if kinds[f.GetType()] != m.Kind || f.GetHelp() != m.Help {
			t.Errorf("%s is a %v, %q; the catalogue says %s, %q", name, f.GetType(), f.GetHelp(), m.Kind, m.Help)
		}
		for _, sample := range f.GetMetric() {
			var labels []string
			for _, l := range sample.GetLabel() {
				labels = append(labels, l.GetName())
			}
			if want := slices.Sorted(slices.Values(m.Labels)); !slices.Equal(labels, want) {
				t.Errorf("%s has the labels %q, want %q", name, labels, want)
			}
		}
	}
}

// bounds are what the values of labels may be.
var bounds = map[string]*regexp.Regexp{
	telemetry.LabelMethod:    regexp.MustCompile(`^(rpg|rkcy|grpc)\.[a-zA-Z0-9.]+/[A-Za-z]+$`),
	telemetry.LabelCode:      regexp.MustCompile(`^(OK|[A-Z][A-Za-z_]+)$`),
	telemetry.LabelConcern:   regexp.MustCompile(`^(player|player_username|character)$`),
	telemetry.LabelCommand:   regexp.MustCompile(`^(create|read|update|delete|[A-Z][A-Za-z]+)$`),
	telemetry.LabelOutcome:   regexp.MustCompile(`^(done|failed)$`),
	telemetry.LabelPartition: regexp.MustCompile(`^[01]$`),
	telemetry.LabelReason:    regexp.MustCompile(`^(connection|error|slow|failed)$`),
	telemetry.LabelTarget:    regexp.MustCompile(`^main$`),
	telemetry.LabelTopic:     regexp.MustCompile(`^(process|state|storage)$`),
}

func checkBounded(t *testing.T, families map[string]*dto.MetricFamily) {
	for name, f := range families {
		if !strings.HasPrefix(name, "rkcy") {
			continue
		}
		for _, sample := range f.GetMetric() {
			for _, l := range sample.GetLabel() {
				if re := bounds[l.GetName()]; re == nil || !re.MatchString(l.GetValue()) || strings.Contains(l.GetValue(), "secret") {
					t.Errorf("%s{%s=%q} is not bounded", name, l.GetName(), l.GetValue())
				}
			}
		}
	}
	var count float64
	for _, sample := range families["rkcy_transactions_total"].GetMetric() {
		for _, l := range sample.GetLabel() {
			if l.GetValue() == "ALREADY_EXISTS" {
				count = sample.GetCounter().GetValue()
			}
		}
	}
	if count != 1 {
		t.Error(fmt.Sprint("the refusal was counted ", count, " times"))
	}
}
