package cluster

import (
	"encoding/json"
	"sync"

	"github.com/hashicorp/memberlist"
)

// claim is what one node says of one topic. It fits into one packet: 4,096
// partitions are 512 bytes.
type claim struct {
	Node  string `json:"n"`
	Topic string `json:"t"`
	// Epoch rises with every change, and across nodes with the clock.
	Epoch int64 `json:"e"`
	// Bits has bit p of byte p/8 set for each partition p that is owned.
	Bits []byte `json:"b"`
}

// maxPartitions bounds what is believed of others.
const maxPartitions = 4096

func (c claim) has(partition int32) bool {
	i := int(partition / 8)
	return partition >= 0 && i < len(c.Bits) && c.Bits[i]&(1<<(partition%8)) != 0
}

type claimKey struct{ node, topic string }

// ownership is who says that it owns what. Each claim goes out as a broadcast when
// it changes, and all of them with every exchange of state between two nodes.
type ownership struct {
	self  string
	alive func(id string) bool
	queue *memberlist.TransmitLimitedQueue

	mu     sync.Mutex
	epoch  int64
	claims map[claimKey]claim
}

func newOwnership(self string, alive func(string) bool) *ownership {
	return &ownership{self: self, alive: alive, claims: map[claimKey]claim{}}
}

// set replaces this node's claims.
func (o *ownership) set(partitions map[string][]int32, nowMs int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.epoch = max(o.epoch+1, nowMs)
	for key := range o.claims {
		if _, kept := partitions[key.topic]; key.node == o.self && !kept {
			o.claim(claim{Node: o.self, Topic: key.topic, Epoch: o.epoch})
		}
	}
	for topic, list := range partitions {
		c := claim{Node: o.self, Topic: topic, Epoch: o.epoch}
		for _, p := range list {
			if p < 0 || p >= maxPartitions {
				continue
			}
			for int(p/8) >= len(c.Bits) {
				c.Bits = append(c.Bits, 0)
			}
			c.Bits[p/8] |= 1 << (p % 8)
		}
		o.claim(c)
	}
}

func (o *ownership) claim(c claim) {
	o.claims[claimKey{c.Node, c.Topic}] = c
	if raw, err := json.Marshal(c); err == nil && o.queue != nil {
		o.queue.QueueBroadcast(news{name: c.Node + "\x00" + c.Topic, raw: raw})
	}
}

// hear takes a claim of another node, if it is newer than what is known.
func (o *ownership) hear(c claim) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := claimKey{c.Node, c.Topic}
	if c.Node == o.self || c.Node == "" || len(c.Bits) > maxPartitions/8 || c.Epoch <= o.claims[key].Epoch {
		return
	}
	o.claim(c) // and tell others
}

// forget drops what a node that is gone has claimed.
func (o *ownership) forget(node string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key := range o.claims {
		if key.node == node {
			delete(o.claims, key)
		}
	}
}

// owner returns the node with the newest claim, "" if there is none.
func (o *ownership) owner(topic string, partition int32) (node string, epoch int64) {
	o.mu.Lock()
	var found []claim
	for key, c := range o.claims {
		if key.topic == topic && c.has(partition) {
			found = append(found, c)
		}
	}
	o.mu.Unlock()
	for _, c := range found {
		newer := c.Epoch > epoch || c.Epoch == epoch && c.Node > node
		if newer && o.alive(c.Node) {
			node, epoch = c.Node, c.Epoch
		}
	}
	return node, epoch
}

// all returns the claims of nodes that are there.
func (o *ownership) all() []claim {
	o.mu.Lock()
	var out []claim
	for _, c := range o.claims {
		out = append(out, c)
	}
	o.mu.Unlock()
	kept := out[:0]
	for _, c := range out {
		if o.alive(c.Node) {
			kept = append(kept, c)
		}
	}
	return kept
}

// news is a claim on its way.
type news struct {
	name string
	raw  []byte
}

// Invalidates implements memberlist.Broadcast; names do it.
func (n news) Invalidates(memberlist.Broadcast) bool { return false }

// Name implements memberlist.NamedBroadcast: a newer claim replaces an older one.
func (n news) Name() string { return n.name }

// Message implements memberlist.Broadcast.
func (n news) Message() []byte { return n.raw }

// Finished implements memberlist.Broadcast.
func (n news) Finished() {}

// delegate exchanges claims with other nodes.
type delegate struct{ c *Cluster }

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(int) []byte {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return d.c.cfg.meta(d.c.closed)
}

// NotifyMsg implements memberlist.Delegate.
func (d delegate) NotifyMsg(raw []byte) {
	var c claim
	if json.Unmarshal(raw, &c) == nil {
		d.c.own.hear(c)
	}
}

// GetBroadcasts implements memberlist.Delegate.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.c.own.queue.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate.
func (d delegate) LocalState(bool) []byte {
	raw, err := json.Marshal(d.c.own.all())
	if err != nil { // strings and numbers only
		return nil
	}
	return raw
}

// MergeRemoteState implements memberlist.Delegate. The members of the other side
// are known by then.
func (d delegate) MergeRemoteState(raw []byte, _ bool) {
	var list []claim
	if json.Unmarshal(raw, &list) != nil {
		return
	}
	for _, c := range list {
		if d.c.alive(c.Node) {
			d.c.own.hear(c)
		}
	}
}
