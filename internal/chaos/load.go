package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rocketcycle/rocketcycle/internal/audit"
	"github.com/rocketcycle/rocketcycle/internal/isolation"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

const (
	// perConcern is how many instances a Concern has, and clients how many
	// operations are under way at a time.
	perConcern = 6
	clients    = 16
	// opTimeout is the deadline of an operation.
	opTimeout = 8 * time.Second
	// pace is the pause of a client between two operations, and rest that after
	// one of unknown outcome.
	pace = 20 * time.Millisecond
	rest = 150 * time.Millisecond
)

// operation is what the client did and knows.
type operation struct {
	number  int64
	steps   []step
	outcome isolation.Outcome
	err     error
	began   time.Time
	ended   time.Time
}

// writes returns what the operation adds, by instance.
func (o *operation) writes() map[isolation.Object]string {
	out := map[isolation.Object]string{}
	for _, s := range o.steps {
		if s.Command == commandEnter {
			out[isolation.Object{Concern: s.Concern, Key: s.Key}] = s.Entry
		}
	}
	return out
}

// load is the workload and what its clients wrote down.
type load struct {
	t        testing.TB
	seed     uint64
	recorder *isolation.Recorder
	number   atomic.Int64
	ok       atomic.Int64

	mu    sync.Mutex
	ops   []*operation
	edges []*grpc.ClientConn
	fault error

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newLoad(t testing.TB, seed uint64, edges ...*process) *load {
	t.Helper()
	l := &load{t: t, seed: seed, recorder: isolation.NewRecorder()}
	for _, e := range edges {
		l.edges = append(l.edges, e.connect())
	}
	return l
}

// replace makes clients use another edge in place of the i-th.
func (l *load) replace(i int, e *process) {
	c := e.connect()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.edges[i] = c
}

func (l *load) edge(rng *rand.Rand) *grpc.ClientConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.edges[rng.IntN(len(l.edges))]
}

func key(i int) string { return fmt.Sprintf("k%d", i) }

func objects() (out []isolation.Object) {
	for _, c := range concerns {
		for i := range perConcern {
			out = append(out, isolation.Object{Concern: c, Key: key(i)})
		}
	}
	return out
}

func firstEntry(concern string) string {
	if concern == left || concern == right {
		return entry{0, purse}.String()
	}
	return entry{0, 0}.String()
}

// create brings every instance about.
func (l *load) create() {
	l.t.Helper()
	c := l.edge(rand.New(rand.NewPCG(l.seed, 1))) //nolint:gosec // to be repeatable
	for _, o := range objects() {
		eventually(l.t, "create "+o.String(), func() error {
			_, err := call(l.t.Context(), c, []step{{Concern: o.Concern, Key: o.Key, Command: txn.CommandCreate, Entry: firstEntry(o.Concern)}})
			if status.Code(err) == codes.AlreadyExists {
				return nil
			}
			return err
		})
	}
}

// call runs a request.
func call(ctx context.Context, c *grpc.ClientConn, steps []step) ([][]string, error) {
	in, err := json.Marshal(steps)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	out := &wrapperspb.BytesValue{}
	if err := c.Invoke(ctx, method, wrapperspb.Bytes(in), out); err != nil {
		return nil, err
	}
	var answer [][]string
	return answer, json.Unmarshal(out.GetValue(), &answer)
}

