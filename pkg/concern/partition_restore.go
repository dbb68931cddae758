package concern

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/changewire"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// windowOffsets is the size of a partition's dedupe window, in visits, and how
// far before the watermark a restore reads the storage partition to fill it.
const windowOffsets = 10_000

// restorer rebuilds a partition from its state and storage topics. Feed it all
// state records, then the storage records from the watermark (or a little
// before) to the end, then call finish. It is pure, and used by one goroutine
// at a time: all that grows with the number of instances is done before finish,
// which is for the goroutine of the engine.
type restorer struct {
	p         *partition
	watermark int64
	parked    []*parked
	entries   []*rkcyv1.Entry
	cancels   []*rkcyv1.Cancel
	// cache has the instances until the engine takes them over.
	cache *cache
	// What was applied, by tombstones and by changes.
	ended, changed []applied
}

func newRestorer(p *partition, watermark int64) *restorer {
	p.watermark = watermark
	return &restorer{p: p, watermark: watermark, cache: newCache(math.MaxInt64)}
}

// stateRecord takes one record of the state partition, in order.
func (r *restorer) stateRecord(rec stream.Record) error {
	s := r.p.state
	s.records++
	s.end = rec.Offset + 1
	key := string(rec.Key)
	if key == stateMoved {
		return errMoved
	}
	if key == snapshotKey {
		clear(s.live)
		clear(s.logged)
		s.records, s.snapshotAt = 1, rec.Offset
		return nil
	}
	if len(rec.Value) == 0 {
		delete(s.live, key)
		delete(s.logged, key)
		if kind, at, ok := parseStateKey(rec.Key); ok && kind != stateGhost {
			r.ended = r.remember(r.ended, at)
		}
		return nil
	}
	record := &rkcyv1.StateRecord{}
	err := proto.Unmarshal(rec.Value, record)
	if err == nil {
		err = checkState(record)
	}
	if err != nil {
		return fmt.Errorf("state record at %s[%d]@%d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	s.live[key] = record
	s.logged[key] = true
	return nil
}

// checkState returns an error unless finish can take the record.
func checkState(record *rkcyv1.StateRecord) (err error) {
	switch k := record.GetKind().(type) {
	case *rkcyv1.StateRecord_Hold:
		_, err = txn.IDFromBytes(k.Hold.GetTxnId())
	case *rkcyv1.StateRecord_Parked:
		_, err = txn.IDFromBytes(k.Parked.GetVisit().GetTxn().GetId())
	case *rkcyv1.StateRecord_Cancel:
		_, err = txn.IDFromBytes(k.Cancel.GetTxnId())
	case *rkcyv1.StateRecord_Entry:
	case *rkcyv1.StateRecord_Related:
		err = txn.CheckKey(k.Related.GetParent())
	default:
		err = errors.New("a kind that is not known here")
	}
	return err
}

// change takes one record of the storage partition, in order.
func (r *restorer) change(rec stream.Record) error {
	c, err := changewire.Unmarshal(rec.Value)
	if err != nil {
		return fmt.Errorf("storage record at %s[%d]@%d: %w", rec.Topic, rec.Partition, rec.Offset, err)
	}
	after := c.GetAfter()
	if after == nil {
		after = &rkcyv1.Instance{}
	}
	// A copy, since the record around it is as large again and would stay.
	after.Value = bytes.Clone(after.GetValue())
	r.cache.get(r.p, c.GetKey()) // becomes the most recently used
	en := r.cache.put(r.p, c.GetKey(), after)
	r.p.mirror.set(c.GetKey(), after)
	if rec.Offset >= r.watermark {
		r.cache.change(en, func() { en.storageOffset = rec.Offset })
		r.p.overlay = append(r.p.overlay, overlayItem{rec.Offset, en})
		if len(r.p.overlay) > 2*len(r.p.instances)+1000 {
			r.compact()
		}
	}
	r.cache.evict()
	if id, err := txn.IDFromBytes(c.GetTxnId()); err == nil {
		r.changed = r.remember(r.changed, applied{id, c.GetAttempt(), c.GetVisit()})
	}
	return nil
}

// compact drops what later changes of the same instances have replaced.
func (r *restorer) compact() {
	r.p.overlay = slices.DeleteFunc(r.p.overlay, func(o overlayItem) bool { return o.entry.storageOffset != o.offset })
}

// remember adds to a list of which no more than the window's size is of use.
func (r *restorer) remember(list []applied, a applied) []applied {
	if size := r.p.window.size; len(list) >= 2*size {
		list = append(list[:0], list[len(list)-size:]...)
	}
	return append(list, a)
}

// finish hands the partition to its engine, to go on at offset next of the
// process partition. It takes time by the size of the state, not by the number
// of instances.
func (r *restorer) finish(e *engine, next int64) {
	p := r.p
	p.next = next
	e.add(p)
	e.cache.join(r.cache)
	r.fillWindow()
	for _, key := range slices.Sorted(maps.Keys(p.state.live)) {
		r.restoreState(e, p.state.live[key])
	}
	slices.SortFunc(r.parked, func(a, b *parked) int { return cmp.Compare(a.sequence, b.sequence) })
	for _, w := range r.parked {
		if w.fault == nil {
			e.modernize(w.visit)
		}
		p.sequence = max(p.sequence, w.sequence)
		if !w.restart {
			p.window.add(applied{txn.ID(w.visit.GetTxn().GetId()), w.visit.GetAttempt(), w.visit.GetVisit()})
		}
		if w.timed {
			p.timers.add(w)
			continue
		}
		s := e.slot(p, w.key)
		p.park(s, txn.Request{
			Age: txn.AgeOf(w.visit.GetTxn()), Write: w.write, Ghost: w.restart, HoldsOther: len(w.visit.GetParticipants()) > 0,
		}, w)
		// Normally a hold is in front of it. If none is, it goes on now.
		e.woken = append(e.woken, wake{p, s})
	}
	slices.SortFunc(r.entries, func(a, b *rkcyv1.Entry) int {
		return cmp.Or(cmp.Compare(a.GetExpiresMs(), b.GetExpiresMs()), cmp.Compare(a.GetKey(), b.GetKey()))
	})
	for _, en := range r.entries {
		p.claims.put(en)
	}
	slices.SortFunc(r.cancels, func(a, b *rkcyv1.Cancel) int { return cmp.Compare(a.GetExpiresMs(), b.GetExpiresMs()) })
	for _, c := range r.cancels {
		p.cancels.add(txn.ID(c.GetTxnId()), c.GetExpiresMs())
	}
}

// fillWindow remembers the newest of both topics: changes alone could fill the
// window, and so could tombstones.
func (r *restorer) fillWindow() {
	half := r.p.window.size / 2
	ended, changed := max(len(r.ended)-half, 0), max(len(r.changed)-half, 0)
	for _, list := range [][]applied{r.ended[:ended], r.changed[:changed], r.ended[ended:], r.changed[changed:]} {
		for _, a := range list {
			r.p.window.add(a)
		}
	}
}

func (r *restorer) restoreState(e *engine, record *rkcyv1.StateRecord) {
	p := r.p
	switch k := record.GetKind().(type) {
	case *rkcyv1.StateRecord_Hold:
		id := txn.ID(k.Hold.GetTxnId())
		h := &hold{
			id: id, attempt: k.Hold.GetAttempt(), visit: k.Hold.GetVisit(), key: k.Hold.GetKey(),
			age:   txn.Age{SubmitMs: k.Hold.GetSubmitTimeMs(), ID: id},
			write: k.Hold.GetAccess() == rkcyv1.Access_ACCESS_WRITE,
		}
		if k.Hold.GetPending() != nil {
			h.pending = k.Hold.GetPending()
			h.change = &rkcyv1.Change{
				Key: h.key, After: h.pending, TxnId: id[:], Attempt: h.attempt, Visit: h.visit,
				EffectiveTimeMs: k.Hold.GetEffectiveTimeMs(),
			}
		}
		p.holds[id] = append(p.holds[id], h)
		e.slot(p, h.key).queue.Grant(txn.Request{Age: h.age, Write: h.write})
		p.window.add(applied{id, h.attempt, h.visit})
		if h.write {
			p.mirror.hold(h.key, id)
		}
	case *rkcyv1.StateRecord_Parked:
		r.parked = append(r.parked, &parked{
			sequence: k.Parked.GetSequence(), visit: k.Parked.GetVisit(), key: k.Parked.GetKey(),
			write: k.Parked.GetAccess() == rkcyv1.Access_ACCESS_WRITE, restart: k.Parked.GetRestart(),
			fault: txn.CheckVisit(k.Parked.GetVisit()),
			timed: k.Parked.GetDueMs() > 0 || k.Parked.GetStuck(), dueMs: k.Parked.GetDueMs(), stuck: k.Parked.GetStuck(), at: -1,
		})
	case *rkcyv1.StateRecord_Entry:
		r.entries = append(r.entries, k.Entry)
	case *rkcyv1.StateRecord_Cancel:
		r.cancels = append(r.cancels, k.Cancel)
	case *rkcyv1.StateRecord_Related:
		p.keepUntold(k.Related)
	}
}
