package isolation

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
)

// serial makes a history by running transactions one after another, at points
// in time that lie within the interval of each. overlap is how far intervals
// reach beyond the point.
func serial(rng *rand.Rand, operations, keys, perKey int, overlap int) History {
	lists, registers := map[string][]int64{}, map[string][]int64{}
	var h History
	next := int64(0)
	for i := range operations {
		at := time.Duration(10 * i)
		op := Operation{
			Client: i % 10,
			Invoke: at - time.Duration(rng.IntN(overlap+1)) - 1, Return: at + time.Duration(rng.IntN(overlap+1)) + 1,
		}
		switch rng.IntN(20) {
		case 0:
			op.Outcome = Failed
		case 1, 2:
			op.Outcome = Unknown
		}
		happens := op.Outcome == OK || op.Outcome == Unknown && rng.IntN(2) == 0
		for range 1 + rng.IntN(4) {
			// Keys retire after a while, as in the workload.
			key := strconv.Itoa(rng.IntN(keys) + keys*(i/(keys*perKey)))
			s := Step{Verb: Verb(rng.IntN(4))}
			state := lists
			s.Object = Object{"list", key}
			if s.Verb == Write || s.Verb == ReadRegister {
				state = registers
				s.Object = Object{"register", key}
			}
			switch {
			case s.Verb.reads() && op.Outcome == OK:
				s.Seen = slices.Clone(state[key])
			case s.Verb.reads():
			default:
				next++
				s.Value = next
				if happens && s.Verb == Append {
					lists[key] = append(lists[key], next)
				} else if happens {
					registers[key] = []int64{next}
				}
			}
			op.Steps = append(op.Steps, s)
		}
		h = append(h, op)
	}
	rng.Shuffle(len(h), func(i, j int) { h[i], h[j] = h[j], h[i] })
	return h
}

func TestSerialHistoriesPass(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		h := serial(rng, 1+rng.IntN(200), 1+rng.IntN(5), 10+rng.IntN(50), []int{0, 30, 3000}[seed%3])
		if r := mustCheck(t, h); !r.Valid() {
			t.Fatalf("seed %d: %v", seed, r)
		}
		if seed%3 < 2 {
			if l := Linearizable(h, 5*time.Second); !l.Valid() {
				t.Fatalf("seed %d: %v", seed, l)
			}
		}
	}
}

// In a history without concurrency what each read must see is certain, so any
// change of it must be found.
func TestMutationsAreCaught(t *testing.T) {
	done := map[string]int{}
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 2))
		h := serial(rng, 60, 3, 100, 0)
		var reads []*Step
		for i := range h {
			if h[i].Outcome != OK {
				continue
			}
			for j := range h[i].Steps {
				if s := &h[i].Steps[j]; s.Verb == ReadList && len(s.Seen) > 0 {
					reads = append(reads, s)
				}
			}
		}
		if len(reads) == 0 {
			continue
		}
		s := reads[rng.IntN(len(reads))]
		before := slices.Clone(s.Seen)
		at := rng.IntN(len(s.Seen))
		var what string
		switch rng.IntN(5) {
		case 0:
			what = "cut"
			s.Seen = s.Seen[:at]
		case 1:
			what = "leave out"
			s.Seen = slices.Delete(s.Seen, at, at+1)
		case 2:
			what = "swap"
			if len(s.Seen) < 2 {
				continue
			}
			at = rng.IntN(len(s.Seen) - 1)
			s.Seen[at], s.Seen[at+1] = s.Seen[at+1], s.Seen[at]
		case 3:
			what = "repeat"
			s.Seen = append(s.Seen, s.Seen[at])
		case 4:
			what = "invent"
			s.Seen = slices.Insert(s.Seen, at, int64(1)<<40)
		}
		// Cutting off what an unknown operation appended may be invisible: it
		// may not have happened yet.
		unknown := false
		for i := range h {
			for _, w := range h[i].Steps {
				unknown = unknown || h[i].Outcome == Unknown && w.Verb == Append && w.Object == s.Object && slices.Contains(before, w.Value)
			}
		}
		r := mustCheck(t, h)
		if r.Valid() && !unknown {
			t.Fatalf("seed %d: %s of %v made %v: not found", seed, what, before, s)
		}
		if !r.Valid() {
			done[what]++
		}
	}
	t.Log(done)
	for _, what := range []string{"cut", "leave out", "swap", "repeat", "invent"} {
		if done[what] < 20 {
			t.Errorf("%s: found %d times only", what, done[what])
		}
	}
}

// An acknowledged write that did not happen, and a failed one that did.
func TestWrongOutcomesAreCaught(t *testing.T) {
	caught := 0
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 3))
		h := serial(rng, 60, 2, 100, 0)
		slices.SortFunc(h, func(a, b Operation) int { return int(a.Invoke - b.Invoke) })
		i := slices.IndexFunc(h[:20], func(o Operation) bool {
			return o.Outcome == OK && slices.ContainsFunc(o.Steps, func(s Step) bool { return s.Verb == Append })
		})
		if i < 0 {
			continue
		}
		h[i].Outcome = Failed
		if !mustCheck(t, h).Valid() {
			caught++
		}
	}
	if caught < 50 {
		t.Errorf("%d of 100 were caught", caught)
	}
}

// A large history is judged in seconds, also one that is wrong all over.
func TestCheckIsFast(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	h := serial(rng, 100_000, 20, 50, 300)
	start := time.Now()
	r := mustCheck(t, h)
	t.Logf("%d operations, %d dependencies: %v", len(h), r.Edges, time.Since(start))
	if !r.Valid() {
		t.Error(r)
	}
	for i := range h {
		if rng.IntN(10) == 0 {
			for j := range h[i].Steps {
				if s := &h[i].Steps[j]; len(s.Seen) > 0 && s.Verb == ReadList {
					s.Seen = s.Seen[:len(s.Seen)-1]
				}
			}
		}
	}
	start = time.Now()
	r = mustCheck(t, h)
	t.Logf("wrong all over: %v, %v", r.Kinds(), time.Since(start))
	if r.Valid() {
		t.Error("nothing was found")
	}
}
