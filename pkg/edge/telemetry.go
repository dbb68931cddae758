package edge

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/rocketcycle/rocketcycle/internal/telemetry"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Status is what a server tells about itself.
type Status struct {
	// InFlight requests, and open WebSockets.
	InFlight, WebSockets int
	// Shed counts requests that were refused since as many as the limit were in
	// flight.
	Shed uint64
}

// Status is safe for concurrent use.
func (s *Server) Status() Status {
	s.sockets.mu.Lock()
	open := s.sockets.open
	s.sockets.mu.Unlock()
	s.limit.mu.Lock()
	defer s.limit.mu.Unlock()
	return Status{InFlight: max(s.limit.running, s.limit.slots), WebSockets: open, Shed: s.limit.shed}
}

// serverTelemetry traces and measures requests. nil does neither, and passes
// the trace of a client on.
type serverTelemetry struct {
	tracer   trace.Tracer // nil: nobody traces
	duration metric.Float64Histogram
}

func newServerTelemetry(cfg Config) (*serverTelemetry, error) {
	if cfg.TracerProvider == nil && cfg.MeterProvider == nil {
		return nil, nil //nolint:nilnil // nobody is told
	}
	i := telemetry.New(cfg.MeterProvider)
	t := &serverTelemetry{duration: i.Histogram(telemetry.EdgeRequestDuration)}
	if cfg.TracerProvider != nil {
		t.tracer = cfg.TracerProvider.Tracer(telemetry.Scope)
	}
	return t, i.Err()
}

// begin continues the trace that a request brings, or starts one, and tells the
// client which. end is called with how the request ended.
func (t *serverTelemetry) begin(ctx context.Context, method string) (_ context.Context, end func(error)) {
	md, _ := metadata.FromIncomingContext(ctx)
	if one := md.Get(txn.HeaderTraceparent); len(one) == 1 {
		carrier := propagation.MapCarrier{txn.HeaderTraceparent: one[0], txn.HeaderTracestate: strings.Join(md.Get(txn.HeaderTracestate), ",")}
		ctx = propagation.TraceContext{}.Extract(ctx, carrier)
	}
	if t == nil {
		return ctx, func(error) {}
	}
	start := time.Now()
	name := strings.TrimPrefix(method, "/")
	var span trace.Span
	if t.tracer != nil {
		service, rpc, _ := strings.Cut(name, "/")
		ctx, span = t.tracer.Start(ctx, name, trace.WithTimestamp(start), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			attribute.String("rpc.system", "grpc"), attribute.String("rpc.service", service), attribute.String("rpc.method", rpc)))
		if carrier := (propagation.MapCarrier{}); span.SpanContext().IsValid() {
			propagation.TraceContext{}.Inject(ctx, carrier)
			// Outside of a request there is nobody to tell.
			_ = grpc.SetHeader(ctx, metadata.Pairs(txn.HeaderTraceparent, carrier[txn.HeaderTraceparent]))
		}
	}
	return ctx, func(err error) {
		code := status.Code(err)
		t.duration.Record(ctx, time.Since(start).Seconds(), metric.WithAttributeSet(attribute.NewSet(
			attribute.String(telemetry.LabelMethod, name), attribute.String(telemetry.LabelCode, code.String()))))
		if span == nil {
			return
		}
		span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(code)))
		if isServerFault(code) {
			span.SetStatus(otelcodes.Error, status.Convert(err).Message())
		}
		span.End()
	}
}

// isServerFault tells the codes that OpenTelemetry counts as errors of a server.
func isServerFault(c codes.Code) bool {
	return c == codes.Unknown || c == codes.DeadlineExceeded || c == codes.Unimplemented || c == codes.Internal ||
		c == codes.Unavailable || c == codes.DataLoss
}

// contextStream is a stream whose handler sees another context.
type contextStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // what Context returns
}

// Context implements grpc.ServerStream.
func (s contextStream) Context() context.Context { return s.ctx }
