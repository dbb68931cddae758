package node

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// presence is what a node knows of its platform, and the platform of it.
type presence struct {
	state  atomic.Pointer[platform.State]
	orders atomic.Pointer[concern.PauseSet]
	member *platform.Membership
	edge   uint64
	// announced is closed once the node has read its own announcement, and so
	// everything that was published before.
	announced chan struct{}
	// acks has the latest state that was not acknowledged yet.
	acks chan *platform.State
	// fenced is closed when others refuse what the node's edge submits.
	fenced chan struct{}

	mu      sync.Mutex
	changed chan struct{}
}

func newPresence() *presence {
	return &presence{announced: make(chan struct{}), acks: make(chan *platform.State, 1), fenced: make(chan struct{}), changed: make(chan struct{})}
}

// change returns a channel that is closed at the next change of what is paused.
func (p *presence) change() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// targetPaused reports whether nothing is to be written to a storage target.
func (p *presence) targetPaused(target string) bool {
	s := p.state.Load()
	return s != nil && s.TargetPaused(target) != nil
}

// join prepares the announcement of the node.
func (n *Node) join(names platform.Names, edge uint64) {
	m := &rkcyv1.Member{Id: uuid.NewString()}
	for _, r := range []struct {
		has  bool
		name string
	}{{n.cfg.Roles.Edge, "edge"}, {n.cfg.Roles.Processor, "process"}, {n.cfg.Roles.Storage, "storage"}} {
		if r.has {
			m.Roles = append(m.Roles, r.name)
		}
	}
	m.Host, _ = os.Hostname()
	if n.cfg.Roles.Edge {
		m.Edge = edge
	}
	n.presence.edge = m.GetEdge()
	n.presence.member = platform.NewMembership(n.cfg.log(), names, m, n.cfg.SessionTimeout)
}

// watch follows the platform topic.
func (n *Node) watch(ctx context.Context, router *platform.Router) error {
	err := platform.Follow(ctx, n.cfg.log(), n.cfg.Platform.Names(), func(s *platform.State) { n.take(router, s) })
	if err == nil && ctx.Err() == nil {
		return errors.New("the watch ended")
	}
	return err
}

// take goes by what the platform topic says now.
func (n *Node) take(router *platform.Router, s *platform.State) {
	p := n.presence
	before := p.state.Swap(s)
	n.mu.Lock()
	known := n.version
	n.version = max(known, s.Current.GetVersion())
	n.mu.Unlock()
	if s.Current.GetVersion() > known {
		n.cfg.Logger.Info("a new version of the platform was published", "version", s.Current.GetVersion(), "author", s.Current.GetAuthor())
		router.Update(s.Current.GetConfig())
		n.moves.publish(s.Current)
	}
	if before == nil || !slices.EqualFunc(before.Pauses, s.Pauses, equal) || len(before.Fences) != len(s.Fences) {
		p.obey(s)
	}
	member := p.member.ID()
	if !isClosed(p.announced) && s.Has(member) {
		close(p.announced)
	}
	if p.edge != 0 && s.FencedEdge(p.edge) != nil && !isClosed(p.fenced) {
		close(p.fenced)
	}
	if version, _ := s.Acknowledged(member, ""); s.Has(member) && version < s.Current.GetVersion() {
		select {
		case <-p.acks: // an older one
		default:
		}
		p.acks <- s
	}
}

func equal(a, b *rkcyv1.Operation) bool { return proto.Equal(a, b) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// obey tells processor and storage workers what is paused, and who is fenced.
func (p *presence) obey(s *platform.State) {
	var set *concern.PauseSet
	for _, op := range s.Pauses {
		if scope := op.GetScope(); scope.GetTarget() == "" {
			set = set.With(scope.GetConcern(), scope.GetPartition())
		}
	}
	for _, f := range s.Fences {
		set = set.WithFenced(f.GetEdges())
	}
	p.orders.Store(set)
	p.mu.Lock()
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
}

// acknowledge says that the node goes by the published version.
func (n *Node) acknowledge(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-n.presence.acks:
			if err := n.presence.member.Acknowledge(ctx, s.Current.GetVersion(), "", s.Next); err != nil {
				select {
				case n.presence.acks <- s: // once more
				default:
				}
				return err
			}
		}
	}
}

// platformRecords is how many records the platform topic may have before a snapshot
// replaces them.
const platformRecords = 1000

// compact keeps the platform topic short. Every node tries; the log decides.
func (n *Node) compact(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		work, cancel := context.WithTimeout(ctx, 30*time.Second)
		_, err := platform.Compact(work, n.cfg.log(), n.cfg.Platform.Names(), platformRecords, time.Now())
		cancel()
		if err != nil && ctx.Err() == nil {
			n.cfg.Logger.Warn("the platform topic could not be shortened; trying again", "error", err)
		}
	}
}

// errFenced says why a node ends.
func errFenced() error {
	return txn.Errorf(txn.CodeFailedPrecondition, "this edge did not acknowledge a version of the platform in time, so what it submits is refused; it has to start again")
}

// gate is the router of an edge. It refuses transactions on a Concern that is paused
// once half of what may be in flight is taken, so that the other half is left for
// other Concerns.
type gate struct {
	*platform.Router
	presence *presence
	inFlight func() int
	limit    int
}

// Route implements txn.Router.
func (g *gate) Route(name, key string) (topic string, partition int32, err error) {
	topic, partition, err = g.Router.Route(name, key)
	s := g.presence.state.Load()
	if err != nil || s == nil || len(s.Pauses) == 0 {
		return topic, partition, err
	}
	if op := s.Paused(name, partition); op != nil && g.inFlight() >= g.limit/2 {
		return "", 0, txn.Errorf(txn.CodeUnavailable, "Concern %s is paused by %s since %s (%s), and as many transactions wait as may; nothing was submitted",
			name, op.GetAuthor(), time.UnixMilli(op.GetTimeMs()).UTC().Format(time.RFC3339), op.GetReason()).With(txn.DetailConcern, name)
	}
	return topic, partition, nil
}
