package edge

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// limiter counts what is being worked on. Requests that come from a client
// need a slot; what the gateway passes on has one already and only counts.
type limiter struct {
	max int

	mu      sync.Mutex
	slots   int
	shed    uint64
	running int
	idle    chan struct{} // closed when running falls to 0; nil if nobody waits
}

// take returns false if every slot is in use.
func (l *limiter) take() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.slots >= l.max {
		l.shed++
		return false
	}
	l.slots++
	return true
}

func (l *limiter) give() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slots--
}

func (l *limiter) enter() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running++
}

func (l *limiter) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running--; l.running == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// count returns how many requests are on their way: with the services, or
// still being received or answered.
func (l *limiter) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.running, l.slots)
}

// wait returns when nothing runs any more, or with what still runs when ctx
// ends. One caller at a time.
func (l *limiter) wait(ctx context.Context) int {
	l.mu.Lock()
	if l.running == 0 {
		l.mu.Unlock()
		return 0
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()
	select {
	case <-idle:
		return 0
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.running
	}
}

func (l *limiter) refusal() *status.Status {
	return retriable(newStatus(codes.ResourceExhausted, ReasonOverloaded, nil,
		"%d requests are in flight at this edge, its limit; nothing was done, try again later", l.max))
}
