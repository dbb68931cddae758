package concern

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// check verifies the history: every transaction ended exactly once; nothing is
// held or parked any more, in memory or in the log; what is committed can be
// put in one order that respects who saw whose writes and real time; run again
// in that order, one after another, on a plain map, the transactions return
// what clients have got and leave what the database has.
func (s *sim) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, x := range s.order {
		if x.answers != 1 && (x.answers == 0 || !x.lone()) {
			fault("%v has %d answers", x.id, x.answers)
		} else if x.response.GetError() == nil && (x.ran("Refuse") || x.ran("Panic")) {
			fault("%v committed although a handler refused", x.id)
		}
	}
	if len(faults) == 0 {
		faults = append(append(faults, s.checkKeys()...), s.checkSagas()...)
	}
	for _, again := range []bool{false, true} {
		for _, w := range s.workers {
			if again {
				s.restore(w)
			}
			for _, p := range w.engine.order {
				if len(p.slots) > 0 || len(p.holds) > 0 || len(p.state.live) > 0 {
					fault("%v: %d slots, %d holds, %d live state records are left (restored: %v)", p.tp, len(p.slots), len(p.holds), len(p.state.live), again)
				}
			}
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	order, err := s.serialize()
	if err != nil {
		return err
	}
	return s.replay(order)
}

// serialize puts the committed transactions in an order that respects writes,
// reads and real time, or says that there is none.
func (s *sim) serialize() ([]*simTxn, error) {
	before := map[*simTxn]map[*simTxn]bool{} // what must come before a transaction
	edge := func(a, b *simTxn) {
		if a == nil || b == nil || a == b {
			return
		}
		before[b][a] = true
	}
	var done []*simTxn
	for _, x := range s.order {
		if x.response.GetError() == nil && !x.saga && x.response.GetOriginalTxnId() == nil {
			done = append(done, x)
			before[x] = map[*simTxn]bool{}
		}
		for i, p := range x.parts {
			done = append(done, &p.simTxn)
			before[&p.simTxn] = map[*simTxn]bool{}
			if i > 0 {
				edge(&x.parts[i-1].simTxn, &p.simTxn)
			}
		}
	}
	byID := func(id txn.ID) *simTxn {
		if p := s.parts[id]; p != nil {
			return &p.simTxn
		}
		return s.txns[id]
	}
	for at, states := range s.history {
		for i := 1; i < len(states); i++ {
			x := byID(states[i].by)
			if x == nil || before[x] == nil {
				return nil, fmt.Errorf("%s was changed by %v, which did not commit", at, states[i].by)
			}
			edge(byID(states[i-1].by), x)
		}
	}
	for _, x := range done {
		for i, step := range x.steps {
			states := s.history[step.Concern+"/"+step.Key]
			if slices.ContainsFunc(states, func(st state) bool { return st.by == x.id }) {
				continue // the order of writes says it
			}
			if x.response.GetResults()[i].GetSkipped() {
				continue
			}
			got := &list{}
			if err := proto.Unmarshal(x.response.GetResults()[i].GetValue(), got); err != nil {
				return nil, err
			}
			seen := slices.IndexFunc(states, func(st state) bool { return st.is != nil && proto.Equal(st.is, got) })
			if seen < 0 {
				return nil, fmt.Errorf("%v step %d returned %v, which %s/%s never was", x.id, i, got, step.Concern, step.Key)
			}
			edge(byID(states[seen].by), x)
			if seen+1 < len(states) {
				edge(x, byID(states[seen+1].by))
			}
		}
	}
	for _, a := range done {
		for _, b := range done {
			if a.answered < b.submitted {
				edge(a, b)
			}
		}
	}
	waits := map[*simTxn]int{}
	after := map[*simTxn][]*simTxn{}
	var free, order []*simTxn
	for _, x := range done {
		for b := range before[x] {
			after[b] = append(after[b], x)
		}
		if waits[x] = len(before[x]); waits[x] == 0 {
			free = append(free, x)
		}
	}
	for len(free) > 0 {
		x := free[0]
		free = free[1:]
		order = append(order, x)
		slices.SortFunc(after[x], func(a, b *simTxn) int { return cmp.Compare(a.submitted, b.submitted) })
		for _, y := range after[x] {
			if waits[y]--; waits[y] == 0 {
				free = append(free, y)
			}
		}
	}
	if len(order) != len(done) {
		return nil, fmt.Errorf("not strictly serializable: %d of %d transactions are in circles or after them, such as %v",
			len(done)-len(order), len(done), circle(before, waits))
	}
	return order, nil
}

// circle returns transactions that must each come before the one that follows,
// and the last before the first.
func circle(before map[*simTxn]map[*simTxn]bool, waits map[*simTxn]int) (ids []string) {
	inOrder := func(set map[*simTxn]bool) []*simTxn {
		return slices.SortedFunc(maps.Keys(set), func(a, b *simTxn) int { return bytes.Compare(a.id[:], b.id[:]) })
	}
	left := map[*simTxn]bool{}
	for x, n := range waits {
		if n > 0 {
			left[x] = true
		}
	}
	x := inOrder(left)[0]
	at := map[*simTxn]int{}
	for {
		if from, seen := at[x]; seen {
			return ids[from:]
		}
		at[x] = len(ids)
		ids = append(ids, fmt.Sprintf("%v (%d to %d)", x.id, x.submitted, x.answered))
		for _, b := range inOrder(before[x]) {
			if left[b] {
				x = b
				break
			}
		}
	}
}

// replay runs the transactions one after another on a map.
func (s *sim) replay(order []*simTxn) error {
	world := map[string]*list{}
	for at, states := range s.history {
		world[at] = proto.CloneOf(states[0].is)
	}
	for _, x := range order {
		if p := s.parts[x.id]; p != nil {
			if !proto.Equal(world[p.at], p.before) {
				return fmt.Errorf("visit %d of saga %v found %v in %s, not %v", p.visit, p.of.id, p.before, p.at, world[p.at])
			}
			world[p.at] = p.after
			continue
		}
		if n := len(x.response.GetResults()); n != len(x.steps) {
			return fmt.Errorf("%v has %d results for %d steps", x.id, n, len(x.steps))
		}
		results := make([]*list, len(x.steps))
		for i, step := range x.steps {
			at := step.Concern + "/" + step.Key
			l := world[at]
			skip := false
			if c, ok := x.skips[i]; ok {
				skip = c.set == (len(results[c.from].GetPaths()) > 0)
			}
			if x.response.GetResults()[i].GetSkipped() != skip {
				return fmt.Errorf("%v step %d: skipped is %v", x.id, i, !skip)
			}
			if skip {
				results[i] = &list{}
				if len(x.response.GetResults()[i].GetValue()) > 0 {
					return fmt.Errorf("%v step %d was skipped, and has a result", x.id, i)
				}
				continue
			}
			if (l == nil) != (step.Command == txn.CommandCreate) {
				return fmt.Errorf("%v step %d: %s succeeded although %s was %v", x.id, i, step.Command, at, l)
			}
			switch step.Command {
			case txn.CommandCreate:
				world[at] = &list{Value: []byte(step.Key), Paths: []string{x.id.String()}}
				results[i] = world[at]
			case txn.CommandDelete:
				results[i], world[at] = l, nil
			case "Append":
				payload := &list{}
				if from, ok := x.inputs[i]; ok {
					payload = results[from]
				}
				world[at] = &list{Value: l.GetValue(), Paths: append(slices.Clone(l.GetPaths()), x.id.String())}
				var err error
				if results[i], err = appended(world[at], payload); err != nil {
					return err
				}
			default:
				results[i] = l
			}
			got := &list{}
			if err := proto.Unmarshal(x.response.GetResults()[i].GetValue(), got); err != nil {
				return err
			}
			if !proto.Equal(got, results[i]) {
				return fmt.Errorf("%v step %d (%s %s) returned %v, not %v", x.id, i, step.Command, at, got, results[i])
			}
		}
	}
	for at, want := range world {
		got := s.database[at]
		l := &list{}
		if err := proto.Unmarshal(got.GetValue(), l); err != nil {
			return err
		}
		if (got.GetVersion() > 0) != (want != nil) || want != nil && !proto.Equal(l, want) {
			return fmt.Errorf("the database has %v of %s, not %v", l, at, want)
		}
	}
	return nil
}

// runSeed runs one seed. A panic of the engine is a fault like any other.
func runSeed(t *testing.T, seed uint64, prepare func(*sim)) (s *sim, err error) {
	s = newSim(t, seed)
	prepare(s)
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(simFault)
			if err = f.error; !ok {
				err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			}
		}
	}()
	s.run(400)
	err = s.check()
	for _, w := range s.workers {
		s.stats = s.stats.Add(w.engine.stats)
	}
	return s, err
}

