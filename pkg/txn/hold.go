package txn

import (
	"bytes"
	"slices"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Age orders transactions for wait-die: time of first submission, then id. It
// stays the same over all attempts, so a transaction that had to give way
// becomes the oldest at last.
type Age struct {
	SubmitMs int64
	ID       ID
}

// Older reports whether a came before b.
func (a Age) Older(b Age) bool {
	if a.SubmitMs != b.SubmitMs {
		return a.SubmitMs < b.SubmitMs
	}
	return bytes.Compare(a.ID[:], b.ID[:]) < 0
}

// Request asks for a hold on one instance.
type Request struct {
	Age Age
	// Write asks for an exclusive hold, else for a shared one.
	Write bool
	// HoldsOther says that the transaction holds something already, here or
	// elsewhere.
	HoldsOther bool
	// Ghost marks a transaction that died here: it holds nothing and takes no
	// hold, it only waits for its turn to start again. That has come when no
	// older holder is left: for younger ones it may wait with all it holds,
	// and a flow of young readers must not keep it from ever coming back.
	Ghost bool
}

// Decision is the answer to a Request.
type Decision int

// The decisions of wait-die (Rosenkrantz, Stearns, Lewis: System Level
// Concurrency Control for Distributed Database Systems, 1978).
const (
	// Granted: nothing conflicts.
	Granted Decision = iota
	// Wait: park behind the hold.
	Wait
	// Dead: give up what is held and start again.
	Dead
)

// HoldQueue is the lock of one instance: who holds it, and who is parked. W is
// what a parked request carries. It is plain data: not for concurrent use.
//
// Deadlock cannot arise: a transaction that holds something waits only for
// younger ones, be they holders or parked ahead of it, so no circle of
// waiting transactions closes; one that holds nothing is waited for by nobody
// elsewhere. Starvation cannot either: the oldest never dies and the queue is
// first come, first served.
type HoldQueue[W any] struct {
	holders []Request
	parked  []Waiting[W]
}

// Waiting is a parked request.
type Waiting[W any] struct {
	Request
	Value W
}

// Ask decides over a request and changes nothing.
func (q *HoldQueue[W]) Ask(r Request) Decision {
	upgrade := q.holds(r.Age.ID)
	queued := !upgrade && slices.ContainsFunc(q.parked, func(w Waiting[W]) bool { return !w.Ghost })
	if !queued && !q.conflicts(r) {
		return Granted
	}
	if !r.HoldsOther {
		return Wait
	}
	for _, h := range q.holders {
		// Behind a queue one waits for every holder, through those ahead.
		if h.Age.ID != r.Age.ID && (queued || h.Write || r.Write) && !r.Age.Older(h.Age) {
			return Dead
		}
	}
	if queued {
		for _, w := range q.parked {
			if !w.Ghost && !r.Age.Older(w.Age) {
				return Dead
			}
		}
	}
	return Wait
}

// Grant records a hold. The caller has been told Granted.
func (q *HoldQueue[W]) Grant(r Request) {
	for i, h := range q.holders {
		if h.Age.ID == r.Age.ID {
			q.holders[i].Write = h.Write || r.Write
			return
		}
	}
	q.holders = append(q.holders, r)
}

// Park queues a request. One that already shares the hold and wants it for
// itself goes first: those ahead of it would wait for it.
func (q *HoldQueue[W]) Park(r Request, value W) {
	w := Waiting[W]{Request: r, Value: value}
	if q.holds(r.Age.ID) && !r.Ghost {
		q.parked = slices.Insert(q.parked, 0, w)
		return
	}
	q.parked = append(q.parked, w)
}

// Release drops the hold of a transaction and reports whether it had one.
func (q *HoldQueue[W]) Release(id ID) bool {
	n := len(q.holders)
	q.holders = slices.DeleteFunc(q.holders, func(h Request) bool { return h.Age.ID == id })
	return len(q.holders) != n
}

// Ready reports whether Next would return something.
func (q *HoldQueue[W]) Ready() bool {
	return len(q.parked) > 0 && !q.conflicts(q.parked[0].Request)
}

// Next removes and returns the first parked request if its turn has come.
// Call it until it returns false, granting in between.
func (q *HoldQueue[W]) Next() (Waiting[W], bool) {
	if !q.Ready() {
		return Waiting[W]{}, false
	}
	w := q.parked[0]
	q.parked = q.parked[1:]
	return w, true
}

// Remove takes the parked requests that match out of the queue.
func (q *HoldQueue[W]) Remove(match func(Waiting[W]) bool) []Waiting[W] {
	var out []Waiting[W]
	q.parked = slices.DeleteFunc(q.parked, func(w Waiting[W]) bool {
		if match(w) {
			out = append(out, w)
			return true
		}
		return false
	})
	return out
}

// Each calls f for every parked request, in order.
func (q *HoldQueue[W]) Each(f func(Waiting[W])) {
	for _, w := range q.parked {
		f(w)
	}
}

// Empty reports whether nobody holds or waits.
func (q *HoldQueue[W]) Empty() bool { return len(q.holders) == 0 && len(q.parked) == 0 }

// Held reports whether anyone holds.
func (q *HoldQueue[W]) Held() bool { return len(q.holders) > 0 }

func (q *HoldQueue[W]) holds(id ID) bool {
	return slices.ContainsFunc(q.holders, func(h Request) bool { return h.Age.ID == id })
}

func (q *HoldQueue[W]) conflicts(r Request) bool {
	return slices.ContainsFunc(q.holders, func(h Request) bool {
		return h.Age.ID != r.Age.ID && (h.Write || r.Write) && (!r.Ghost || h.Age.Older(r.Age))
	})
}

// AgeOf returns the age of a transaction.
func AgeOf(t *rkcyv1.Transaction) Age {
	return Age{SubmitMs: t.GetSubmitTimeMs(), ID: ID(t.GetId())}
}
