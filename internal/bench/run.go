package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// runner makes one run.
type runner struct {
	o      options
	dir    string
	logger *slog.Logger
	pg     *devpostgres.Server
	result *result
	at     *broker // that takes part, nil for baselines without
}

// measure runs a load and notes what CPU time went into it.
func (r *runner) measure(ctx context.Context, kind, system, workload string, inFlight int, between func(last bool) error, op operation) (cell, error) {
	spent := func() (own, broker time.Duration) {
		if r.at != nil {
			broker = cpuOf(r.at.pid)
		}
		return ownCPU(), broker
	}
	own, broker := spent()
	m, err := load(ctx, inFlight, r.o.Seed, r.o.Warm, r.o.Duration, between, op)
	if err != nil && !errors.Is(err, errNothingDone) {
		return cell{}, fmt.Errorf("%s %s, %d in flight: %w", system, workload, inFlight, err)
	}
	ownAfter, brokerAfter := spent()
	ops := float64(max(m.all, 1))
	return cell{
		Broker: kind, System: system, Workload: workload, InFlight: inFlight, measured: m,
		LoadCPUPer:   float64((ownAfter - own).Microseconds()) / ops,
		BrokerCPUPer: float64((brokerAfter - broker).Microseconds()) / ops,
		LoadAverage:  loadAverage(),
	}, err
}

