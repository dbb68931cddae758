package concern

import (
	"container/heap"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// timers are the visits of a partition that wait for a time, or for somebody
// who asks for them, and not behind a hold.
type timers struct {
	due   timerHeap
	byKey map[string]*parked // all of them, the stuck ones too, by state key
}

func newTimers() timers { return timers{byKey: map[string]*parked{}} }

func (t *timers) add(w *parked) {
	t.byKey[w.stateKey()] = w
	if !w.stuck {
		heap.Push(&t.due, w)
	}
}

func (t *timers) remove(w *parked) {
	delete(t.byKey, w.stateKey())
	if w.at >= 0 {
		heap.Remove(&t.due, w.at)
	}
}

// timerHeap is ordered by time and then by order of arrival.
type timerHeap []*parked

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if h[i].dueMs != h[j].dueMs {
		return h[i].dueMs < h[j].dueMs
	}
	return h[i].sequence < h[j].sequence
}
func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}
func (h *timerHeap) Push(x any) {
	w := x.(*parked) //nolint:forcetypeassert // only add pushes
	w.at = len(*h)
	*h = append(*h, w)
}
func (h *timerHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	last.at = -1
	return last
}

// wait puts a visit aside until dueMs, or until somebody asks for it.
func (e *engine) wait(p *partition, v *rkcyv1.Visit, dueMs int64, stuck bool) {
	_, key := txn.Instance(v)
	p.sequence++
	w := &parked{sequence: p.sequence, visit: v, key: key, timed: true, dueMs: dueMs, stuck: stuck, at: -1, cause: e.cause.again()}
	p.timers.add(w)
	p.recordTimed(w)
}

// recordTimed writes a visit that was put aside to the state topic.
func (p *partition) recordTimed(w *parked) {
	p.touched = true
	p.state.set(w.stateKey(), &rkcyv1.StateRecord{Kind: &rkcyv1.StateRecord_Parked{Parked: &rkcyv1.Parked{
		Sequence: w.sequence, Visit: w.visit, Key: w.key, DueMs: w.dueMs, Stuck: w.stuck,
	}}})
}

// resume lets a visit go on that was put aside.
func (e *engine) resume(p *partition, w *parked) {
	p.timers.remove(w)
	p.touched = true
	p.state.set(w.stateKey(), nil)
	e.cause = w.cause
	e.about(w.visit)
	if w.fault != nil {
		e.reject(p, w.visit, w.fault)
		return
	}
	e.admit(p, w.visit)
}

// maxDueLoads is how many instances that timers wait for are loaded at once.
const maxDueLoads = 1000

// fire resumes the visits whose time has come.
func (e *engine) fire(p *partition) {
	var absent []*parked
	for len(p.timers.due) > 0 && p.timers.due[0].dueMs <= e.nowMs && len(absent) < maxDueLoads {
		w := p.timers.due[0]
		if p.instances[w.key] == nil && e.failed[instanceRef{p, w.key}] == nil {
			// Loaded before the next batch, which fires again.
			e.wantedByTimers = append(e.wantedByTimers, instanceRef{p, w.key})
			heap.Pop(&p.timers.due)
			absent = append(absent, w)
			continue
		}
		e.resume(p, w)
	}
	for _, w := range absent {
		heap.Push(&p.timers.due, w)
	}
}
