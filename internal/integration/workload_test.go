package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/internal/audit"
	"github.com/rocketcycle/rocketcycle/internal/isolation"
)

const (
	// purse is what each character starts with, of gold and of faction_0.
	purse = 1000
	// inFlight is how many trades are under way at a time.
	inFlight = 64
)

// trade is one exchange. No two trades of a workload are the same, so that each
// can be recognized in the change feed.
type trade struct {
	lhs, rhs      string
	gold, faction int64
}

func (t trade) request() *rpgv1.TradeRequest {
	return &rpgv1.TradeRequest{
		Lhs: &rpgv1.TradeSide{CharacterId: t.lhs, Currency: &rpgv1.Currency{Gold: t.gold}},
		Rhs: &rpgv1.TradeSide{CharacterId: t.rhs, Currency: &rpgv1.Currency{Faction_0: t.faction}},
	}
}

// outcome is what the client knows of a trade.
type outcome int

const (
	notTried outcome = iota
	ok               // acknowledged
	failed           // refused: it must have had no effect
	unknown          // may or may not have happened
)

type op struct {
	trade
	outcome outcome
	answer  *rpgv1.TradeResponse
	err     error
}

// workload is a number of random trades among characters. The client repeats
// nothing.
type workload struct {
	t     testing.TB
	ids   []string
	ops   []op
	edges edges
	done  atomic.Int64 // ops that have ended
}

// newWorkload creates the characters and draws the trades.
func newWorkload(t testing.TB, c rpgv1.RpgServiceClient, characters, trades int) *workload {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := &workload{t: t, edges: newEdges()}
	const perPlayer = 5
	var group errgroup.Group
	group.SetLimit(inFlight)
	for i := range (characters + perPlayer - 1) / perPlayer {
		group.Go(func() error {
			_, err := c.CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{
				Id: fmt.Sprintf("trader%d", i), Username: fmt.Sprintf("trader%d", i),
			}})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range characters {
		id := fmt.Sprintf("c%03d", i)
		w.ids = append(w.ids, id)
		group.Go(func() error {
			_, err := c.CreateCharacter(t.Context(), &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{
				Id: id, PlayerId: fmt.Sprintf("trader%d", i/perPlayer), Fullname: id, Currency: &rpgv1.Currency{Gold: purse, Faction_0: purse},
			}})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	drawn := map[trade]bool{}
	for len(w.ops) < trades {
		a, b := random.IntN(characters), random.IntN(characters)
		// The square makes balances run low, so that some trades are refused.
		next := trade{w.ids[a], w.ids[b], random.Int64N(21) * random.Int64N(21), random.Int64N(21) * random.Int64N(21)}
		if a == b || next.gold+next.faction == 0 || drawn[next] {
			continue
		}
		drawn[next] = true
		w.ops = append(w.ops, op{trade: next})
	}
	return w
}

// run sends the trades from index from to index to, inFlight at a time, to
// whatever edge is there; while there is none it waits.
func (w *workload) run(from, to int) error {
	var group errgroup.Group
	next := atomic.Int64{}
	next.Store(int64(from))
	for range inFlight {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= to {
					return nil
				}
				if err := w.one(i); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

func (w *workload) one(i int) error {
	c, err := w.edges.pick(w.t.Context(), i)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	o := &w.ops[i]
	o.answer, o.err = c.Trade(ctx, o.request())
	o.outcome, err = classify(o.err)
	w.done.Add(1)
	if err != nil {
		return fmt.Errorf("trade %d: %w", i, err)
	}
	if o.outcome == unknown {
		w.edges.remove(c) // until somebody says that it is back
	}
	return nil
}

// classify tells what an answer means. An error says that it may not come at
// all.
func classify(err error) (outcome, error) {
	o, err := audit.Outcome(err)
	return map[isolation.Outcome]outcome{isolation.OK: ok, isolation.Failed: failed, isolation.Unknown: unknown}[o], err
}

// after returns when n trades have ended.
func (w *workload) after(n int) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%d trades end", n), func() error {
		if got := w.done.Load(); got < int64(n) {
			return fmt.Errorf("%d have", got)
		}
		return nil
	})
}

// edges are the clients that can be used at a time.
type edges struct {
	mu      *sync.Mutex
	clients []rpgv1.RpgServiceClient
	changed chan struct{}
}

func newEdges() edges { return edges{mu: &sync.Mutex{}, changed: make(chan struct{})} }

func (e *edges) add(c rpgv1.RpgServiceClient) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.clients = append(e.clients, c)
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *edges) remove(c rpgv1.RpgServiceClient) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var keep []rpgv1.RpgServiceClient
	for _, o := range e.clients {
		if o != c {
			keep = append(keep, o)
		}
	}
	e.clients = keep
}

// pick returns the i-th client, and waits while there is none.
func (e *edges) pick(ctx context.Context, i int) (rpgv1.RpgServiceClient, error) {
	end := time.After(patience)
	for {
		e.mu.Lock()
		changed := e.changed
		if n := len(e.clients); n > 0 {
			c := e.clients[i%n]
			e.mu.Unlock()
			return c, nil
		}
		e.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-end:
			return nil, errors.New("no edge came back")
		}
	}
}
