package platform

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/weborigin"
)

var (
	namePattern    = regexp.MustCompile(`^[a-z][a-z0-9-]{0,29}$`)
	concernPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
)

const (
	nameRule    = "1 to 30 lower-case letters, digits and hyphens, a letter first"
	concernRule = "1 to 63 lower-case letters, digits and underscores, a letter first"
	// reservedConcern is used in the names of platform-wide topics.
	reservedConcern = "platform"
)

// Validate reports everything that is wrong, as Faults. Addresses of servers
// may be missing, since flags and embedded servers supply them; see
// CheckServers.
func (c Config) Validate() error { return c.WithDefaults().faults().orNil() }

// CheckServers reports the addresses that are needed to reach real servers and
// are missing, as Faults.
func (c Config) CheckServers() error {
	var faults Faults
	if c.Kafka.Bootstrap == "" {
		faults = append(faults, c.source.fault("kafka.bootstrap",
			"is missing; give host:port of a broker here or in %s", EnvKafkaBootstrap))
	}
	for i, t := range c.Storage.Targets {
		if t.DSN == "" {
			faults = append(faults, c.source.fault(fmt.Sprintf("storage.targets[%d].dsn", i),
				"is missing; give postgres://user:password@host:port/database here or, for the primary, in %s", EnvPostgresDSN))
		}
	}
	return faults.orNil()
}

type checker struct {
	source *source
	faults Faults
}

func (k *checker) fault(path, format string, args ...any) {
	k.faults = append(k.faults, k.source.fault(path, format, args...))
}

func (k *checker) between(path string, n, low, high int64) {
	if n < low || n > high {
		k.fault(path, "%d is out of range; allowed are %d to %d", n, low, high)
	}
}

func (k *checker) name(path, name string, pattern *regexp.Regexp, rule string) bool {
	switch {
	case name == "":
		k.fault(path, "is missing; it has %s", rule)
	case !pattern.MatchString(name):
		k.fault(path, "%q is not allowed; it has %s", name, rule)
	default:
		return true
	}
	return false
}

func (k *checker) oneOf(path, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	if value == "" {
		k.fault(path, "is missing; allowed are %s", strings.Join(allowed, ", "))
		return
	}
	k.fault(path, "%q is not known; allowed are %s", value, strings.Join(allowed, ", "))
}

func (c Config) faults() Faults {
	k := &checker{source: c.source}
	k.name("name", c.Name, namePattern, nameRule)
	k.name("environment", c.Environment, namePattern, nameRule)
	if c.Version < 0 {
		k.fault("version", "%d is negative; it is the published version that the file was written for, and may be left out", c.Version)
	}
	k.replication(c)
	k.kafka(c.Kafka)
	k.concerns(c.Concerns)
	k.targets(c.Storage.Targets)
	k.edge(c.Edge)
	k.between("processor.cache_bytes", int64(c.Processor.CacheBytes), 1<<20, 1<<40)
	k.between("processor.workers", int64(c.Processor.Workers), 1, 256)
	k.between("processor.batch_max", int64(c.Processor.BatchMax), 1, 100_000)
	return k.faults
}

func (k *checker) replication(c Config) {
	if c.ReplicationFactor != 0 {
		k.between("replication_factor", int64(c.ReplicationFactor), 1, 100)
	}
	if c.MinInsyncReplicas == 0 {
		return
	}
	k.between("min_insync_replicas", int64(c.MinInsyncReplicas), 1, 100)
	if c.ReplicationFactor > 0 && c.MinInsyncReplicas > c.ReplicationFactor {
		k.fault("min_insync_replicas", "%d is more than replication_factor %d, so nothing could ever be written",
			c.MinInsyncReplicas, c.ReplicationFactor)
	}
}

// managed are settings of librdkafka that the guarantees rest on.
var managed = []string{
	"bootstrap.servers", "acks", "request.required.acks", "enable.idempotence", "transactional.id", "isolation.level",
	"enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store", "group.id", "group.protocol",
	"partition.assignment.strategy", "partitioner",
}

func (k *checker) kafka(c Kafka) {
	if c.Bootstrap != "" {
		for address := range strings.SplitSeq(c.Bootstrap, ",") {
			k.address("kafka.bootstrap", strings.TrimSpace(address), false)
		}
	}
	for _, name := range managed {
		if _, set := c.Extra[name]; set {
			k.fault("kafka.extra."+name, "is set by the platform and cannot be changed")
		}
	}
}

