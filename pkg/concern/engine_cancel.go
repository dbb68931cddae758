package concern

import (
	"slices"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

const stateCancel = 'c'

func cancelKey(id txn.ID) string { return string(append([]byte{stateCancel}, id[:]...)) }

// cancels remembers which transactions are not to go on in a partition.
type cancels struct {
	until map[txn.ID]int64 // Unix ms
	order []txn.ID         // in order of arrival
}

func newCancels() cancels { return cancels{until: map[txn.ID]int64{}} }

func (c *cancels) add(id txn.ID, until int64) {
	if _, known := c.until[id]; !known {
		c.order = append(c.order, id)
	}
	c.until[id] = max(c.until[id], until)
}

// maxCancels is how many cancels a partition remembers; the oldest makes room.
// A transaction whose cancel was forgotten runs, as if the cancel had come too
// late.
const maxCancels = 10_000

// cancel refuses a transaction that waits here, and one that comes here later.
// One that has passed its commit point is not here any more.
func (e *engine) cancel(p *partition, c *rkcyv1.Cancel) {
	id := txn.ID(c.GetTxnId())
	for _, s := range p.slots {
		for _, w := range s.queue.Remove(func(w txn.Waiting[*parked]) bool {
			return w.Age.ID == id && !txn.Undoing(w.Value.visit)
		}) {
			p.unpark(w.Value)
			e.refuse(p, w.Value.visit, errCancelled(w.Value.visit))
			e.woken = append(e.woken, wake{p, s})
		}
	}
	for _, w := range p.waiting(id) {
		if txn.Undoing(w.visit) {
			continue
		}
		p.timers.remove(w)
		p.touched = true
		p.state.set(w.stateKey(), nil)
		e.refuse(p, w.visit, errCancelled(w.visit))
	}
	if c.GetExpiresMs() < e.nowMs {
		return
	}
	p.cancels.add(id, c.GetExpiresMs())
	p.touched = true
	p.state.set(cancelKey(id), &rkcyv1.StateRecord{Kind: &rkcyv1.StateRecord_Cancel{Cancel: c}})
	e.forgetCancels(p)
}

// forgetCancels drops those that cannot matter any more.
func (e *engine) forgetCancels(p *partition) {
	for n := len(p.cancels.order); n > 0; n = len(p.cancels.order) {
		id := p.cancels.order[0]
		if p.cancels.until[id] >= e.nowMs && n <= maxCancels {
			return
		}
		p.cancels.order = slices.Delete(p.cancels.order, 0, 1)
		delete(p.cancels.until, id)
		p.touched = true
		p.state.set(cancelKey(id), nil)
	}
}

func errCancelled(v *rkcyv1.Visit) *txn.Error {
	return txn.Errorf(txn.CodeCancelled, "the transaction was cancelled; %s", whatIsLeft(v))
}

// whatIsLeft says what remains of a transaction that ends at a visit.
func whatIsLeft(v *rkcyv1.Visit) string {
	if txn.IsSaga(v.GetTxn()) && v.GetVisit() > 0 {
		return "what it had done is undone"
	}
	return "nothing took effect"
}