func TestSimulation(t *testing.T) {
	first, n := uint64(1), *simSeeds
	if *simSeed != 0 {
		first, n = *simSeed, 1
	}
	var mu sync.Mutex
	var total Stats
	committed, ended, cancelled, truncated := 0, 0, 0, 0
	var next atomic.Uint64
	next.Store(first)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				seed := next.Add(1) - 1
				if seed >= first+uint64(n) || t.Failed() {
					return
				}
				s, err := runSeed(t, seed, func(s *sim) { s.verbose = *simSeed != 0 })
				if err != nil {
					t.Errorf("seed %d (run it again with -sim.seed=%d): %v", seed, seed, err)
					return
				}
				mu.Lock()
				total = total.Add(s.stats)
				truncated += len(s.start)
				for _, x := range s.order {
					ended++
					if x.response.GetError().GetCode() == txn.CodeCancelled {
						cancelled++
					}
					if x.response.GetError() == nil {
						committed++
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds, %d transactions, %d committed, %d cancelled, %d state partitions truncated: %+v", n, ended, committed, cancelled, truncated, total)
	if *simSeed != 0 || t.Failed() {
		return
	}
	// A run in which nothing happens proves nothing.
	if committed < ended/3 || truncated == 0 || total.Parked == 0 || total.Deaths == 0 || total.Duplicates == 0 || total.Markers == 0 ||
		total.Expired == 0 || total.Shed == 0 || total.Panics == 0 || total.LocalVisits == 0 || total.Hops == 0 ||
		total.Undone == 0 || total.Stuck == 0 || total.Repeats == 0 || cancelled == 0 {
		t.Errorf("too little happened: %d of %d committed, %d truncated, %+v", committed, ended, truncated, total)
	}
}

func TestSimulationReplays(t *testing.T) {
	run := func() Stats {
		s, err := runSeed(t, 42, func(*sim) {})
		if err != nil {
			t.Fatal(err)
		}
		return s.stats
	}
	if a, b := run(), run(); a != b {
		t.Errorf("one seed, two outcomes: %+v and %+v", a, b)
	}
}

// The simulation must fail when a mechanism is switched off, or it would tell
// us nothing about it.
func TestSimulationFinds(t *testing.T) {
	for name, off := range map[string]func(*sim){
		"missing holds":                 func(s *sim) { s.plain, s.holdsOff = true, true },
		"missing window":                func(s *sim) { s.windowOff = true },
		"reads that wait for no hold":   func(s *sim) { s.readsPastHolds = true },
		"reads that wait for no commit": func(s *sim) { s.readsPastCommits = true },
		"undoing twice":                 func(s *sim) { s.undoWindowOff = true },
		"missing entries":               func(s *sim) { s.entriesOff = true },
		"torn transactions":             func(s *sim) { s.plain, s.torn = true, true },
		"reading to the LSO":            func(s *sim) { s.plain, s.readToLSO = true, true },
		"snapshots without a mark":      func(s *sim) { s.plain, s.snapshotMarkOff = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 1000; seed++ {
				if _, err := runSeed(t, seed, off); err != nil {
					t.Logf("seed %d: %.300v", seed, err)
					return
				}
			}
			t.Error("1000 seeds, and nothing was noticed")
		})
	}
}
