package platform

import (
	"slices"
	"time"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Config is a platform file. The zero value of a field means its default.
type Config struct {
	// Name and Environment are part of every topic name. Environment defaults
	// to "dev".
	Name        string `yaml:"name"`
	Environment string `yaml:"environment"`
	// ReplicationFactor of the topics. Default: 3, or the number of brokers if
	// there are fewer.
	ReplicationFactor int `yaml:"replication_factor"`
	// MinInsyncReplicas must have a record before it counts as written.
	// Default: 2 with three replicas or more, else 1.
	MinInsyncReplicas int       `yaml:"min_insync_replicas"`
	Kafka             Kafka     `yaml:"kafka"`
	Concerns          []Concern `yaml:"concerns"`
	Storage           Storage   `yaml:"storage"`
	Edge              Edge      `yaml:"edge"`
	Processor         Processor `yaml:"processor"`
	// Development allows to throw the platform away with all that it has.
	Development bool `yaml:"development"`
	// Version, where set, is the published one that the file was written for: it
	// is refused while another one is published, so that an older file cannot
	// overwrite what is newer.
	Version int `yaml:"version"`

	source *source
}

// Kafka says how to reach the brokers.
type Kafka struct {
	// Bootstrap is a comma-separated list of host:port. Empty: given by the
	// environment, a flag, or the embedded broker.
	Bootstrap string `yaml:"bootstrap"`
	// Extra are librdkafka settings for every client: TLS, SASL.
	Extra map[string]string `yaml:"extra"`
}

// Concern is one part of the data model.
type Concern struct {
	Name string `yaml:"name"`
	// Partitions of its topics: the largest number of processors that can share
	// its work. Default DefaultPartitions.
	Partitions int       `yaml:"partitions"`
	Retention  Retention `yaml:"retention"`
}

// Retention is how long records are kept.
type Retention struct {
	// Process is for steps and markers. It must outlast any stop of all
	// processors: a marker that is deleted unread would leave a hold for ever.
	// Default 7 days.
	Process Duration `yaml:"process"`
	// Storage is for the change feed. Default Forever. What a storage target has
	// not applied yet is kept longer, and so are the last 10,000 records before
	// that.
	Storage Duration `yaml:"storage"`
	// Error is for quarantined records. Default 30 days.
	Error Duration `yaml:"error"`
}

// Storage lists the databases that committed changes flow into.
type Storage struct {
	Targets []Target `yaml:"targets"`
}

// Target is a database.
type Target struct {
	Name string `yaml:"name"`
	// Type is TypePostgres, the default.
	Type string `yaml:"type"`
	// DSN is how to reach it. Empty: given by the environment, a flag, or the
	// embedded database.
	DSN string `yaml:"dsn"`
	// Role is RolePrimary, which cache misses are read from, or RoleSecondary.
	// There is exactly one primary. A single target defaults to primary.
	Role string `yaml:"role"`
}

// Values of Target.Type and Target.Role.
const (
	TypePostgres  = "postgres"
	RolePrimary   = "primary"
	RoleSecondary = "secondary"
)

// Edge are limits and addresses of the edges.
type Edge struct {
	// Slots are the partitions of the response topic: the edges that can run
	// without sharing one. Default DefaultSlots.
	Slots int `yaml:"slots"`
	// HTTP and GRPC are the addresses to listen on. Defaults DefaultHTTPAddr
	// and DefaultGRPCAddr.
	HTTP string `yaml:"http"`
	GRPC string `yaml:"grpc"`
	// MaxRequestBytes is the largest request. Default 1 MiB.
	MaxRequestBytes Size `yaml:"max_request_bytes"`
	// MaxInFlight is how many requests are worked on at once; one more is shed.
	// Default 4096.
	MaxInFlight int `yaml:"max_in_flight"`
	// DefaultTimeout is for requests that bring no deadline. Default 30 s.
	DefaultTimeout Duration `yaml:"default_timeout"`
	// AllowedOrigins are those whose pages may call the edge from a browser, as
	// scheme://host[:port]; "*" is any. Default: none besides the edge's own.
	AllowedOrigins []string `yaml:"allowed_origins"`
}

// Processor are limits of a processor.
type Processor struct {
	// CacheBytes bounds the instances in memory. Default 256 MiB.
	CacheBytes Size `yaml:"cache_bytes"`
	// Workers is how many group members a processor has, each with a producer of
	// its own and a share of the partitions. A transaction between partitions of
	// one worker needs no hop, so more than one pays only where a process has
	// more cores than one worker can use. Default 1.
	Workers int `yaml:"workers"`
	// BatchMax is how many records go into one Kafka transaction at most.
	// Default 1000.
	BatchMax int `yaml:"batch_max"`
}

// Defaults and bounds that others use, too.
const (
	DefaultPartitions = 4
	MaxPartitions     = 4096
	DefaultSlots      = 16
	DefaultHTTPAddr   = "127.0.0.1:11370"
	DefaultGRPCAddr   = "127.0.0.1:11371"
	// FirstGeneration is that of the topics of a new Concern.
	FirstGeneration = 1
)

const day = 24 * time.Hour

// WithDefaults returns the configuration with zero values replaced, except for
// what only the brokers can tell (ReplicationFactor, MinInsyncReplicas) and
// addresses of servers.
func (c Config) WithDefaults() Config {
	setDefault(&c.Environment, "dev")
	concerns := make([]Concern, len(c.Concerns))
	for i, k := range c.Concerns {
		setDefault(&k.Partitions, DefaultPartitions)
		setDefault(&k.Retention.Process, Duration(7*day))
		setDefault(&k.Retention.Storage, Forever)
		setDefault(&k.Retention.Error, Duration(30*day))
		concerns[i] = k
	}
	c.Concerns = concerns
	targets := make([]Target, len(c.Storage.Targets))
	for i, t := range c.Storage.Targets {
		setDefault(&t.Type, TypePostgres)
		if len(targets) == 1 {
			setDefault(&t.Role, RolePrimary)
		}
		targets[i] = t
	}
	c.Storage.Targets = targets
	setDefault(&c.Edge.Slots, DefaultSlots)
	setDefault(&c.Edge.HTTP, DefaultHTTPAddr)
	setDefault(&c.Edge.GRPC, DefaultGRPCAddr)
	setDefault(&c.Edge.MaxRequestBytes, 1<<20)
	setDefault(&c.Edge.MaxInFlight, 4096)
	setDefault(&c.Edge.DefaultTimeout, Duration(30*time.Second))
	setDefault(&c.Processor.CacheBytes, 256<<20)
	setDefault(&c.Processor.Workers, 1)
	setDefault(&c.Processor.BatchMax, 1000)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// WithConcernLike returns the configuration with one more Concern, that has the
// partitions and retentions of another. It is unchanged if the new one is there
// already, or the other is not.
func (c Config) WithConcernLike(name, other string) Config {
	at := -1
	for i, k := range c.Concerns {
		switch k.Name {
		case name:
			return c
		case other:
			at = i
		}
	}
	if at < 0 {
		return c
	}
	more := c.Concerns[at]
	more.Name = name
	c.Concerns = append(slices.Clone(c.Concerns), more)
	return c
}

// Primary returns the target that cache misses are read from.
func (c Config) Primary() (Target, bool) {
	for _, t := range c.Storage.Targets {
		if t.Role == RolePrimary {
			return t, true
		}
	}
	return Target{}, false
}

// Proto returns what is published of the configuration: what every program of
// the platform must agree on. Servers' addresses and limits of single programs
// are not part of it. Replication is 0 where the file leaves it open.
func (c Config) Proto() *rkcyv1.PlatformConfig {
	c = c.WithDefaults()
	p := &rkcyv1.PlatformConfig{
		Name:              c.Name,
		Environment:       c.Environment,
		EdgeSlots:         int32(c.Edge.Slots),        //nolint:gosec // validated
		ReplicationFactor: int32(c.ReplicationFactor), //nolint:gosec // validated
		MinInsyncReplicas: int32(c.MinInsyncReplicas), //nolint:gosec // validated
		Development:       c.Development,
	}
	for _, k := range c.Concerns {
		p.Concerns = append(p.Concerns, &rkcyv1.ConcernConfig{
			Name:               k.Name,
			Partitions:         int32(k.Partitions), //nolint:gosec // validated
			Generation:         FirstGeneration,
			ProcessRetentionMs: k.Retention.Process.Milliseconds(),
			StorageRetentionMs: k.Retention.Storage.Milliseconds(),
			ErrorRetentionMs:   k.Retention.Error.Milliseconds(),
		})
	}
	for _, t := range c.Storage.Targets {
		p.StorageTargets = append(p.StorageTargets, t.Name)
	}
	slices.Sort(p.StorageTargets)
	return p
}
