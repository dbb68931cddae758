package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/rocketcycle/rocketcycle/internal/weborigin"
)

// Config configures a Server. The zero value of a field means its default.
type Config struct {
	// HTTPAddr and GRPCAddr are where to listen, as host:port. Port 0 picks a
	// free one. Default: port 0 on the loopback interface.
	HTTPAddr, GRPCAddr string
	// MaxRequestBytes is the largest HTTP body, and the largest serialized
	// message on gRPC. Default 1 MiB.
	MaxRequestBytes int
	// MaxInFlight is how many requests are worked on at once, both protocols
	// together; one more is refused with RESOURCE_EXHAUSTED. Default 4096.
	MaxInFlight int
	// DefaultTimeout is for requests that bring no deadline. Default 30 s.
	DefaultTimeout time.Duration
	// DrainDelay is how long a server that is told to stop goes on accepting
	// requests while its health says not serving, so that load balancers can
	// notice. Default 0.
	DrainDelay time.Duration
	// DrainTimeout is how long accepted requests may take to finish after that.
	// Default 10 s.
	DrainTimeout time.Duration
	// MaxBatchItems is how many items a batch may have. Its bytes are within
	// MaxRequestBytes, as those of any request. Default 1000.
	MaxBatchItems int
	// MaxBatchAnswerBytes is how long the answers to a batch may become before
	// its remaining items are not begun any more. Default 16 MiB.
	MaxBatchAnswerBytes int
	// AllowedOrigins are those whose pages may call the edge from a browser, over
	// HTTP and WebSocket, as scheme://host[:port], besides the edge's own. "*" is
	// any. Cookies are not shared with them. Default: none besides the edge's own.
	AllowedOrigins []string
	// WebSocket configures connections to /v1/ws.
	WebSocket WebSocketConfig
	// TracerProvider and MeterProvider, where set, are told of requests.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	Logger         *slog.Logger
}

// WebSocketConfig configures the connections that are WebSockets. A message is
// within MaxRequestBytes, and a request on one counts for MaxInFlight, as those
// of the other protocols.
type WebSocketConfig struct {
	// Disabled: none is accepted.
	Disabled bool
	// MaxConnections is how many there may be at once. Default 10,000.
	MaxConnections int
	// MaxInFlight is how many frames of one connection are worked on, or wait to
	// be read by the client, at once. With as many the next is not read.
	// Default 256.
	MaxInFlight int
	// OutboxBytes is how long the answers may become that wait for the client to
	// read them. With more the connection is closed, code 1013. Default 8 MiB.
	OutboxBytes int
	// PingInterval is how often it is tried whether the client is there.
	// Default 30 s.
	PingInterval time.Duration
	// IdleTimeout is how long a connection may be without frames of the client
	// and requests. It is closed then, code 1001. Default 10 min.
	IdleTimeout time.Duration
	// WriteTimeout is how long one frame may take to be sent, and a ping to be
	// answered. Default 10 s.
	WriteTimeout time.Duration
}

func (c WebSocketConfig) withDefaults() WebSocketConfig {
	if c.MaxConnections == 0 {
		c.MaxConnections = 10_000
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 256
	}
	if c.OutboxBytes == 0 {
		c.OutboxBytes = 8 << 20
	}
	if c.PingInterval == 0 {
		c.PingInterval = 30 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 10 * time.Minute
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 10 * time.Second
	}
	return c
}

// WithDefaults returns the configuration with zero values replaced.
func (c Config) WithDefaults() Config {
	if c.HTTPAddr == "" {
		c.HTTPAddr = "127.0.0.1:0"
	}
	if c.GRPCAddr == "" {
		c.GRPCAddr = "127.0.0.1:0"
	}
	if c.MaxRequestBytes == 0 {
		c.MaxRequestBytes = 1 << 20
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 4096
	}
	if c.DefaultTimeout == 0 {
		c.DefaultTimeout = 30 * time.Second
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 10 * time.Second
	}
	if c.MaxBatchItems == 0 {
		c.MaxBatchItems = 1000
	}
	if c.MaxBatchAnswerBytes == 0 {
		c.MaxBatchAnswerBytes = 16 << 20
	}
	c.WebSocket = c.WebSocket.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	for _, a := range []struct{ name, addr string }{{"HTTPAddr", c.HTTPAddr}, {"GRPCAddr", c.GRPCAddr}} {
		if a.addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			faults = append(faults, fmt.Errorf("%s %q is not host:port", a.name, a.addr))
		}
	}
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"MaxRequestBytes", int64(c.MaxRequestBytes)}, {"MaxInFlight", int64(c.MaxInFlight)},
		{"DefaultTimeout", int64(c.DefaultTimeout)}, {"DrainDelay", int64(c.DrainDelay)}, {"DrainTimeout", int64(c.DrainTimeout)},
		{"MaxBatchItems", int64(c.MaxBatchItems)}, {"MaxBatchAnswerBytes", int64(c.MaxBatchAnswerBytes)},
		{"WebSocket.MaxConnections", int64(c.WebSocket.MaxConnections)}, {"WebSocket.MaxInFlight", int64(c.WebSocket.MaxInFlight)},
		{"WebSocket.OutboxBytes", int64(c.WebSocket.OutboxBytes)}, {"WebSocket.PingInterval", int64(c.WebSocket.PingInterval)},
		{"WebSocket.IdleTimeout", int64(c.WebSocket.IdleTimeout)}, {"WebSocket.WriteTimeout", int64(c.WebSocket.WriteTimeout)},
	} {
		if n.value < 0 {
			faults = append(faults, fmt.Errorf("%s is negative", n.name))
		}
	}
	for _, o := range c.AllowedOrigins {
		if o != "*" && !weborigin.Valid(o) {
			faults = append(faults, fmt.Errorf("AllowedOrigins: %q is not scheme://host[:port]", o))
		}
	}
	return errors.Join(faults...)
}

// Service is one gRPC service with its HTTP mapping.
type Service struct {
	// Register adds the implementation to a gRPC server. It is called twice.
	Register func(grpc.ServiceRegistrar)
	// Gateway adds the HTTP mapping, as protoc-gen-grpc-gateway generates it.
	// nil: the service is reached by gRPC only.
	Gateway func(ctx context.Context, mux *runtime.ServeMux, conn *grpc.ClientConn) error
	// OpenAPI describes the HTTP mapping, as JSON. The documents of several
	// services are merged. nil: the service is not described.
	OpenAPI []byte
}
