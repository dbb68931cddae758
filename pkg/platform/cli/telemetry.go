package cli

import (
	"context"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/internal/telemetry/provider"
)

// telemetryFlags say where metrics and traces go.
type telemetryFlags struct {
	metrics string
	otlp    string
	ratio   float64
}

// metricsOff is a value of --metrics-listen.
const metricsOff = "off"

func (f *telemetryFlags) add(cmd *cobra.Command, byDefault string) {
	flags := cmd.Flags()
	flags.StringVar(&f.metrics, "metrics-listen", "", "serve /metrics to Prometheus at this host:port; port 0 picks a free one (default: "+byDefault+")")
	flags.StringVar(&f.otlp, "otlp-endpoint", "", "send traces to this OpenTelemetry collector by gRPC: host:port, or https://host:port (default: none)")
	flags.Float64Var(&f.ratio, "trace-ratio", 1, "share of requests to trace that come without a decision of their own, 0 to 1")
}

func (f *telemetryFlags) config(service string) provider.Config {
	cfg := provider.Config{Service: service, MetricsListen: f.metrics, OTLPEndpoint: f.otlp, TraceRatio: f.ratio}
	if cfg.MetricsListen == metricsOff {
		cfg.MetricsListen = ""
	}
	return cfg
}

func (f *telemetryFlags) check() error {
	if err := f.config("").Validate(); err != nil {
		return usagef("%w; see --metrics-listen, --otlp-endpoint and --trace-ratio", err)
	}
	return nil
}

// start serves and sends telemetry, for the node that s is about to run.
func (f *telemetryFlags) start(ctx context.Context, s *served) (*provider.Provider, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	name := s.app.Name
	if s.role != "" {
		name += "-" + s.role
	}
	cfg := f.config(name)
	cfg.Logger = s.node.Logger
	p, err := provider.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s.node.TracerProvider, s.node.MeterProvider = p.Tracer, p.Meter
	return p, nil
}

// args are those of a child: each has a port of its own, the next ones behind
// the parent's.
func (f *telemetryFlags) args(role string) []string {
	var args []string
	if host, port, err := net.SplitHostPort(f.metrics); err == nil {
		if n, err := strconv.Atoi(port); err == nil && n > 0 {
			port = strconv.Itoa(n + map[string]int{roleProcess: 0, roleStorage: 1, roleEdge: 2}[role])
		}
		args = append(args, "--metrics-listen", net.JoinHostPort(host, port))
	}
	if f.otlp != "" {
		args = append(args, "--otlp-endpoint", f.otlp, "--trace-ratio", strconv.FormatFloat(f.ratio, 'g', -1, 64))
	}
	return args
}
