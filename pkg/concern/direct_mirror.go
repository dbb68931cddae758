package concern

import (
	"sync"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// mirror is what direct reads see of a partition: the committed value of each
// instance in the cache. The engine's goroutine writes it, any other may read.
// Values are never changed in place, so only pointers are kept twice.
//
// What the engine has built and not committed is not in values, but it is
// known: unlanded has the instances that batches being built or in flight have
// changed, holds the transactions that may write an instance. Both are entered
// before the Kafka transaction that makes them true begins, so they are there
// before anybody can have seen its effects. A nil mirror does nothing.
type mirror struct {
	mu     sync.Mutex
	values map[string]*rkcyv1.Instance
	// unlanded has the number of the last batch that changed an instance.
	unlanded map[string]uint64
	holds    map[mirrorHold]struct{}
	// removed counts instances that left the cache.
	removed uint64
	changed chan struct{} // closed when the above change; nil if nobody waits
	closed  bool
}

type mirrorHold struct {
	key string
	id  txn.ID
}

func newMirror() *mirror {
	return &mirror{values: map[string]*rkcyv1.Instance{}, unlanded: map[string]uint64{}, holds: map[mirrorHold]struct{}{}}
}

// set notes a committed value.
func (m *mirror) set(key string, value *rkcyv1.Instance) {
	if m == nil {
		return
	}
	m.mu.Lock()
	m.values[key] = value
	m.mu.Unlock()
}

// remove notes that an instance left the cache.
func (m *mirror) remove(key string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	delete(m.values, key)
	m.removed++
	m.mu.Unlock()
}

// change notes that a batch which is not committed changes an instance.
func (m *mirror) change(key string, batch uint64) {
	m.mu.Lock()
	m.unlanded[key] = batch
	m.mu.Unlock()
}

// hold notes that a transaction may write an instance.
func (m *mirror) hold(key string, id txn.ID) {
	m.mu.Lock()
	m.holds[mirrorHold{key, id}] = struct{}{}
	m.mu.Unlock()
}

// release takes a hold back. What the transaction wrote is noted before.
func (m *mirror) release(key string, id txn.ID) {
	m.mu.Lock()
	delete(m.holds, mirrorHold{key, id})
	m.wake()
	m.mu.Unlock()
}

// land makes the changes of a committed batch visible, all at once.
func (m *mirror) land(batch uint64, changed []*entry, values []*rkcyv1.Instance) {
	if len(changed) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, en := range changed {
		m.values[en.key] = values[i]
		if m.unlanded[en.key] == batch {
			delete(m.unlanded, en.key)
		}
	}
	m.wake()
}

// close ends all reads: the partition is not ours any more, or what was built on
// it was dropped.
func (m *mirror) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.values = true, map[string]*rkcyv1.Instance{}
	m.wake()
}

func (m *mirror) wake() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// seen is what a look at the mirror found.
type seen struct {
	value *rkcyv1.Instance // nil: not in the cache
	// wait, where not nil, is closed when it is worth to look again: something
	// that the reader may have been told of is not there yet.
	wait    <-chan struct{}
	removed uint64
	closed  bool
}

// look returns the committed value of an instance. A reader of a session waits
// for what is not committed, and for the transactions that it names.
func (m *mirror) look(key string, session bool, after []txn.ID) seen {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := seen{value: m.values[key], removed: m.removed, closed: m.closed}
	if !session || m.closed {
		return s
	}
	_, pending := m.unlanded[key]
	for i := 0; i < len(after) && !pending; i++ {
		_, pending = m.holds[mirrorHold{key, after[i]}]
	}
	if pending {
		if m.changed == nil {
			m.changed = make(chan struct{})
		}
		s.wait = m.changed
	}
	return s
}

// stillMissing reports whether an instance has been out of the cache since a
// look found it missing, so that what the database had then is still true.
func (m *mirror) stillMissing(key string, removed uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[key] == nil && m.removed == removed && !m.closed
}

// valuesOf returns what entries hold now.
func valuesOf(changed []*entry) []*rkcyv1.Instance {
	if len(changed) == 0 {
		return nil
	}
	values := make([]*rkcyv1.Instance, len(changed))
	for i, en := range changed {
		values[i] = en.instance
	}
	return values
}
