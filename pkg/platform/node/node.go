package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Node is the part of a platform that one process runs. Run is called once;
// the other methods are safe for concurrent use.
type Node struct {
	cfg    Config
	server *edge.Server // nil without the edge role
	runner lateRunner
	// transactions answers what clients ask about transactions.
	transactions transactions
	// platform answers what operators ask, and does what they want.
	platform platformService
	targets  map[string]*postgres.Target
	configs  *configs
	ready    chan struct{}
	presence *presence
	moves    *moves

	mu         sync.Mutex
	version    uint64
	processors processors
	writers    []*writer
}

// New returns a node. It talks to nobody yet.
func New(cfg Config) (*Node, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "%w", err)
	}
	n := &Node{cfg: cfg, targets: map[string]*postgres.Target{}, configs: newConfigs(), moves: newMoves(), ready: make(chan struct{}), presence: newPresence()}
	for _, t := range cfg.usedTargets() {
		target, err := postgres.Open(postgres.Config{DSN: t.DSN, Mappings: cfg.Application.Mappings(), Logger: cfg.Logger.With("target", t.Name)})
		if err != nil {
			n.closeTargets()
			return nil, txn.Errorf(txn.CodeInvalidArgument, "storage target %s: %w", t.Name, err)
		}
		n.targets[t.Name] = target
	}
	if cfg.Roles.Edge {
		var err error
		if n.server, err = n.newEdge(); err != nil {
			n.closeTargets()
			return nil, err
		}
	}
	return n, nil
}

func (n *Node) closeTargets() {
	for _, t := range n.targets {
		t.Close()
	}
}

// Ready is closed once every role of the node serves.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// HTTPAddr and GRPCAddr return where the edge serves, "" before Ready or
// without that role.
func (n *Node) HTTPAddr() string {
	if n.server == nil {
		return ""
	}
	return n.server.HTTPAddr()
}

// GRPCAddr is described at HTTPAddr.
func (n *Node) GRPCAddr() string {
	if n.server == nil {
		return ""
	}
	return n.server.GRPCAddr()
}

// Run works until ctx ends and then drains: the edge finishes what it has
// accepted, then processors and writers finish their batches. It returns nil
// after a complete drain. An error before Ready is closed says why the node
// could not start: CodeUnavailable while the brokers are away, CodeNotFound if
// the platform was never published, CodeFailedPrecondition if the published
// version does not fit the application.
func (n *Node) Run(ctx context.Context) error {
	defer n.closeTargets()
	start, cancel := context.WithTimeout(ctx, n.cfg.StartTimeout)
	version, err := platform.Current(start, n.cfg.log(), n.cfg.Platform.Names())
	cancel()
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the caller ended it
		}
		return fmt.Errorf("start: %w", err)
	}
	if err := Fits(n.cfg.Application, version.GetConfig()); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := n.checkTargets(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	router := platform.NewRouter(version.GetConfig())
	n.mu.Lock()
	n.version = version.GetVersion()
	n.moves.publish(version)
	n.mu.Unlock()

	// core ends after the edge has drained.
	core, stopCore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCore()
	var parts sync.WaitGroup
	part := func(name string, run func(context.Context) error) {
		parts.Go(func() { supervise(core, n.cfg.Logger, name, run) })
	}
	n.join(router.Names(), newEdgeID())
	g := &gauges{node: n, router: router}
	unobserve, err := g.observe()
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer func() { _ = unobserve() }()
	if n.cfg.MeterProvider != nil && (n.cfg.Roles.Processor || n.cfg.Roles.Storage) {
		part("offsets for metrics", g.follow)
	}
	part("platform watch", func(ctx context.Context) error { return n.watch(ctx, router) })
	part("member", n.presence.member.Run)
	part("acknowledgements", n.acknowledge)
	part("platform topic", n.compact)
	if n.cfg.Roles.Processor {
		part("config Concerns", func(ctx context.Context) error { return n.followConfigs(ctx, router.Names()) })
		part("repartition watch", n.watchRepartitions)
		part("processor", func(ctx context.Context) error { return n.runProcessor(ctx, router) })
	}
	if n.cfg.Roles.Storage {
		n.addWriters(router)
		part("storage retention", func(ctx context.Context) error { return n.keepRetention(ctx, router) })
		for _, w := range n.writers {
			part("storage of "+w.concern+" in "+w.target, w.run)
		}
	}
	var edgeErr error
	if n.cfg.Roles.Edge {
		edgeErr = n.runEdge(ctx, core, router, &parts)
	} else {
		n.becomeReady(ctx)
		<-ctx.Done()
	}
	stopCore()
	parts.Wait()
	return edgeErr
}

// becomeReady waits until the processor of this node serves its share, and says
// so.
func (n *Node) becomeReady(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n.cfg.Roles.Processor && !n.processors.settled() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	if n.server != nil {
		n.server.SetServing(true)
	}
	close(n.ready)
}

// checkTargets compares the tables of every target with the mappings. A
// database that is away is no reason not to start: what is cached can be
// served, and the writers wait for it.
func (n *Node) checkTargets(ctx context.Context) error {
	var faults []error
	for name, t := range n.targets {
		check, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := t.CheckSchema(check)
		cancel()
		switch {
		case err == nil:
		case txn.CodeOf(err) == txn.CodeUnavailable:
			n.cfg.Logger.Warn("a database is away; starting without it", "target", name, "error", err)
		default:
			faults = append(faults, fmt.Errorf("storage target %s: %w", name, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return txn.Errorf(txn.CodeFailedPrecondition, "%w; make the tables with the command \"db migrate\"", err)
	}
	return nil
}

// Fits reports every Concern that only one of application and published platform
// knows.
func Fits(app Application, p *rkcyv1.PlatformConfig) error {
	var faults []error
	known := map[string]bool{}
	for _, c := range app.AllConcerns() {
		known[c.Definition.Name] = true
		if _, err := platform.ConcernOf(p, c.Definition.Name); err != nil {
			faults = append(faults, fmt.Errorf("the published platform has no Concern %q; add it to the platform file and run %s platform update",
				c.Definition.Name, app.Name))
		}
	}
	for _, c := range p.GetConcerns() {
		if !known[c.GetName()] {
			faults = append(faults, fmt.Errorf("the published platform has a Concern %q that %s does not define", c.GetName(), app.Name))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return txn.Errorf(txn.CodeFailedPrecondition, "%w", err)
	}
	return nil
}