// address checks host:port; what listens may leave the host out and let the
// system choose the port.
func (k *checker) address(path, address string, listen bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" && !listen {
		k.fault(path, "%q is not an address; write it as host:port", address)
		return
	}
	low := 1
	if listen {
		low = 0
	}
	if n, err := strconv.Atoi(port); err != nil || n < low || n > 65535 {
		k.fault(path, "%q has no valid port; allowed are %d to 65535", address, low)
	}
}

func (k *checker) concerns(concerns []Concern) {
	if len(concerns) == 0 {
		k.fault("concerns", "is missing; a platform has at least one Concern")
	}
	first := map[string]int{}
	for i, c := range concerns {
		path := fmt.Sprintf("concerns[%d]", i)
		if k.name(path+".name", c.Name, concernPattern, concernRule) {
			if j, twice := first[c.Name]; twice {
				k.fault(path+".name", "%q is the name of concerns[%d] already", c.Name, j)
			} else {
				first[c.Name] = i
			}
		}
		if c.Name == reservedConcern {
			k.fault(path+".name", "%q is reserved for topics of the whole platform", c.Name)
		}
		k.between(path+".partitions", int64(c.Partitions), 1, MaxPartitions)
		k.retention(path+".retention.process", c.Retention.Process, time.Hour)
		k.retention(path+".retention.storage", c.Retention.Storage, day)
		k.retention(path+".retention.error", c.Retention.Error, time.Minute)
	}
}

func (k *checker) retention(path string, d Duration, least time.Duration) {
	if d != Forever && time.Duration(d) < least {
		k.fault(path, "%v is too short; allowed are %v or more, and forever", d, Duration(least))
	}
}

func (k *checker) targets(targets []Target) {
	first := map[string]int{}
	primaries := 0
	for i, t := range targets {
		path := fmt.Sprintf("storage.targets[%d]", i)
		if k.name(path+".name", t.Name, namePattern, nameRule) {
			if j, twice := first[t.Name]; twice {
				k.fault(path+".name", "%q is the name of storage.targets[%d] already", t.Name, j)
			} else {
				first[t.Name] = i
			}
		}
		k.oneOf(path+".type", t.Type, TypePostgres)
		k.oneOf(path+".role", t.Role, RolePrimary, RoleSecondary)
		k.dsn(path+".dsn", t.DSN)
		if t.Role == RolePrimary {
			if primaries++; primaries == 2 {
				k.fault(path+".role", "is a second primary; there is exactly one")
			}
		}
	}
	if len(targets) > 0 && primaries == 0 {
		k.fault("storage.targets", "none of them has role primary; there is exactly one")
	}
}

// dsn checks the form only; it must not repeat the text, which holds a
// password.
func (k *checker) dsn(path, dsn string) {
	const form = "write it as postgres://user:password@host:port/database or as host=… port=… user=… dbname=…"
	if dsn == "" {
		return
	}
	if !strings.Contains(dsn, "://") {
		if !strings.Contains(dsn, "=") {
			k.fault(path, "is not a connection string; %s", form)
		}
		return
	}
	u, err := url.Parse(dsn)
	switch {
	case err != nil:
		k.fault(path, "is not a valid URL; %s", form)
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		k.fault(path, "has the scheme %q; %s", u.Scheme, form)
	}
}

func (k *checker) edge(e Edge) {
	k.between("edge.slots", int64(e.Slots), 1, MaxPartitions)
	k.address("edge.http", e.HTTP, true)
	k.address("edge.grpc", e.GRPC, true)
	// Above this a request would not fit into a record any more.
	k.between("edge.max_request_bytes", int64(e.MaxRequestBytes), 1<<10, 2<<20)
	k.between("edge.max_in_flight", int64(e.MaxInFlight), 1, 1_000_000)
	if t := time.Duration(e.DefaultTimeout); t < time.Millisecond || t > 10*time.Minute {
		k.fault("edge.default_timeout", "%v is out of range; allowed are 1ms to 10m", e.DefaultTimeout)
	}
	for i, o := range e.AllowedOrigins {
		if o != "*" && !weborigin.Valid(o) {
			k.fault(fmt.Sprintf("edge.allowed_origins[%d]", i), "%q is not scheme://host[:port], nor \"*\"", o)
		}
	}
}
