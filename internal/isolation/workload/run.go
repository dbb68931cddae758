package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketcycle/rocketcycle/internal/isolation"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Config configures a run.
type Config struct {
	Stream stream.Config
	// Prefix of all topics, not used by others.
	Prefix string
	// Seed decides what clients do. What happens depends on the timing, too.
	Seed uint64
	// Duration of the load.
	Duration time.Duration
	// Clients, Keys per Concern, Partitions per topic, Processors in this
	// process and Workers in each. Defaults 10, 3, 4, 2, 2.
	Clients, Keys, Partitions, Processors, Workers int
	// Child is a program that calls Child; it runs one processor more, and is
	// killed now and then. Empty: none.
	Child string
	// Disturb is how often a processor is replaced or a process killed; 0 is
	// never.
	Disturb time.Duration
	// Session is how long a dead processor keeps its partitions. Default 1 s.
	Session time.Duration
	// Configure, where set, changes processors of this process.
	Configure func(concern.Config) concern.Config
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		of    *int
		value int
	}{{&c.Clients, 10}, {&c.Keys, 3}, {&c.Partitions, 4}, {&c.Processors, 2}, {&c.Workers, 2}} {
		if *d.of == 0 {
			*d.of = d.value
		}
	}
	if c.Session == 0 {
		c.Session = time.Second
	}
	// A transaction of the dead ends soon, so that others can go on.
	c.Stream.TransactionTimeout = 2 * time.Second
	return c
}

// Stats says what went on.
type Stats struct {
	// Kills of processes, and Moves: a processor came and another went.
	Kills, Moves int
	// Engine counts of the processors of this process.
	Engine concern.Stats
}

// grace is how long a run may take beyond its load.
const grace = 45 * time.Second

// Run drives processors for a while and returns what clients saw. At the end,
// when nothing is disturbed any more, every instance is read. The history is
// worth a look also if there is an error.
func Run(ctx context.Context, cfg Config) (h isolation.History, stats Stats, err error) {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.Duration+grace)
	defer cancel()
	s := site{
		Bootstrap: cfg.Stream.Bootstrap, Prefix: cfg.Prefix, Partitions: int32(cfg.Partitions), Workers: cfg.Workers,
		Session: cfg.Session, TransactionTimeout: cfg.Stream.TransactionTimeout,
	}
	if err := s.topics(ctx, cfg.Stream); err != nil {
		return nil, stats, fmt.Errorf("workload: %w", err)
	}
	txns, stop, err := connect(ctx, cfg, s)
	if err != nil {
		return nil, stats, fmt.Errorf("workload: %w", err)
	}
	defer stop()
	cl := &cluster{cfg: cfg, site: s, stats: &stats}
	defer func() { err = errors.Join(err, cl.stop()) }()
	if err := cl.start(); err != nil {
		return nil, stats, fmt.Errorf("workload: %w", err)
	}
	keys, err := newKeys(ctx, txns, cfg.Keys)
	if err != nil {
		return nil, stats, fmt.Errorf("workload: %w", err)
	}

	recorder := isolation.NewRecorder()
	load, end := context.WithTimeout(ctx, cfg.Duration)
	defer end()
	g, base := errgroup.WithContext(ctx)
	for i := range cfg.Clients {
		c := &client{
			id: i, rng: rand.New(rand.NewPCG(cfg.Seed, uint64(i))), //nolint:gosec // to be repeatable
			keys: keys, txns: txns, recorder: recorder,
		}
		g.Go(func() error {
			load, stop := context.WithCancel(load)
			defer stop()
			defer context.AfterFunc(base, stop)()
			return c.run(load, base)
		})
	}
	g.Go(func() error { return cl.disturb(load, rand.New(rand.NewPCG(cfg.Seed, 1<<32))) }) //nolint:gosec // to be repeatable
	if err := g.Wait(); err != nil {
		return recorder.History(), stats, fmt.Errorf("workload: %w", err)
	}
	return recorder.History(), stats, readAll(ctx, cfg, keys, txns, recorder)
}

// readAll reads every instance: the last word.
func readAll(ctx context.Context, cfg Config, keys *keys, txns *txn.Client, recorder *isolation.Recorder) error {
	var g errgroup.Group
	g.SetLimit(8)
	for i, o := range keys.objects() {
		c := &client{id: cfg.Clients + i, keys: keys, txns: txns, recorder: recorder}
		s := isolation.Step{Verb: isolation.ReadList, Object: o}
		if o.Concern == register {
			s.Verb = isolation.ReadRegister
		}
		g.Go(func() error {
			for {
				o, err := c.do(ctx, []isolation.Step{s}, nil)
				if err != nil || o == isolation.OK {
					return err
				}
				if ctx.Err() != nil {
					return fmt.Errorf("workload: %v could not be read at the end: %w", s.Object, ctx.Err())
				}
			}
		})
	}
	return g.Wait()
}

// connect returns a client of transactions, and what ends it.
func connect(ctx context.Context, cfg Config, s site) (*txn.Client, func(), error) {
	producer, err := stream.NewProducer(cfg.Stream)
	if err != nil {
		return nil, nil, err
	}
	client, err := txn.NewClient(txn.ClientConfig{Router: s, Sender: producer, EdgeID: cfg.Seed + 1, DefaultTimeout: patience, Logger: cfg.Stream.Logger})
	if err != nil {
		producer.Close()
		return nil, nil, err
	}
	reader, err := stream.NewReader(cfg.Stream)
	if err != nil {
		producer.Close()
		return nil, nil, err
	}
	follow, cancel := context.WithCancel(context.WithoutCancel(ctx))
	started, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		// A topic that was just made may have no leader yet.
		next, once := int64(0), sync.OnceFunc(func() { close(started) })
		for follow.Err() == nil {
			err := reader.Follow(follow, stream.TopicPartition{Topic: s.responses()}, next, once, func(r stream.Record) {
				next = r.Offset + 1
				if err := client.Deliver(r.Value); err != nil {
					cfg.Stream.Logger.Error("workload", "error", err)
				}
			})
			if err != nil {
				cfg.Stream.Logger.Info("workload: answers; trying again", "error", err)
				pause, stop := context.WithTimeout(follow, 100*time.Millisecond)
				<-pause.Done()
				stop()
			}
		}
	}()
	stop := func() {
		client.Close()
		cancel()
		<-ended
		reader.Close()
		producer.Close()
	}
	select {
	case <-started:
		return client, stop, nil
	case <-ctx.Done():
		stop()
		return nil, nil, ctx.Err()
	}
}
