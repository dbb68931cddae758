// Package provider has the OpenTelemetry SDK: it serves metrics to Prometheus and
// sends traces by OTLP. Nothing in it is global.
package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Config says where telemetry goes. What is empty is off.
type Config struct {
	// Service and Instance name this process in traces.
	Service, Instance string
	// MetricsListen is where Prometheus asks, as host:port; port 0 picks a free
	// one.
	MetricsListen string
	// OTLPEndpoint is where traces are sent by gRPC: host:port for plain text, or
	// a URL http://host:port or https://host:port.
	OTLPEndpoint string
	// TraceRatio is the share of requests that are traced which do not come with
	// a decision, 0 to 1.
	TraceRatio float64
	Logger     *slog.Logger
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	if c.MetricsListen != "" {
		if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
			faults = append(faults, fmt.Errorf("metrics address %q is not host:port", c.MetricsListen))
		}
	}
	if c.OTLPEndpoint != "" {
		if _, err := c.endpoint(); err != nil {
			faults = append(faults, err)
		}
	}
	if !(c.TraceRatio >= 0 && c.TraceRatio <= 1) {
		faults = append(faults, fmt.Errorf("trace ratio %v is not between 0 and 1", c.TraceRatio))
	}
	return errors.Join(faults...)
}

func (c Config) endpoint() (string, error) {
	text := c.OTLPEndpoint
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() == "") {
		err = errors.New("scheme, host and port are needed")
	}
	if err != nil {
		return "", fmt.Errorf("OTLP endpoint %q is neither host:port nor a URL http(s)://host:port: %w", c.OTLPEndpoint, err)
	}
	return text, nil
}

// Provider has the providers of a process. Those of what is off are nil.
type Provider struct {
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider

	addr  string
	close []func(context.Context) error
}

// Start listens, and begins to send. Close must be called.
func Start(ctx context.Context, cfg Config) (*Provider, error) {
	if err := cfg.Validate(); err != nil {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "telemetry: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Instance == "" {
		host, _ := os.Hostname()
		cfg.Instance = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	about := resource.NewSchemaless(attribute.String("service.name", cfg.Service), attribute.String("service.instance.id", cfg.Instance))
	p := &Provider{}
	if cfg.MetricsListen != "" {
		if err := p.serveMetrics(ctx, cfg, about); err != nil {
			return nil, err
		}
	}
	if cfg.OTLPEndpoint != "" {
		if err := p.sendTraces(ctx, cfg, about); err != nil {
			return nil, errors.Join(err, p.Close(ctx))
		}
	}
	return p, nil
}

func (p *Provider) serveMetrics(ctx context.Context, cfg Config, about *resource.Resource) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := promexporter.New(promexporter.WithRegisterer(registry), promexporter.WithoutScopeInfo(), promexporter.WithoutTargetInfo())
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", cfg.MetricsListen)
	if err != nil {
		return txn.Errorf(txn.CodeFailedPrecondition, "metrics address: %w; choose another one, or port 0 for a free one", err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(about))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics:   true, // exemplars need it
		MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
	}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cfg.Logger.Error("metrics are not served any more", "error", err)
		}
	})
	p.Meter, p.addr = provider, listener.Addr().String()
	p.close = append(p.close, func(context.Context) error {
		err := server.Close()
		serving.Wait()
		return err
	}, provider.Shutdown)
	return nil
}

func (p *Provider) sendTraces(ctx context.Context, cfg Config, about *resource.Resource) error {
	endpoint, err := cfg.endpoint()
	if err != nil {
		return err
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(endpoint))
	if err != nil {
		return fmt.Errorf("telemetry: OTLP endpoint: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&quietExporter{SpanExporter: exporter, logger: cfg.Logger}),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.TraceRatio))), sdktrace.WithResource(about))
	p.Tracer = provider
	p.close = append(p.close, provider.Shutdown)
	return nil
}

// Addr returns where metrics are served, "" if they are not.
func (p *Provider) Addr() string { return p.addr }

// Close sends what is left, for a few seconds, and stops listening.
func (p *Provider) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	var faults []error
	for _, f := range p.close {
		if err := f(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// quietExporter tells the process's own log of spans that could not be sent, once
// until it works again. A collector that is away is no reason for more.
type quietExporter struct {
	sdktrace.SpanExporter
	logger *slog.Logger

	mu   sync.Mutex
	away bool
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *quietExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil && !e.away {
		e.logger.Warn("traces cannot be sent and are dropped; trying again", "error", err)
	}
	if err == nil && e.away {
		e.logger.Info("traces are sent again")
	}
	e.away = err != nil
	return nil //nolint:nilerr // told above; else the SDK would tell a logger that is global
}
