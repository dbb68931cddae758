package postgres

import (
	"sync"
	"time"
)

// breaker keeps callers from waiting, one after the other, for a database that
// does not answer:
//
//	closed ── failure ──► open ── pause over ──► probing ── success ──► closed
//	                       ▲                        │
//	                       └──────── failure ───────┘
type breaker struct {
	pause time.Duration
	now   func() time.Time

	mu      sync.Mutex
	open    bool
	until   time.Time
	probing bool
}

// enter says whether a call may be made. Whoever got true must call leave.
func (b *breaker) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open:
		return true
	case b.probing || b.now().Before(b.until):
		return false
	}
	b.probing = true
	return true
}

// verdict is what a call has learned about the database.
type verdict int

const (
	answered verdict = iota
	silent
	// unknown: the caller gave up before the database could answer.
	unknown
)

func (b *breaker) leave(v verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch v {
	case answered:
		b.open = false
	case silent:
		b.open, b.until = true, b.now().Add(b.pause)
	case unknown:
	}
	b.probing = false
}
