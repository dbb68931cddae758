package txn

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func age(n int) Age { return Age{SubmitMs: int64(n), ID: ID{15: byte(n)}} }

// request reads "3w+": age 3, write, holds something else. r is a read, g
// makes it a ghost.
func request(text string) Request {
	var n int
	if _, err := fmt.Sscanf(text, "%d", &n); err != nil {
		panic(err)
	}
	return Request{
		Age: age(n), Write: strings.Contains(text, "w"), HoldsOther: strings.Contains(text, "+"), Ghost: strings.Contains(text, "g"),
	}
}

func queue(holders, parked string) *HoldQueue[string] {
	q := &HoldQueue[string]{}
	for h := range strings.FieldsSeq(holders) {
		q.Grant(request(h))
	}
	for p := range strings.FieldsSeq(parked) {
		q.Park(request(p), p)
	}
	return q
}

func TestAgeOrder(t *testing.T) {
	a, b := Age{SubmitMs: 1, ID: ID{1}}, Age{SubmitMs: 1, ID: ID{2}}
	if !a.Older(b) || b.Older(a) || a.Older(a) {
		t.Error("at one ms the id decides, and nobody is older than itself")
	}
	if c := (Age{SubmitMs: 0, ID: ID{9}}); !c.Older(a) || a.Older(c) {
		t.Error("time comes first")
	}
}

func TestHoldQueueAsk(t *testing.T) {
	names := map[Decision]string{Granted: "granted", Wait: "wait", Dead: "dead"}
	for _, c := range []struct{ holders, parked, ask, want string }{
		{"", "", "1w", "granted"},
		{"5r", "", "9r+", "granted"},
		{"5r", "", "9w", "wait"},  // holds nothing: may always wait
		{"5w", "", "9r", "wait"},  //
		{"5r", "", "9w+", "dead"}, // younger than the holder
		{"5r", "", "4w+", "wait"}, // older than the holder
		{"5r 3r", "", "4w+", "dead"},
		{"5w", "", "4r+", "wait"},
		{"5w", "", "6r+", "dead"},
		// Behind others: nobody overtakes.
		{"5r", "6w", "7r", "wait"},
		{"5r", "6w", "4r+", "wait"},
		{"5r", "3w", "4r+", "dead"}, // one parked ahead is older
		{"2r", "6w", "4r+", "dead"}, // waits for the reader too, through the writer
		// Ghosts stand in nobody's way.
		{"5r", "3wg", "9r+", "granted"},
		{"5w", "3wg", "4r+", "wait"},
		// Holders of their own: upgrades.
		{"5r", "", "5w+", "granted"},
		{"5r 7r", "", "5w+", "wait"},
		{"5r 3r", "", "5w+", "dead"},
		{"5r 7r", "2w", "5w+", "wait"}, // the parked one waits for it anyway
		{"5w", "2w", "5w+", "granted"},
		{"5w", "2w", "5r+", "granted"},
	} {
		q := queue(c.holders, c.parked)
		if got := names[q.Ask(request(c.ask))]; got != c.want {
			t.Errorf("held by %q, parked %q: %s is %s, want %s", c.holders, c.parked, c.ask, got, c.want)
		}
	}
}

// drainQueue takes what is ready, granting as an engine would.
func drainQueue(q *HoldQueue[string]) string {
	var out []string
	for {
		w, ok := q.Next()
		if !ok {
			return strings.Join(out, " ")
		}
		out = append(out, w.Value)
		if !w.Ghost {
			q.Grant(w.Request)
		}
	}
}

