// Package failpoint lets the fault suite end a process at a named point of the
// product's code, and switch off a mechanism to show that the suite would
// notice.
//
// Nothing is active unless a program calls Set or Disable, and only the test
// processes of internal/chaos do. There is no variable, flag or file that a user
// could set by accident. While nothing is active, Hit and Off cost one atomic
// load.
package failpoint

import (
	"sync"
	"sync/atomic"
)

// Name is a point in the code.
type Name string

// The points.
const (
	// TxnProduced: the records of a Kafka transaction have been acknowledged, its
	// offsets are not added.
	TxnProduced Name = "txn-produced"
	// TxnBeforeCommit: the offsets are added, too.
	TxnBeforeCommit Name = "txn-before-commit"
	// TxnAfterCommit: the brokers have said that it is committed.
	TxnAfterCommit Name = "txn-after-commit"
	// DatabaseBeforeCommit and DatabaseAfterCommit: around the COMMIT of a batch
	// of changes. After it, the group offset is not committed yet.
	DatabaseBeforeCommit Name = "database-before-commit"
	DatabaseAfterCommit  Name = "database-after-commit"
	// The phases of a change of the number of partitions: processors were told to
	// stop; they have; what moves was read; the switch has committed. The points
	// around its commit are those of every Kafka transaction.
	RepartitionAnnounced Name = "repartition-announced"
	RepartitionOwned     Name = "repartition-owned"
	RepartitionRead      Name = "repartition-read"
	RepartitionCommitted Name = "repartition-committed"
)

// Switch is a mechanism that can be switched off.
type Switch string

// The switches.
const (
	// Renewal: a producer in doubt is replaced before its next transaction.
	Renewal Switch = "renewal"
	// DedupeWindow: a visit that was applied is ignored when it comes again.
	DedupeWindow Switch = "dedupe-window"
)

// Points lists every point.
func Points() []Name {
	return []Name{TxnProduced, TxnBeforeCommit, TxnAfterCommit, DatabaseBeforeCommit, DatabaseAfterCommit}
}

type table struct {
	points map[Name]*point
	off    map[Switch]bool
}

type point struct {
	left atomic.Int64
	do   func()
}

// active is the one table of the process, nil as a rule. It is global since the
// points are in packages that must not know who tests them.
var active struct {
	mu sync.Mutex
	atomic.Pointer[table]
}

// change replaces the table by a changed copy.
func change(fn func(*table)) {
	active.mu.Lock()
	defer active.mu.Unlock()
	next := &table{points: map[Name]*point{}, off: map[Switch]bool{}}
	if old := active.Load(); old != nil {
		for k, v := range old.points {
			next.points[k] = v
		}
		for k, v := range old.off {
			next.off[k] = v
		}
	}
	fn(next)
	active.Store(next)
}

// Set makes the n-th hit of a point (1 is the next one) call do, once.
func Set(name Name, n int, do func()) {
	p := &point{do: do}
	p.left.Store(int64(n))
	change(func(t *table) { t.points[name] = p })
}

// Disable switches a mechanism off.
func Disable(s Switch) { change(func(t *table) { t.off[s] = true }) }

// Reset makes nothing active.
func Reset() { active.Store(nil) }

// Armed reports whether something waits for a point: for work that is only
// needed to make the point exact.
func Armed(name Name) bool {
	t := active.Load()
	return t != nil && t.points[name] != nil && t.points[name].left.Load() > 0
}

// Hit says that the code is at a point.
func Hit(name Name) {
	t := active.Load()
	if t == nil {
		return
	}
	if p := t.points[name]; p != nil && p.left.Add(-1) == 0 {
		p.do()
	}
}

// Off reports whether a mechanism is switched off.
func Off(s Switch) bool {
	t := active.Load()
	return t != nil && t.off[s]
}
