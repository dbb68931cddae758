package concern

import (
	"slices"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// How often a refused compensation is tried, and the pause between, ms. The
// pause doubles from the first to the last.
const (
	compensationTries    = 10
	compensationPause    = 100
	compensationPauseMax = 10_000
)

// compensationRefused plans the next try of a compensation, or gives it into
// the hands of people. A database that is away is no refusal.
func (e *engine) compensationRefused(p *partition, v *rkcyv1.Visit, err *txn.Error) {
	again := &rkcyv1.Visit{
		Txn: v.GetTxn(), Attempt: v.GetAttempt(), Visit: v.GetVisit(), Results: v.GetResults(), Undo: v.GetUndo(), Tries: v.GetTries(),
	}
	if err.Code != txn.CodeUnavailable {
		again.Tries++
	}
	if again.GetTries() < compensationTries {
		pause := min(int64(compensationPause)<<max(again.GetTries(), 1)>>1, compensationPauseMax)
		e.wait(p, again, e.nowMs+pause, false)
		return
	}
	e.stats.Stuck++
	e.cfg.logger.Error("a saga is stuck: its compensation is refused", "txn_id", txn.ID(v.GetTxn().GetId()).String(),
		"concern", p.concern.commands.def.Name, "error", err)
	e.wait(p, again, 0, true)
	e.settle(v, txn.Stuck(v, err))
}

// retry goes on with the stuck sagas of a transaction.
func (e *engine) retry(p *partition, r *rkcyv1.Retry) {
	for _, w := range p.waiting(txn.ID(r.GetTxnId())) {
		if !w.stuck {
			continue
		}
		p.timers.remove(w)
		w.visit = &rkcyv1.Visit{
			Txn: w.visit.GetTxn(), Attempt: w.visit.GetAttempt(), Visit: w.visit.GetVisit(), Results: w.visit.GetResults(), Undo: w.visit.GetUndo(),
		}
		w.stuck, w.dueMs = false, e.nowMs
		p.timers.add(w)
		// It may have to be loaded first, and a next owner goes by the log.
		p.recordTimed(w)
		e.fire(p)
	}
}

// waiting returns what a transaction has among the timers, in order of arrival.
func (p *partition) waiting(id txn.ID) []*parked {
	var out []*parked
	for _, w := range p.timers.byKey {
		if txn.ID(w.visit.GetTxn().GetId()) == id {
			out = append(out, w)
		}
	}
	slices.SortFunc(out, func(a, b *parked) int { return int(a.sequence) - int(b.sequence) }) //nolint:gosec // far below 2^63
	return out
}