func run(ctx context.Context, o options) (err error) {
	r := &runner{o: o, dir: o.dataDir, result: newResult(o), logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	r.result.Load[0] = loadAverage()
	if r.dir == "" {
		if r.dir, err = os.MkdirTemp("", "rkcy-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil { //nolint:gosec // the database's user passes through
		return err
	}
	if err := os.Chmod(r.dir, 0o755); err != nil { //nolint:gosec // the same
		return err
	}
	if r.pg, err = startPostgres(ctx, r.dir, r.logger); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.pg.Stop()) }()
	if o.has(wlPgx) {
		if err := r.baselines(ctx); err != nil {
			return fmt.Errorf("pgx: %w", err)
		}
	}
	for _, kind := range o.Brokers {
		if err := r.broker(ctx, kind); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	r.result.Load[1] = loadAverage()
	r.result.judge()
	file, err := r.result.write(o.out)
	if err != nil {
		return err
	}
	if err := r.result.print(os.Stdout); err != nil {
		return err
	}
	fmt.Println("\nwritten to", file)
	return nil
}

// progress says on standard error what is done.
func (r *runner) progress(c cell) {
	r.result.Cells = append(r.result.Cells, c)
	_, _ = fmt.Fprintf(os.Stderr, "%-10s %-17s %-16s %4d in flight  %8.0f/s  p50 %7.2f ms\n", c.Broker, c.System, c.name(), c.InFlight, c.Rate, ms(c.P50))
}

func (r *runner) database(ctx context.Context, name string) (string, error) {
	name = strings.ReplaceAll(name, "-", "_")
	if err := r.pg.CreateDatabase(ctx, name); err != nil {
		return "", err
	}
	return r.pg.DSNFor(name), nil
}

// baselines runs the workloads written by hand on PostgreSQL.
func (r *runner) baselines(ctx context.Context) error {
	dsn, err := r.database(ctx, "baseline")
	if err != nil {
		return err
	}
	b, err := newBaseline(ctx, dsn, r.o.Conns, r.o.Characters)
	if err != nil {
		return err
	}
	defer b.pool.Close()
	cell := func(system, workload string, inFlight int, op operation) error {
		var retries atomic.Int64
		from, to := int64(0), int64(0)
		b.retries = func() { retries.Add(1) }
		c, err := r.measure(ctx, brokerNone, system, workload, inFlight, func(last bool) error {
			*choose(last, &to, &from) = retries.Load()
			return nil
		}, op)
		// SERIALIZABLE on hot rows may come to that: all callers make each other
		// start again.
		if err != nil && !errors.Is(err, errNothingDone) {
			return err
		}
		c.Retries = float64(to-from) / float64(max(c.Ops, 1))
		r.progress(c)
		return nil
	}
	n := r.o.Characters
	for _, inFlight := range r.o.InFlight {
		for _, one := range []struct {
			workload, system string
			op               operation
		}{
			{wlTrade, sysSerializable, b.tradeSerializable(n)}, {wlTrade, sysRowLocked, b.tradeRowLocked(n)}, {wlTrade, sysTuned, b.tradeTuned(n)},
			{wlFund, sysSerializable, b.fundTransaction(n)}, {wlFund, sysStatement, b.fundStatement(n)}, {wlRead, sysStatement, b.read(n)},
		} {
			if r.o.has(one.workload) {
				if err := cell(one.system, one.workload, inFlight, one.op); err != nil {
					return err
				}
			}
		}
	}
	if r.o.has(wlHot) {
		if err := errors.Join(
			cell(sysSerializable, wlHot, hotInFlight, b.tradeSerializable(hotCharacters)),
			cell(sysRowLocked, wlHot, hotInFlight, b.tradeRowLocked(hotCharacters)),
			cell(sysTuned, wlHot, hotInFlight, b.tradeTuned(hotCharacters)),
		); err != nil {
			return err
		}
	}
	return b.checkSums(ctx, n)
}

// broker runs everything that needs a broker of a kind.
func (r *runner) broker(ctx context.Context, kind string) (err error) {
	if r.at, err = startBroker(ctx, kind, r.dir, r.logger); err != nil {
		return err
	}
	bootstrap := r.at.bootstrap
	defer func() { err = errors.Join(err, r.at.stop()) }()
	if r.o.has(wlFloor) || kind == brokerKafka {
		if err := r.floor(ctx, kind, bootstrap); err != nil {
			return fmt.Errorf("floor: %w", err)
		}
	}
	parts := []struct {
		name      string
		workloads []string
		run       func(ctx context.Context, kind, bootstrap string) error
	}{
		{"game", []string{wlTrade, wlHot, wlFund, wlRead, wlGRPC, wlSaga, wlSteps}, r.game},
		{"partitions", []string{wlPartitions}, r.partitions},
		{"instances", []string{wlInstances}, r.instances},
		{"database", []string{wlDatabase}, r.failing},
		{"storage", []string{wlStorage}, r.storage},
		{"takeover", []string{wlTakeover}, r.takeover},
	}
	for _, part := range parts {
		// What shows how work grows is measured once, on the first broker.
		once := slices.Contains([]string{wlPartitions, wlInstances, wlDatabase}, part.workloads[0])
		if !slices.ContainsFunc(part.workloads, r.o.has) || once && kind != r.o.Brokers[0] {
			continue
		}
		if err := part.run(ctx, kind, bootstrap); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// floor warms the broker up, and measures the floor if that is wanted.
func (r *runner) floor(ctx context.Context, kind, bootstrap string) (err error) {
	f, err := newFloor(ctx, bootstrap, r.o.Partitions, r.o.Workers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	// In its first minute a Java broker is busy compiling itself: on two cores
	// it takes a whole one for that, whatever the load.
	warm := r.o.Warm
	if kind == brokerKafka {
		warm = r.o.BrokerWarm
	}
	if _, err := load(ctx, 64, r.o.Seed, 0, warm, nil, f.op); err != nil {
		return err
	}
	if !r.o.has(wlFloor) {
		return nil
	}
	for _, inFlight := range r.o.InFlight {
		c, err := r.measure(ctx, kind, sysFloor, wlTrade, inFlight, nil, f.op)
		if err != nil {
			return err
		}
		r.progress(c)
	}
	return nil
}

func (r *runner) nodeConfig(ctx context.Context, environment, kind, bootstrap string, roles node.Roles) (nodeConfig, error) {
	return r.nodeConfigOf(ctx, environment, kind, bootstrap, r.o.Partitions, roles)
}

func (r *runner) nodeConfigOf(ctx context.Context, environment, kind, bootstrap string, partitions int, roles node.Roles) (nodeConfig, error) {
	dsn, err := r.database(ctx, environment+"-"+kind)
	cfg := nodeConfig{
		Bootstrap: bootstrap, DSN: dsn, Environment: environment, Partitions: partitions, Workers: r.o.Workers,
		CacheBytes: r.o.CacheBytes, Roles: roles, Settings: r.o.Kafka,
	}
	if err == nil {
		err = cfg.prepare(ctx, r.logger)
	}
	return cfg, err
}

// with starts a node and a client of it, for f.
func (r *runner) with(ctx context.Context, cfg nodeConfig, kind string, f func(g *gameRun) error) (err error) {
	g := &gameRun{runner: r, kind: kind}
	if g.node, err = startChild("node", cfg, &g.ready); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.node.stop()) }()
	if g.client, err = newClient(ctx, cfg, r.logger); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.client.close()) }()
	if g.lag, err = newStorageLag(cfg); err != nil {
		return err
	}
	defer g.lag.admin.Close()
	return f(g)
}