func TestHoldQueueNext(t *testing.T) {
	for _, c := range []struct{ holders, parked, release, want string }{
		{"1w", "2w 3w", "1", "2w"},
		{"1w", "2r 3r 4w 5r", "1", "2r 3r"},
		{"1r 2r", "3w", "1", ""},
		{"1r 2r", "3w", "2", ""},
		{"1r 2r", "5w 1w", "2", "1w"},      // an upgrade goes first
		{"1w", "3wg 2r", "1", "3wg 2r"},    // a ghost takes no hold
		{"1r 2r", "3wg 5w", "1", ""},       // an older holder is left
		{"1r 4r", "3wg 5w", "1", "3wg"},    // only a younger one is: the ghost may wait for that with all it holds
		{"1w", "2w 3wg 4w", "1", "2w"},     // not past an older one that got its turn
		{"1w", "4w 3wg 5w", "1", "4w 3wg"}, // past a younger one
	} {
		q := queue(c.holders, c.parked)
		if got := drainQueue(q); got != "" {
			t.Errorf("held by %q: %q is ready", c.holders, got)
		}
		q.Release(request(c.release).Age.ID)
		if got := drainQueue(q); got != c.want {
			t.Errorf("held by %q, parked %q, released %s: %q is ready, want %q", c.holders, c.parked, c.release, got, c.want)
		}
	}
}

func TestHoldQueueBooks(t *testing.T) {
	q := queue("1r", "2w 3w")
	if q.Empty() || !q.Held() {
		t.Error("it is held")
	}
	out := q.Remove(func(w Waiting[string]) bool { return w.Value == "2w" })
	if len(out) != 1 || out[0].Value != "2w" {
		t.Errorf("removed %v", out)
	}
	if q.Release(age(9).ID) {
		t.Error("released what nobody held")
	}
	q.Grant(request("1w")) // raises the hold, adds none
	if q.Ask(request("4r")) != Wait || !q.Release(age(1).ID) || q.Release(age(1).ID) {
		t.Error("a raised hold is one hold")
	}
	if got := drainQueue(q); got != "3w" {
		t.Errorf("%q is next", got)
	}
	q.Release(age(3).ID)
	if !q.Empty() || q.Held() {
		t.Error("it is free")
	}
}

// naiveQueue is the same rules in the plainest words.
type naiveQueue struct {
	holders map[ID]Request
	parked  []Request
}

func (n *naiveQueue) blockers(r Request, queued bool) (out []Age) {
	for _, h := range n.holders {
		if h.Age != r.Age && (queued || h.Write || r.Write) {
			out = append(out, h.Age)
		}
	}
	if queued {
		for _, p := range n.parked {
			if !p.Ghost {
				out = append(out, p.Age)
			}
		}
	}
	return out
}

func (n *naiveQueue) ask(r Request) Decision {
	_, owner := n.holders[r.Age.ID]
	queued := !owner && slices.ContainsFunc(n.parked, func(p Request) bool { return !p.Ghost })
	blockers := n.blockers(r, queued)
	switch {
	case len(blockers) == 0:
		return Granted
	case r.HoldsOther && slices.ContainsFunc(blockers, func(a Age) bool { return a.Older(r.Age) }):
		return Dead
	}
	return Wait
}

// The queue answers as the naive one does, never has two writers or a writer
// beside readers, and takes the parked in order.
func TestHoldQueueAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		q, n := &HoldQueue[int]{}, &naiveQueue{holders: map[ID]Request{}}
		var order []int // values in the order in which they may come
		for step := range 60 {
			switch rng.IntN(3) {
			case 0, 1:
				r := Request{Age: age(1 + rng.IntN(9)), Write: rng.IntN(2) == 0, HoldsOther: rng.IntN(2) == 0}
				if slices.ContainsFunc(n.parked, func(p Request) bool { return p.Age == r.Age }) {
					continue // it waits
				}
				_, owner := n.holders[r.Age.ID]
				r.HoldsOther = r.HoldsOther || owner
				got, want := q.Ask(r), n.ask(r)
				if got != want {
					t.Fatalf("asked %+v: %v, want %v (%+v)", r, got, want, n)
				}
				switch got {
				case Granted:
					q.Grant(r)
					h := n.holders[r.Age.ID]
					n.holders[r.Age.ID] = Request{Age: r.Age, Write: r.Write || h.Write}
				case Dead:
					q.Release(r.Age.ID)
					delete(n.holders, r.Age.ID)
					r.Ghost, r.HoldsOther = true, false
					fallthrough
				case Wait:
					q.Park(r, step)
					if owner && !r.Ghost {
						n.parked = slices.Insert(n.parked, 0, r)
						order = slices.Insert(order, 0, step)
					} else {
						n.parked = append(n.parked, r)
						order = append(order, step)
					}
				}
			case 2:
				for id := range n.holders {
					if q.Release(id) {
						delete(n.holders, id)
					}
					break
				}
			}
			for {
				w, ok := q.Next()
				if !ok {
					break
				}
				if w.Value != order[0] {
					t.Fatalf("%d came before %d", w.Value, order[0])
				}
				order, n.parked = order[1:], n.parked[1:]
				if !w.Ghost {
					q.Grant(w.Request)
					h := n.holders[w.Age.ID]
					n.holders[w.Age.ID] = Request{Age: w.Age, Write: w.Write || h.Write}
				}
			}
			writers := 0
			for _, h := range n.holders {
				if h.Write {
					writers++
				}
			}
			if writers > 1 || writers == 1 && len(n.holders) > 1 {
				t.Fatalf("held at once: %+v", n.holders)
			}
			if len(q.holders) != len(n.holders) {
				t.Fatalf("%d holders, want %d", len(q.holders), len(n.holders))
			}
		}
	}
}

