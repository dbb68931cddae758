package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

const (
	// failingInFlight is how many callers each system has while the database
	// fails, slowDelay what is added to each statement.
	failingInFlight = 8
	slowDelay       = 100 * time.Millisecond
	// attemptTimeout bounds a trade. By hand, one hangs while there is no database.
	attemptTimeout = 10 * time.Second
)

// phaseCell is how trades fared on one system in one phase.
type phaseCell struct {
	Broker string        `json:"broker"`
	System string        `json:"system"`
	Phase  string        `json:"phase"`
	Ops    int           `json:"ops"`
	Failed int           `json:"failed"`
	P50    time.Duration `json:"p50_ns"`
	P99    time.Duration `json:"p99_ns"`
}

// timed is one operation: when it ended, how long it took, whether it did what it
// was asked.
type timed struct {
	at, took time.Duration
	failed   bool
}

// Phases of the workload, in order. In the first the load warms up.
func phases() []string { return []string{"healthy", "slow", "down", "healthy again"} }

// failing measures trades on the platform, and written by hand, while the
// database that both use becomes slow, goes away, and comes back.
func (r *runner) failing(ctx context.Context, kind, bootstrap string) (err error) {
	cfg, err := r.nodeConfig(ctx, wlDatabase, kind, bootstrap, node.AllRoles())
	if err != nil {
		return err
	}
	byHand, err := r.database(ctx, "byhand-"+kind)
	if err != nil {
		return err
	}
	dsn, err := url.Parse(cfg.DSN)
	if err != nil {
		return fmt.Errorf("the database's address is no URL: %w", err)
	}
	proxy, err := newPgProxy(dsn.Host)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proxy.close()) }()
	through := func(address string) string {
		u, _ := url.Parse(address) // as above
		u.Host = proxy.addr()
		return u.String()
	}
	cfg.DSN = through(cfg.DSN)
	b, err := newBaseline(ctx, through(byHand), failingInFlight, r.o.Characters)
	if err != nil {
		return err
	}
	defer b.pool.Close()
	return r.with(ctx, cfg, kind, func(g *gameRun) error {
		n := r.o.Characters
		if err := createCharacters(ctx, g.client, n); err != nil {
			return err
		}
		ours, theirs, bounds := r.failingLoad(ctx, proxy, tradeOp(g.client, n), b.tradeRowLocked(n))
		r.phaseCells(kind, sysRocketcycle, ours, bounds)
		r.phaseCells(kind, sysRowLocked, theirs, bounds)
		if _, err := g.lag.drain(ctx); err != nil {
			return err
		}
		if err := errors.Join(checkSums(ctx, g.client, n), b.checkSums(ctx, n)); err != nil {
			return err
		}
		return os.WriteFile(r.o.plot, databasePlot(ours, theirs, bounds), 0o600)
	})
}

// failingLoad runs both loads through the phases, and returns what they saw and
// when each phase ended.
func (r *runner) failingLoad(ctx context.Context, proxy *pgProxy, ours, theirs operation) (a, b []timed, bounds []time.Duration) {
	began := time.Now()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	start := func(op operation, into *[]timed) {
		var once sync.Once // per system
		for caller := range failingInFlight {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(r.o.Seed, uint64(caller))) //nolint:gosec // repeatable on purpose
				var mine []timed
				for done := false; !done; {
					t := time.Now()
					opCtx, cancel := context.WithTimeout(ctx, attemptTimeout)
					err := op(opCtx, caller, rnd)
					cancel()
					mine = append(mine, timed{at: time.Since(began), took: time.Since(t), failed: err != nil})
					if err != nil {
						once.Do(func() { r.logger.Warn("a trade failed", "after", time.Since(began), "error", err) })
						sleep(ctx, 20*time.Millisecond)
					}
					select {
					case <-stop:
						done = true
					default:
						done = ctx.Err() != nil
					}
				}
				mu.Lock()
				defer mu.Unlock()
				*into = append(*into, mine...)
			})
		}
	}
	start(ours, &a)
	start(theirs, &b)
	for i := range phases() {
		switch i {
		case 1:
			proxy.slow(slowDelay)
		case 2:
			proxy.slow(0)
			proxy.cut(true)
		case 3:
			proxy.cut(false)
		}
		sleep(ctx, r.o.Phase)
		bounds = append(bounds, time.Since(began))
	}
	close(stop)
	wg.Wait()
	return a, b, bounds
}

func (r *runner) phaseCells(kind, system string, samples []timed, bounds []time.Duration) {
	from := time.Duration(0)
	for i, to := range bounds {
		c := phaseCell{Broker: kind, System: system, Phase: phases()[i]}
		var took []time.Duration
		for _, s := range samples {
			switch {
			case s.at < from || s.at >= to:
			case s.failed:
				c.Failed++
			default:
				took = append(took, s.took)
			}
		}
		slices.Sort(took)
		if c.Ops = len(took); c.Ops > 0 {
			c.P50, c.P99 = took[len(took)/2], took[len(took)*99/100]
		}
		r.result.Database = append(r.result.Database, c)
		_, _ = fmt.Fprintf(os.Stderr, "%-10s %-17s %-16s %6d trades, p50 %.1f ms, p99 %.1f ms, %d failed\n",
			kind, system, "database "+c.Phase, c.Ops, ms(c.P50), ms(c.P99), c.Failed)
		from = to
	}
}