// game runs the workloads of the example on a node with all roles.
func (r *runner) game(ctx context.Context, kind, bootstrap string) error {
	cfg, err := r.nodeConfig(ctx, "game", kind, bootstrap, node.AllRoles())
	if err != nil {
		return err
	}
	return r.with(ctx, cfg, kind, func(g *gameRun) error { return g.play(ctx) })
}

func (g *gameRun) play(ctx context.Context) (err error) {
	r, c := g.runner, g.client
	if err := createCharacters(ctx, c, r.o.Characters); err != nil {
		return err
	}
	n := r.o.Characters
	for _, inFlight := range r.o.InFlight {
		for _, one := range []struct {
			workload string
			op       operation
		}{{wlTrade, tradeOp(c, n)}, {wlFund, fundOp(c, n)}, {wlRead, readOp(c, n)}} {
			if r.o.has(one.workload) {
				if err := g.cell(ctx, sysRocketcycle, one.workload, inFlight, one.op); err != nil {
					return err
				}
			}
		}
	}
	if r.o.has(wlHot) {
		if err := g.cell(ctx, sysRocketcycle, wlHot, hotInFlight, tradeOp(c, hotCharacters)); err != nil {
			return err
		}
	}
	if r.o.has(wlSaga) {
		if err := g.cell(ctx, sysRocketcycle, wlSaga, hotInFlight, tradeOpIn(c, hotCharacters, rpgv1.TradeMode_TRADE_MODE_SAGA)); err != nil {
			return err
		}
	}
	if r.o.has(wlSteps) {
		if err := g.steps(ctx); err != nil {
			return err
		}
	}
	if r.o.has(wlGRPC) {
		remote, err := dial(g.ready.GRPC)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, remote.conn.Close()) }()
		if err := g.cell(ctx, sysGRPC, wlTrade, hotInFlight, tradeOp(remote, n)); err != nil {
			return err
		}
	}
	return checkSums(ctx, c, n)
}

// gameRun measures cells on one node.
type gameRun struct {
	*runner
	kind   string
	node   *child
	ready  nodeReady
	client *client
	lag    *storageLag
	size   int // of the cell of a scaling workload
}

type snapshot struct {
	usage
	attempts, txns uint64
}

func (g *gameRun) cell(ctx context.Context, system, workload string, inFlight int, op operation) error {
	name := fmt.Sprintf("%s-%s-%d", g.kind, strings.ReplaceAll(system, " ", "-")+"-"+workload, inFlight)
	if g.size > 0 {
		name += fmt.Sprintf("-of-%d", g.size)
	}
	var at [2]snapshot
	between := func(last bool) error {
		if err := g.profile(name, last); err != nil {
			return err
		}
		u, err := g.node.usage()
		at[choose(last, 1, 0)] = snapshot{usage: u, attempts: g.client.attempts.Load(), txns: g.client.txns.Load()}
		return err
	}
	c, err := g.measure(ctx, g.kind, system, workload, inFlight, between, op)
	if err != nil {
		return err
	}
	began := time.Now()
	behind, err := g.lag.drain(ctx)
	if err != nil {
		return err
	}
	c.Size = g.size
	c.Node = newNodeCell(at[0], at[1], c.measured)
	c.Node.StorageLag, c.Node.DrainSeconds = behind, time.Since(began).Seconds()
	g.progress(c)
	return nil
}

