package node

import (
	"errors"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// Roles says which parts of the platform a node runs.
type Roles struct {
	Processor, Storage, Edge bool
}

// AllRoles returns every role.
func AllRoles() Roles { return Roles{Processor: true, Storage: true, Edge: true} }

// Config configures a Node.
type Config struct {
	Application Application
	// Platform is the platform file, with the addresses of all servers.
	Platform platform.Config
	Roles    Roles
	// Concerns are those that the processor and the storage workers of the node
	// serve, each with the Concerns of its unique fields. Empty: all.
	Concerns []string
	// Targets are the storage targets that the storage workers of the node write
	// to. Empty: all.
	Targets []string
	// SessionTimeout is how long a group member may be silent before others
	// take over. Default 6 s.
	SessionTimeout time.Duration
	// StartTimeout bounds how long Run waits for the brokers when it starts.
	// Default 15 s.
	StartTimeout time.Duration
	// TracerProvider and MeterProvider, where set, are told of all that the node
	// does. They are not closed.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider
	Logger         *slog.Logger
}

// WithDefaults returns the configuration with zero values replaced.
func (c Config) WithDefaults() Config {
	if c.SessionTimeout == 0 {
		c.SessionTimeout = 6 * time.Second
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 15 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	faults := []error{c.Application.Validate(), c.Platform.Validate(), c.checkServers(), c.checkSelection()}
	if c.Roles == (Roles{}) {
		faults = append(faults, errors.New("no role to run"))
	}
	if c.Roles.Edge && c.Application.Services == nil {
		faults = append(faults, errors.New("the application has no edge services"))
	}
	if _, ok := c.Platform.Primary(); !ok {
		faults = append(faults, errors.New("there is no primary storage target"))
	}
	return errors.Join(faults...)
}

// log returns how to reach the brokers.
func (c Config) log() stream.Config {
	return Stream(c.Platform, clientID(c.Application.Name), c.Logger)
}

// Stream returns the configuration of Kafka clients that a platform file leads
// to.
func Stream(p platform.Config, client string, logger *slog.Logger) stream.Config {
	return stream.Config{Bootstrap: p.Kafka.Bootstrap, ClientID: client, Extra: p.Kafka.Extra, Logger: logger}
}
