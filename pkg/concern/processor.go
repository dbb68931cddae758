package concern

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Loader reads committed instances from a database. Safe for concurrent use.
type Loader interface {
	// Load returns the instances that exist. An error refuses the
	// transactions that need them; it should come within a bounded time and
	// be a *txn.Error, CodeUnavailable while the database is away.
	Load(ctx context.Context, concern string, keys []string) (map[string]*rkcyv1.Instance, error)
}

// Served is a Concern that a processor serves.
type Served struct {
	Definition Definition
	Topics     Topics
	// StorageGroup is the consumer group of the primary target's storage
	// worker. Its committed offsets are the watermarks.
	StorageGroup string
	// Retired are the process topics of former generations.
	Retired []Retired
}

// Config configures a Processor.
type Config struct {
	Stream stream.Config
	// Group is the consumer group that shares the process partitions.
	Group    string
	Concerns []Served
	// ResponseTopic gets the answers.
	ResponseTopic string
	Router        txn.Router
	Loader        Loader

	// Workers is the number of group members in this process. Default 1.
	Workers int
	// CacheBytes bounds the instances in memory, of all workers together.
	// Default 256 MiB.
	CacheBytes int64
	// OverlayBytes is how many of them may wait for the database before new
	// writes are refused. Default: CacheBytes.
	OverlayBytes int64
	// BatchMax is the largest number of records in one Kafka transaction.
	// Default 2,000.
	BatchMax int
	// LoadTimeout bounds one read of missing instances. Default 2 s.
	LoadTimeout time.Duration
	// WatermarkInterval is how often the watermarks are read. Default 500 ms.
	WatermarkInterval time.Duration
	// SessionTimeout is how long a worker may be silent before others take
	// over its partitions. Default 6 s.
	SessionTimeout time.Duration
	// StateRecords is how many state records a partition may have before a
	// snapshot replaces them. Default 20,000.
	StateRecords int
	// IdempotencyWindow is how long the outcome of a request with an idempotency
	// key is remembered. Default 24 h.
	IdempotencyWindow time.Duration
	// IdempotencyBytes bounds what a partition remembers of such requests; past
	// it new keys are refused. Default 64 MiB.
	IdempotencyBytes int64
	// ConfigSet returns the instances of config Concerns that are current. It is
	// called before each batch. Default: none.
	ConfigSet func() *ConfigSet
	// Pauses returns the partitions that are not to be worked on. It is called
	// before each batch. Default: none.
	Pauses func() *PauseSet
	Logger *slog.Logger
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// TracerProvider and MeterProvider, where set, are told of steps and Kafka
	// transactions.
	TracerProvider trace.TracerProvider
	MeterProvider  metric.MeterProvider

	// holdsOff switches isolation off. Only tests of this package can, to show
	// that others would notice.
	holdsOff bool
}

// WithDefaults returns the configuration with zero values replaced.
func (c Config) WithDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.Workers, 1)
	def(&c.BatchMax, 2000)
	def(&c.StateRecords, 20_000)
	if c.CacheBytes == 0 {
		c.CacheBytes = 256 << 20
	}
	if c.OverlayBytes == 0 {
		c.OverlayBytes = c.CacheBytes
	}
	if c.IdempotencyWindow == 0 {
		c.IdempotencyWindow = 24 * time.Hour
	}
	if c.IdempotencyBytes == 0 {
		c.IdempotencyBytes = 64 << 20
	}
	if c.ConfigSet == nil {
		c.ConfigSet = func() *ConfigSet { return nil }
	}
	if c.Pauses == nil {
		c.Pauses = func() *PauseSet { return nil }
	}
	if c.LoadTimeout == 0 {
		c.LoadTimeout = 2 * time.Second
	}
	if c.WatermarkInterval == 0 {
		c.WatermarkInterval = 500 * time.Millisecond
	}
	if c.SessionTimeout == 0 {
		c.SessionTimeout = 6 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	if c.Group == "" || c.ResponseTopic == "" {
		faults = append(faults, errors.New("group and response topic are needed"))
	}
	if c.Router == nil || c.Loader == nil {
		faults = append(faults, errors.New("router and loader are needed"))
	}
	if len(c.Concerns) == 0 {
		faults = append(faults, errors.New("no Concern to serve"))
	}
	if c.Workers < 0 || c.BatchMax < 0 || c.CacheBytes < 0 || c.OverlayBytes < 0 || c.StateRecords < 0 ||
		c.IdempotencyWindow < 0 || c.IdempotencyBytes < 0 {
		faults = append(faults, errors.New("a limit is negative"))
	}
	seen := map[string]bool{}
	for _, s := range c.Concerns {
		faults = append(faults, s.Definition.Validate())
		if seen[s.Definition.Name] {
			faults = append(faults, fmt.Errorf("concern %q is there twice", s.Definition.Name))
		}
		seen[s.Definition.Name] = true
		if s.Topics == (Topics{}) || s.StorageGroup == "" {
			faults = append(faults, fmt.Errorf("concern %q: topics and storage group are needed", s.Definition.Name))
		}
	}
	return errors.Join(faults...)
}

