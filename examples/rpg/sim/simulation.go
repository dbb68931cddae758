package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
)

// simulation is one run.
type simulation struct {
	cfg    Config
	mix    mix
	conn   *grpc.ClientConn
	client rpgv1.RpgServiceClient
	model  *model

	next, done atomic.Int64
	mu         sync.Mutex
	open       time.Time // until then what is unknown may take effect
}

// Run sends the requests and checks what came of them. When ctx ends, no more
// is sent, and what was sent is checked. An error knows the exit code of the
// program; with it there is a result only if a database could not be reached,
// and the others were compared.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &edgecmd.ExitError{Code: edgecmd.ExitUsage, Err: err}
	}
	s := &simulation{cfg: cfg, model: people(cfg.Characters)}
	s.mix, _ = mixNamed(cfg.Mix)
	databases, closeAll, err := openAll(cfg)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	s.conn, err = grpc.NewClient(cfg.Edge, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("rpg-sim"))
	if err != nil {
		return nil, &edgecmd.ExitError{Code: edgecmd.ExitUsage, Err: fmt.Errorf("edge %q: %w", cfg.Edge, err)}
	}
	defer func() { _ = s.conn.Close() }()
	s.client = rpgv1.NewRpgServiceClient(s.conn)
	if err := s.createAll(ctx); err != nil {
		return nil, err
	}
	r := &Result{Mix: cfg.Mix, Seed: cfg.Seed, Runners: cfg.Runners, Characters: cfg.Characters, Databases: []string{}, named: len(databases)}
	there := s.load(ctx, r)
	if !there {
		return nil, &edgecmd.ExitError{Code: edgecmd.ExitUnavailable, Err: fmt.Errorf(
			"the edge at %s was away for %v; %d requests were ok before, of which nothing was checked", cfg.Edge, cfg.Wait, r.OK)}
	}
	// From here on an interrupt is no reason to stop: it is bounded anyway.
	ctx = context.WithoutCancel(ctx)
	s.wait()
	cache, err := s.readAll(ctx)
	if err != nil {
		return nil, err
	}
	return r, s.compare(ctx, r, cache, databases)
}

// load sends all requests.
func (s *simulation) load(ctx context.Context, r *Result) (there bool) {
	runners := make([]*runner, s.cfg.Runners)
	var wg sync.WaitGroup
	var away atomic.Bool
	start := time.Now()
	for i := range runners {
		runners[i] = &runner{simulation: s}
		wg.Go(func() {
			if !runners[i].run(ctx) {
				away.Store(true)
			}
		})
	}
	wg.Wait()
	var sum tally
	for _, one := range runners {
		sum.merge(one.tally)
	}
	r.count(sum, time.Since(start))
	return !away.Load()
}

// note remembers how long an operation of unknown outcome may take effect.
func (s *simulation) note(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until.After(s.open) {
		s.open = until
	}
}

// missing says that an answer speaks of something that does not exist. All
// that is asked for does.
func missing(err error) bool { return status.Code(err) == codes.NotFound }

// wait lets what is unknown come to its end. Processors refuse it after its
// deadline; a batch that was under way then may take a moment more.
func (s *simulation) wait() {
	if until := time.Until(s.open); until > -time.Second {
		<-time.After(until + 2*time.Second)
	}
}

// compare holds what the processors and the databases have against the model.
func (s *simulation) compare(ctx context.Context, r *Result, cache state, databases []*database) error {
	r.UnknownApplied = s.model.resolve(cache.characters)
	want := s.model.state()
	var faults []error
	views := []view{{name: "cache", state: cache}}
	for _, d := range databases {
		have, err := d.caughtUp(ctx, want, s.cfg.Wait)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		r.Databases = append(r.Databases, d.name)
		views = append(views, view{name: "database " + d.name, state: have})
	}
	s.model.mu.Lock()
	r.Differences = append(r.Differences, s.model.faults...)
	if s.model.more > 0 {
		r.Differences = append(r.Differences, fmt.Sprintf("and %d more of these", s.model.more))
	}
	s.model.mu.Unlock()
	r.Differences = append(r.Differences, differences(want, views)...)
	if err := errors.Join(faults...); err != nil {
		return &edgecmd.ExitError{Code: edgecmd.ExitUnavailable, Err: err}
	}
	return nil
}
