package cluster

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/hashicorp/memberlist"
)

// Kind says what happened to a member.
type Kind int

// Kinds of events.
const (
	// Join: it is there.
	Join Kind = iota + 1
	// Update: what it says of itself has changed.
	Update
	// Leave: it has said that it goes.
	Leave
	// Fail: it does not answer any more.
	Fail
)

// String implements fmt.Stringer.
func (k Kind) String() string {
	return map[Kind]string{Join: "join", Update: "update", Leave: "leave", Fail: "fail"}[k]
}

// Event is a change of the membership.
type Event struct {
	Kind Kind
	Node Node
}

// Follow calls f for every member that is there, as Join, and then for every
// change, in order, until ctx or the cluster ends. There may be many followers;
// one that takes its time holds up no other.
func (c *Cluster) Follow(ctx context.Context, f func(Event)) {
	own := &follower{wake: make(chan struct{}, 1)}
	c.mu.Lock()
	for _, n := range c.sorted(func(Node) bool { return true }) {
		own.add(Event{Join, n})
	}
	if c.closed {
		own.end()
	}
	c.followers[own] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.followers, own)
		c.mu.Unlock()
	}()
	for {
		batch, ended := own.take()
		for _, e := range batch {
			f(e)
		}
		if ended {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-own.wake:
		}
	}
}

// follower has the events that one follower was not told of yet. They are few: one
// per change of a member.
type follower struct {
	mu    sync.Mutex
	queue []Event
	ended bool
	wake  chan struct{}
}

func (f *follower) add(e Event) {
	f.mu.Lock()
	f.queue = append(f.queue, e)
	f.mu.Unlock()
	f.poke()
}

func (f *follower) end() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.poke()
}

func (f *follower) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *follower) take() ([]Event, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	batch := f.queue
	f.queue = nil
	return batch, f.ended
}

// events hears of members from memberlist.
type events struct{ c *Cluster }

func (e events) happened(kind Kind, n *memberlist.Node) {
	c, node := e.c, nodeOf(n)
	c.mu.Lock()
	if kind == Leave || kind == Fail {
		delete(c.nodes, node.ID)
	} else {
		c.nodes[node.ID] = node
	}
	for f := range c.followers {
		f.add(Event{kind, node})
	}
	c.mu.Unlock()
	if kind == Leave || kind == Fail {
		c.own.forget(node.ID)
	}
	c.cfg.Logger.Info("cluster", "event", kind.String(), "node", node.ID, "role", node.Role, "addr", node.Addr)
}

// NotifyJoin implements memberlist.EventDelegate.
func (e events) NotifyJoin(n *memberlist.Node) { e.happened(Join, n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (e events) NotifyUpdate(n *memberlist.Node) {
	if !parseMeta(n.Meta).Leaving { // else its Leave follows
		e.happened(Update, n)
	}
}

// NotifyLeave implements memberlist.EventDelegate.
func (e events) NotifyLeave(n *memberlist.Node) {
	if parseMeta(n.Meta).Leaving {
		e.happened(Leave, n)
	} else {
		e.happened(Fail, n)
	}
}

// parseMeta reads what a node says of itself; nothing, if that is not readable.
func parseMeta(raw []byte) (m meta) {
	if json.Unmarshal(raw, &m) != nil {
		return meta{}
	}
	return m
}