// Processor serves the partitions that the consumer group gives it.
type Processor struct {
	cfg       Config
	served    map[string]*servedConcern
	telemetry *processorTelemetry
	// retired has the Concern of each process topic of a former generation.
	retired map[string]string

	mu      sync.Mutex
	workers []*worker

	mirrors mirrors
}

// NewProcessor returns a processor. Run starts it.
func NewProcessor(cfg Config) (*Processor, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("processor: %w", err)
	}
	p := &Processor{cfg: cfg, served: map[string]*servedConcern{}, retired: map[string]string{}}
	for _, s := range cfg.Concerns {
		set, err := newCommandSet(s.Definition)
		if err != nil {
			return nil, fmt.Errorf("processor: %w", err)
		}
		p.served[s.Topics.Process] = &servedConcern{commands: set, topics: s.Topics, storageGroup: s.StorageGroup}
		if err := p.addRetired(s, set); err != nil {
			return nil, err
		}
	}
	var err error
	if p.telemetry, err = newProcessorTelemetry(cfg, p.served); err != nil {
		return nil, fmt.Errorf("processor: %w", err)
	}
	return p, nil
}

// Run works until ctx ends, then finishes the batch in flight, gives up its
// partitions and returns nil. An error means that a worker could not go on.
func (p *Processor) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range p.cfg.Workers {
		w := newWorker(p, i)
		p.mu.Lock()
		p.workers = append(p.workers, w)
		p.mu.Unlock()
		g.Go(func() error { return w.run(ctx) })
	}
	return g.Wait()
}

// Settled reports whether every worker has joined the group and serves what it
// was given. Safe for concurrent use.
func (p *Processor) Settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.workers {
		if s := w.status.Load(); s == nil || !w.joined.Load() || s.Restoring > 0 {
			return false
		}
	}
	return len(p.workers) == p.cfg.Workers
}

// Status is what a processor tells about itself.
type Status struct {
	Stats Stats
	// Partitions owned, and how many of them are being restored.
	Partitions, Restoring int
	// CacheBytes used, of which PinnedBytes may not be evicted; Instances is
	// their number.
	CacheBytes, PinnedBytes int64
	Instances               int
	// Blocked is the number of workers whose handler has not come back for 10 s.
	Blocked int
	// KafkaTransactions committed and Aborted, and the input records of the
	// former; Renewals counts new producers.
	KafkaTransactions, Aborted, Records, Renewals uint64
	// RenewalsBy has them by reason.
	RenewalsBy [stream.RenewalReasons]uint64
	// Waiting is at most a second old.
	Waiting Waiting
}

// Status returns the sum over all workers. Safe for concurrent use.
func (p *Processor) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	var sum Status
	for _, w := range p.workers {
		s := w.status.Load()
		if s == nil {
			continue
		}
		sum.Stats = sum.Stats.Add(s.Stats)
		sum.Partitions += s.Partitions
		sum.Restoring += s.Restoring
		sum.CacheBytes += s.CacheBytes
		sum.PinnedBytes += s.PinnedBytes
		sum.Instances += s.Instances
		sum.KafkaTransactions += s.KafkaTransactions
		sum.Aborted += s.Aborted
		sum.Records += s.Records
		sum.Renewals += s.Renewals
		for i, n := range s.RenewalsBy {
			sum.RenewalsBy[i] += n
		}
		sum.Waiting = sum.Waiting.Add(s.Waiting)
		if w.watchdog.blocked.Load() {
			sum.Blocked++
		}
	}
	return sum
}
