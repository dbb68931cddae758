package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Node is a member of the cluster.
type Node struct {
	ID          string   `json:"id"`
	Role        string   `json:"role"`
	ReplicaSets []string `json:"replica_sets,omitempty"`
	Tunnel      string   `json:"tunnel,omitempty"`
	// Addr is where it hears gossip.
	Addr string `json:"addr"`
}

// Cluster is this node's membership. Its methods are safe for concurrent use.
type Cluster struct {
	cfg  Config
	list *memberlist.Memberlist
	keys *memberlist.Keyring
	own  *ownership

	mu        sync.Mutex
	nodes     map[string]Node
	followers map[*follower]struct{}
	closed    bool // and says so to others
}

// leaveWait is how long a node that goes tries to tell the others.
const leaveWait = 2 * time.Second

// Open starts to listen, and joins others. It fails if addresses to join are
// given and none of them answers; a node that comes back later finds the others
// by itself as long as one of them remembers it.
func Open(cfg Config) (*Cluster, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg, nodes: map[string]Node{}, followers: map[*follower]struct{}{}}
	m := memberlist.DefaultLANConfig()
	m.Name, m.Label = cfg.ID, cfg.Label
	m.BindAddr, m.BindPort, _ = splitAddr(cfg.Listen)
	m.AdvertisePort = m.BindPort
	m.ProbeInterval, m.ProbeTimeout = cfg.pace, cfg.pace/2
	m.GossipInterval, m.PushPullInterval = cfg.pace/5, 15*cfg.pace
	m.SuspicionMult = 3
	// One that failed is told of for a while, and then forgotten.
	m.DeadNodeReclaimTime = 30 * cfg.pace
	m.Logger = slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug)
	if len(cfg.Keys) > 0 {
		keys, err := memberlist.NewKeyring(cfg.Keys, cfg.Keys[0])
		if err != nil {
			return nil, txn.Errorf(txn.CodeInvalidArgument, "cluster: %w", err)
		}
		c.keys, m.Keyring = keys, keys
	}
	c.own = newOwnership(cfg.ID, c.alive)
	c.own.queue = &memberlist.TransmitLimitedQueue{NumNodes: c.count, RetransmitMult: m.RetransmitMult}
	m.Delegate = delegate{c}
	m.Events = events{c}
	list, err := memberlist.Create(m)
	if err != nil {
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "cluster: cannot listen at %s: %w", cfg.Listen, err)
	}
	c.list = list
	if len(cfg.Join) > 0 {
		if _, err := list.Join(cfg.Join); err != nil {
			return nil, errors.Join(txn.Errorf(txn.CodeUnavailable,
				"cluster: none of %s could be joined; are they there, of platform %s, and do they have the same key? %w",
				strings.Join(cfg.Join, ", "), cfg.Label, err), list.Shutdown())
		}
	}
	return c, nil
}

// Close tells the others that this node goes, and stops.
func (c *Cluster) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	for f := range c.followers {
		f.end()
	}
	c.mu.Unlock()
	// Without these words the others find out by themselves.
	err := errors.Join(c.list.UpdateNode(leaveWait), c.list.Leave(leaveWait), c.list.Shutdown())
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	return nil
}

// Self returns this node.
func (c *Cluster) Self() Node { return nodeOf(c.list.LocalNode()) }

// Nodes returns all members that are thought to be there, this one included, in
// order of role and id.
func (c *Cluster) Nodes() []Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sorted(func(Node) bool { return true })
}

// Find returns the member of an id.
func (c *Cluster) Find(id string) (Node, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nodes[id]
	return n, ok
}

// ReplicaSet returns the members of a replica set.
func (c *Cluster) ReplicaSet(name string) []Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sorted(func(n Node) bool { return slices.Contains(n.ReplicaSets, name) })
}

func (c *Cluster) sorted(want func(Node) bool) []Node {
	var out []Node
	for _, n := range c.nodes {
		if want(n) {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Role+"\x00"+a.ID, b.Role+"\x00"+b.ID) })
	return out
}

func (c *Cluster) alive(id string) bool {
	_, ok := c.Find(id)
	return ok
}

func (c *Cluster) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.nodes)
}

// Own replaces what this node says that it owns: partitions by topic.
func (c *Cluster) Own(partitions map[string][]int32) { c.own.set(partitions, time.Now().UnixMilli()) }

// Owner returns who said last that it owns a partition, of those who are there,
// and the epoch of that.
func (c *Cluster) Owner(topic string, partition int32) (owner Node, epoch int64, ok bool) {
	id, epoch := c.own.owner(topic, partition)
	owner, ok = c.Find(id)
	return owner, epoch, ok
}

func nodeOf(n *memberlist.Node) Node {
	m := parseMeta(n.Meta)
	return Node{
		ID: n.Name, Role: m.Role, ReplicaSets: m.ReplicaSets, Tunnel: m.Tunnel,
		Addr: net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port))),
	}
}