// Transactions that take instances in any order all come to an end: no
// deadlock, no endless dying, and the oldest of all never dies.
func TestHoldQueuesNeverDeadlock(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 5))
		instances := make([]*HoldQueue[*walker], 1+rng.IntN(5))
		for i := range instances {
			instances[i] = &HoldQueue[*walker]{}
		}
		var all, ready []*walker
		for i := range 2 + rng.IntN(8) {
			w := &walker{age: age(i + 1)}
			for range 1 + rng.IntN(5) {
				w.path = append(w.path, claim{rng.IntN(len(instances)), rng.IntN(3) > 0})
			}
			all, ready = append(all, w), append(ready, w)
		}
		rng.Shuffle(len(ready), func(i, j int) { ready[i], ready[j] = ready[j], ready[i] })
		var wake func(q *HoldQueue[*walker])
		release := func(w *walker) {
			for _, q := range instances {
				if q.Release(w.age.ID) {
					defer wake(q)
				}
			}
		}
		wake = func(q *HoldQueue[*walker]) {
			for {
				n, ok := q.Next()
				if !ok {
					return
				}
				if !n.Ghost {
					q.Grant(n.Request)
					n.Value.at++
				}
				ready = append(ready, n.Value)
			}
		}
		for steps := 0; len(ready) > 0; steps++ {
			if steps > 20_000 {
				t.Fatalf("seed %d: they die for ever", seed)
			}
			i := rng.IntN(len(ready))
			w := ready[i]
			ready = slices.Delete(ready, i, i+1)
			if w.at == len(w.path) {
				w.done = true
				release(w)
				continue
			}
			c := w.path[w.at]
			r := Request{Age: w.age, Write: c.write, HoldsOther: w.at > 0}
			switch instances[c.instance].Ask(r) {
			case Granted:
				instances[c.instance].Grant(r)
				w.at++
				ready = append(ready, w)
			case Wait:
				instances[c.instance].Park(r, w)
			case Dead:
				if w == all[0] {
					t.Fatalf("seed %d: the oldest died", seed)
				}
				w.at = 0
				release(w)
				r.Ghost, r.HoldsOther = true, false
				instances[c.instance].Park(r, w)
				wake(instances[c.instance])
			}
		}
		for _, w := range all {
			if !w.done {
				t.Fatalf("seed %d: transaction %v waits for ever", seed, w.age)
			}
		}
		for i, q := range instances {
			if !q.Empty() {
				t.Fatalf("seed %d: instance %d is not free", seed, i)
			}
		}
	}
}

type claim struct {
	instance int
	write    bool
}

type walker struct {
	age  Age
	path []claim
	at   int
	done bool
}

// A dead writer comes back although young readers share the hold all the time.
func TestGhostIsNotStarvedByReaders(t *testing.T) {
	q := queue("1r", "3wg")
	for n := 4; n < 100; n++ {
		r := request(fmt.Sprint(n, "r"))
		if q.Ask(r) != Granted {
			t.Fatal("a ghost stands in the way")
		}
		q.Grant(r)
		q.Release(age(n - 1).ID)
		if n == 4 {
			q.Release(age(1).ID)
		}
		if _, ok := q.Next(); ok {
			return
		}
	}
	t.Error("the ghost never had its turn")
}
