package concern

import (
	"encoding/binary"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/failpoint"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// partition is all that a worker knows of one process partition that it owns.
type partition struct {
	tp       stream.TopicPartition
	self     *rkcyv1.Participant // the same as tp
	concern  *servedConcern
	next     int64 // offset of the next record to process
	touched  bool  // something was emitted for it in this batch
	sequence uint64

	instances map[string]*entry
	slots     map[string]*slot
	holds     map[txn.ID][]*hold // by transaction
	window    *window
	state     *stateLog
	overlay   []overlayItem // in order of offset
	watermark int64
	// expiry is not after the earliest deadline of a parked visit, Unix ms.
	expiry int64
	// parkedBytes is the size of what waits behind holds.
	parkedBytes int64
	// Entries that changed in the batch in flight, in order.
	changed []*entry

	timers  timers
	claims  claims
	cancels cancels
	// untold is what parents could not be told, by parent and key of its state
	// record.
	untold map[string]map[string]*rkcyv1.Related
	// mirror is what direct reads see.
	mirror *mirror
}

type overlayItem struct {
	offset int64
	entry  *entry
}

// slot is an instance that transactions hold or wait for.
type slot struct {
	key    string
	queue  txn.HoldQueue[*parked]
	pinned *entry
}

// hold is what one transaction prepared on one instance.
type hold struct {
	id      txn.ID
	attempt uint32
	visit   uint32
	age     txn.Age
	key     string
	write   bool
	pending *rkcyv1.Instance // nil for a shared hold
	change  *rkcyv1.Change   // what a commit will write; nil for a shared hold
}

// parked is a visit that waits behind a hold.
type parked struct {
	sequence uint64
	visit    *rkcyv1.Visit
	key      string
	write    bool
	restart  bool
	// fault says why the visit cannot be worked on; only after a restore, of
	// what a program with other rules has written.
	fault error
	// timed visits wait for a time, or are stuck, and not behind a hold. at is
	// the place in the heap, -1 outside.
	timed bool
	bytes int64
	dueMs int64
	stuck bool
	at    int
	// cause is forgotten when the partition moves.
	cause cause
}

func newPartition(tp stream.TopicPartition, c *servedConcern, windowSize int) *partition {
	return &partition{
		tp:        tp,
		self:      &rkcyv1.Participant{Topic: tp.Topic, Partition: tp.Partition},
		concern:   c,
		instances: map[string]*entry{},
		slots:     map[string]*slot{},
		holds:     map[txn.ID][]*hold{},
		window:    newWindow(windowSize),
		state:     newStateLog(),
		expiry:    never,
		timers:    newTimers(),
		claims:    newClaims(),
		cancels:   newCancels(),
		untold:    map[string]map[string]*rkcyv1.Related{},
		mirror:    newMirror(),
	}
}

// never is a deadline that does not pass.
const never = math.MaxInt64

// park queues a visit behind what holds its instance.
func (p *partition) park(s *slot, r txn.Request, w *parked) {
	s.queue.Park(r, w)
	w.bytes = int64(proto.Size(w.visit))
	p.parkedBytes += w.bytes
	p.expiry = min(p.expiry, deadlineOf(w.visit))
}

// unpark notes that a visit does not wait behind a hold any more, and that the
// log need not know of it.
func (p *partition) unpark(w *parked) {
	p.touched = true
	p.parkedBytes -= w.bytes
	p.state.set(w.stateKey(), nil)
}

// holdOf returns what a transaction holds on an instance, or nil.
func (p *partition) holdOf(id txn.ID, key string) *hold {
	i := slices.IndexFunc(p.holds[id], func(h *hold) bool { return h.key == key })
	if i < 0 {
		return nil
	}
	return p.holds[id][i]
}

// Keys of state records. A hold's names attempt and visit, so that its
// tombstone tells a later owner which visit was done with here.
const (
	stateHold   = 'h'
	stateParked = 'p'
	stateGhost  = 'g'
	stateTimed  = 't'
)

// snapshotKey begins a snapshot: what is live follows, and nothing else is. A
// reader that is overtaken by DeleteRecords goes on at a snapshot, and so does
// not miss the end of a hold whose beginning it has read.
const snapshotKey = "s"

func holdKey(id txn.ID, attempt, visit uint32) string { return stateKey(stateHold, id, attempt, visit) }

// stateKey names the state record of a parked visit. One that waits to start
// again has not arrived yet, in its next attempt, so it must not look as if.
func (w *parked) stateKey() string {
	kind := byte(stateParked)
	switch {
	case w.restart:
		kind = stateGhost
	case w.timed:
		kind = stateTimed
	}
	return stateKey(kind, txn.ID(w.visit.GetTxn().GetId()), w.visit.GetAttempt(), w.visit.GetVisit())
}

func stateKey(kind byte, id txn.ID, attempt, visit uint32) string {
	b := make([]byte, 0, 1+len(id)+8)
	b = append(b, kind)
	b = append(b, id[:]...)
	b = binary.BigEndian.AppendUint32(b, attempt)
	b = binary.BigEndian.AppendUint32(b, visit)
	return string(b)
}

func parseStateKey(key []byte) (kind byte, at applied, ok bool) {
	if len(key) != 1+16+8 || key[0] == stateEntry || key[0] == stateCancel || key[0] == stateRelated {
		return 0, applied{}, false
	}
	at.id = txn.ID(key[1:17])
	at.attempt = binary.BigEndian.Uint32(key[17:21])
	at.visit = binary.BigEndian.Uint32(key[21:25])
	return key[0], at, true
}

func tpOf(at *rkcyv1.Participant) stream.TopicPartition {
	return stream.TopicPartition{Topic: at.GetTopic(), Partition: at.GetPartition()}
}

// applied names one visit of one attempt of a transaction.
type applied struct {
	id      txn.ID
	attempt uint32
	visit   uint32
}

// window remembers the last visits that were applied, so that a record that
// arrives a second time has no second effect.
type window struct {
	seen map[applied]struct{}
	ring []applied
	at   int
	size int
}

func newWindow(size int) *window { return &window{seen: map[applied]struct{}{}, size: size} }

// add remembers a visit and reports whether it was new.
func (w *window) add(a applied) bool {
	if _, dup := w.seen[a]; dup && !failpoint.Off(failpoint.DedupeWindow) {
		return false
	}
	w.seen[a] = struct{}{}
	if len(w.ring) < w.size {
		w.ring = append(w.ring, a)
		return true
	}
	if len(w.ring) > 0 {
		delete(w.seen, w.ring[w.at])
		w.ring[w.at] = a
		w.at = (w.at + 1) % len(w.ring)
	}
	return true
}

// stateLog turns what happens to holds and parked visits in a batch into as
// few state records as possible: what comes and goes within one batch leaves
// no trace.
type stateLog struct {
	live    map[string]*rkcyv1.StateRecord // as of the batch being built
	logged  map[string]bool                // what the log has
	dirty   []string
	isDirty map[string]bool
	traced  map[string]bool // wants a tombstone even if the log has no record

	// records counts state records since the last snapshot; end is the offset
	// behind the last one.
	records int
	end     int64
	// snapshotAt is where the last snapshot begins.
	snapshotAt int64
	snapshot   bool // the batch being built contains a snapshot
}

func newStateLog() *stateLog {
	return &stateLog{live: map[string]*rkcyv1.StateRecord{}, logged: map[string]bool{}, isDirty: map[string]bool{}, traced: map[string]bool{}}
}

// trace makes sure that the log tells a later owner that the visit of key is
// done with, where nothing else does.
func (s *stateLog) trace(key string) {
	s.set(key, nil)
	s.traced[key] = true
}

func (s *stateLog) set(key string, record *rkcyv1.StateRecord) {
	if record == nil {
		delete(s.live, key)
	} else {
		s.live[key] = record
	}
	if !s.isDirty[key] {
		s.isDirty[key] = true
		s.dirty = append(s.dirty, key)
	}
}

// flush calls emit for every record that the batch needs; a nil record is a
// tombstone. Past limit records it writes a snapshot of all that is live, so
// that everything before it can be deleted.
func (s *stateLog) flush(limit int, emit func(key string, record *rkcyv1.StateRecord)) {
	s.snapshot = false
	if len(s.dirty) == 0 {
		return
	}
	write := s.dirty
	if s.records > limit && s.records > 4*len(s.live) {
		s.snapshot = true
		for key := range s.live {
			if !s.isDirty[key] {
				write = append(write, key)
			}
		}
		slices.Sort(write)
		emit(snapshotKey, nil)
		s.records++
	}
	for _, key := range write {
		record := s.live[key]
		if record == nil && !s.logged[key] && !s.traced[key] {
			continue
		}
		emit(key, record)
		s.records++
		if record == nil {
			delete(s.logged, key)
		} else {
			s.logged[key] = true
		}
	}
	s.dirty = s.dirty[:0]
	clear(s.isDirty)
	clear(s.traced)
}