// start lets the clients work until stop.
func (l *load) start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	for i := range clients {
		l.wg.Go(func() {
			rng := rand.New(rand.NewPCG(l.seed, uint64(i+2))) //nolint:gosec // to be repeatable
			for ctx.Err() == nil {
				o, err := l.do(i, l.edge(rng), l.choose(rng))
				if err != nil {
					l.mu.Lock()
					l.fault = errors.Join(l.fault, err)
					l.mu.Unlock()
					return
				}
				pause := pace
				if o.outcome == isolation.Unknown {
					pause = rest
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	l.t.Cleanup(func() { cancel(); l.wg.Wait() })
}

// stop ends the clients and returns when the last answer is there.
func (l *load) stop() {
	l.t.Helper()
	l.cancel()
	l.wg.Wait()
	if l.fault != nil {
		l.t.Error(l.fault)
	}
}

// choose makes up the steps of an operation; number is given later.
func (l *load) choose(rng *rand.Rand) []step {
	enter := func(concern string, amount int64) step {
		return step{Concern: concern, Key: key(min(rng.IntN(perConcern), rng.IntN(perConcern))), Command: commandEnter, Entry: fmt.Sprint(amount)}
	}
	look := func() step {
		return step{Concern: concerns[rng.IntN(len(concerns))], Key: key(rng.IntN(perConcern)), Command: commandLook}
	}
	switch rng.IntN(10) {
	case 0, 1, 2, 3: // the square makes some accounts run low
		amount := 1 + rng.Int64N(20)*rng.Int64N(20)
		if rng.IntN(2) == 0 {
			amount = -amount
		}
		return []step{enter(left, -amount), enter(right, amount)}
	case 4, 5:
		steps := []step{enter(list, 0)}
		if rng.IntN(2) == 0 {
			steps = append([]step{{Concern: list, Key: steps[0].Key, Command: commandLook}}, steps...)
		}
		return steps
	case 6, 7:
		return []step{enter(counter, 1)}
	case 8:
		return []step{look()}
	default:
		steps := []step{look(), look()}
		if rng.IntN(2) == 0 {
			steps = append(steps, enter(counter, 1))
		}
		return steps
	}
}

// do runs one operation and writes it down. An error means that the answer
// makes no sense.
func (l *load) do(client int, c *grpc.ClientConn, steps []step) (*operation, error) {
	o := l.begin(steps)
	pending := l.recorder.Begin(client, recorded(o)...)
	answer, err := call(context.Background(), c, o.steps)
	return o, l.finish(o, pending, answer, err)
}

// begin gives an operation its number.
func (l *load) begin(steps []step) *operation {
	o := &operation{number: l.number.Add(1), steps: steps, outcome: isolation.Unknown, began: time.Now()}
	for i, s := range o.steps {
		if s.Command == commandEnter {
			o.steps[i].Entry = fmt.Sprintf("%d:%s", o.number, s.Entry)
		}
	}
	l.mu.Lock()
	l.ops = append(l.ops, o)
	l.mu.Unlock()
	return o
}

func (l *load) finish(o *operation, pending *isolation.Pending, answer [][]string, err error) error {
	outcome, strange := audit.Outcome(err)
	var seen [][]int64
	for i, s := range o.steps {
		if outcome != isolation.OK || s.Command != commandLook {
			continue
		}
		list, _, err := entries(&instance{Paths: answer[i]})
		if err != nil {
			return err
		}
		numbers := []int64{}
		for _, e := range list {
			if e.op != 0 { // with which it was created
				numbers = append(numbers, e.op)
			}
		}
		seen = append(seen, numbers)
	}
	pending.End(outcome, seen...)
	l.mu.Lock()
	o.outcome, o.err, o.ended = outcome, err, time.Now()
	l.mu.Unlock()
	if outcome == isolation.OK {
		l.ok.Add(1)
	}
	if strange != nil {
		return fmt.Errorf("operation %d: %w", o.number, strange)
	}
	return nil
}

// recorded is the operation as package isolation knows it.
func recorded(o *operation) (out []isolation.Step) {
	for _, s := range o.steps {
		r := isolation.Step{Verb: isolation.ReadList, Object: isolation.Object{Concern: s.Concern, Key: s.Key}}
		if s.Command == commandEnter {
			r.Verb, r.Value = isolation.Append, o.number
		}
		out = append(out, r)
	}
	return out
}

// succeed waits until n more operations are acknowledged, and returns how long
// the first of them took.
func (l *load) succeed(n int) time.Duration {
	l.t.Helper()
	began := time.Now()
	at := l.ok.Load()
	var first time.Duration
	eventually(l.t, fmt.Sprintf("%d more operations succeed", n), func() error {
		l.mu.Lock()
		fault := l.fault
		l.mu.Unlock()
		if fault != nil {
			l.t.Fatal(fault)
		}
		got := l.ok.Load() - at
		if got > 0 && first == 0 {
			first = time.Since(began)
		}
		if got < int64(n) {
			return fmt.Errorf("%d have", got)
		}
		return nil
	})
	return first
}