// profile writes what was asked for.
func (g *gameRun) profile(name string, last bool) error {
	if g.o.memProfile != "" {
		if err := g.profileTo(opMemory, g.o.memProfile, name+choose(last, ".after", ".before")+".pprof"); err != nil {
			return err
		}
	}
	switch {
	case g.o.cpuProfile == "":
		return nil
	case last:
		_, err := g.node.ask(request{Op: opCPUStop})
		return err
	default:
		return g.profileTo(opCPUStart, g.o.cpuProfile, name+".pprof")
	}
}

func (g *gameRun) profileTo(op, dir, file string) error {
	path, err := filepath.Abs(filepath.Join(dir, file))
	if err != nil {
		return err
	}
	_, err = g.node.ask(request{Op: op, File: path})
	return err
}

func newNodeCell(from, to snapshot, m measured) *nodeCell {
	ops := float64(m.Ops)
	per := func(a, b uint64) float64 { return float64(b-a) / ops }
	p, q := from.Processor, to.Processor
	n := &nodeCell{
		KafkaPerSecond: float64(q.KafkaTransactions-p.KafkaTransactions) / m.Seconds,
		AllocPer:       per(from.AllocBytes, to.AllocBytes),
		ObjectsPer:     per(from.AllocObjects, to.AllocObjects),
		CPUPer:         float64(to.CPU-from.CPU) / float64(time.Microsecond) / ops,
		RSS:            to.RSSBytes,
		DeathsPer:      per(p.Stats.Deaths, q.Stats.Deaths),
		HopsPer:        per(p.Stats.Hops, q.Stats.Hops),
		LoadedPer:      per(p.Stats.Loaded, q.Stats.Loaded),
		Aborted:        q.Aborted - p.Aborted,
	}
	if batches := q.KafkaTransactions - p.KafkaTransactions; batches > 0 {
		n.RecordsPer = float64(q.Records-p.Records) / float64(batches)
	}
	n.Attempts = 1 + n.DeathsPer
	if txns := to.txns - from.txns; txns > 0 {
		n.Attempts = float64(to.attempts-from.attempts) / float64(txns)
	}
	return n
}

// storageLag tells how far the storage worker of the characters is behind.
type storageLag struct {
	admin   *stream.Admin
	group   string
	storage []stream.TopicPartition
}

func newStorageLag(cfg nodeConfig) (*storageLag, error) {
	p := cfg.platform()
	names := p.Names()
	admin, err := stream.NewAdmin(node.Stream(p, "bench", nil))
	if err != nil {
		return nil, err
	}
	l := &storageLag{admin: admin, group: names.StorageGroup(concernName, targetName)}
	for i := range cfg.Partitions {
		l.storage = append(l.storage, stream.TopicPartition{Topic: names.StorageTopic(concernName), Partition: int32(i)}) //nolint:gosec // few
	}
	return l, nil
}

func (l *storageLag) now(ctx context.Context) (int64, error) {
	done, err := l.admin.GroupOffsets(ctx, l.group, l.storage)
	if err != nil {
		return 0, err
	}
	ends, err := l.admin.EndOffsets(ctx, l.storage)
	if err != nil {
		return 0, err
	}
	var behind int64
	for tp, end := range ends {
		// The last record is followed by the marker of its Kafka transaction.
		behind += max(end-max(done[tp], 0)-1, 0)
	}
	return behind, nil
}

// drain waits until the worker has written everything, and returns how far it
// was behind.
func (l *storageLag) drain(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	first := int64(-1)
	for {
		behind, err := l.now(ctx)
		if err != nil {
			return 0, err
		}
		if first < 0 {
			first = behind
		}
		if behind == 0 {
			return first, nil
		}
		sleep(ctx, 10*time.Millisecond)
		if ctx.Err() != nil {
			return 0, fmt.Errorf("the storage worker is %d offsets behind and does not come nearer: %w", behind, ctx.Err())
		}
	}
}

// rnd returns a source that differs by use and is the same in every run.
func (r *runner) rnd(use uint64) *rand.Rand {
	return rand.New(rand.NewPCG(r.o.Seed, use)) //nolint:gosec // repeatable on purpose
}
