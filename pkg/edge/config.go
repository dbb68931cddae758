package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
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
	Logger       *slog.Logger
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
	} {
		if n.value < 0 {
			faults = append(faults, fmt.Errorf("%s is negative", n.name))
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
