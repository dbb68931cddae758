package concern

import (
	"math"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// entryOverhead is what an entry costs besides its key and value, bytes. It
// was estimated from the sizes of the structs and a map slot.
const entryOverhead = 256

// relatedOverhead is the same of what an instance knows of a child.
const relatedOverhead = 128

// notPersisted is the storage offset of an entry whose change is in the Kafka
// transaction in flight.
const notPersisted = math.MaxInt64

// entry is a cached instance; instance.version 0 means that it is known not to
// exist.
type entry struct {
	part     *partition
	key      string
	instance *rkcyv1.Instance

	// pins counts holds and queues on the instance.
	pins int
	// storageOffset is that of the last storage record while it is not below
	// the watermark, else -1. Such an entry is part of the overlay.
	storageOffset int64
	// flight is the number of the batch that changed it last.
	flight uint64

	prev, next *entry // LRU list; nil while pinned
}

func (e *entry) size() int64 {
	n := len(e.key) + len(e.instance.GetValue()) + entryOverhead
	for _, r := range e.instance.GetRelated() {
		n += len(r.GetConcern()) + len(r.GetKey()) + len(r.GetValue()) + relatedOverhead
	}
	return int64(n)
}

func (e *entry) pinned() bool { return e.pins > 0 || e.storageOffset >= 0 }

// cache keeps committed instances within a bound of bytes. Entries that may
// not be evicted, because the database does not have them yet or because a
// transaction works on them, do not count as evictable; their bytes do count.
// It is used by one goroutine.
type cache struct {
	limit       int64
	used        int64
	pinnedBytes int64
	lru         entry // sentinel: lru.next is the most recently used
	evicted     uint64
}

func newCache(limit int64) *cache {
	c := &cache{limit: limit}
	c.lru.prev, c.lru.next = &c.lru, &c.lru
	return c
}

// get returns the entry of a key and marks it as used.
func (c *cache) get(p *partition, key string) *entry {
	e := p.instances[key]
	if e != nil && e.next != nil {
		c.unlink(e)
		c.link(e)
	}
	return e
}

// put stores the committed state of an instance.
func (c *cache) put(p *partition, key string, instance *rkcyv1.Instance) *entry {
	e := p.instances[key]
	if e == nil {
		e = &entry{part: p, key: key, instance: instance, storageOffset: -1}
		p.instances[key] = e
		c.used += e.size()
		c.link(e)
	} else {
		before := e.size()
		e.instance = instance
		c.used += e.size() - before
		if e.pinned() {
			c.pinnedBytes += e.size() - before
		}
	}
	return e
}

// change runs f, which may pin or unpin e, and keeps the books.
func (c *cache) change(e *entry, f func()) {
	was := e.pinned()
	f()
	switch is := e.pinned(); {
	case is && !was:
		c.unlink(e)
		c.pinnedBytes += e.size()
	case was && !is:
		c.link(e)
		c.pinnedBytes -= e.size()
	}
}

func (c *cache) pin(e *entry)   { c.change(e, func() { e.pins++ }) }
func (c *cache) unpin(e *entry) { c.change(e, func() { e.pins-- }) }

// evict drops the least recently used entries until the bound is met.
func (c *cache) evict() {
	for c.used > c.limit && c.lru.prev != &c.lru {
		e := c.lru.prev
		c.remove(e)
		c.evicted++
	}
}

func (c *cache) remove(e *entry) {
	delete(e.part.instances, e.key)
	e.part.mirror.remove(e.key)
	c.used -= e.size()
	if e.pinned() {
		c.pinnedBytes -= e.size()
	} else {
		c.unlink(e)
	}
}

// join takes over what is in another cache, which is not used afterwards, as
// the most recently used.
func (c *cache) join(o *cache) {
	c.used += o.used
	c.pinnedBytes += o.pinnedBytes
	if first, last := o.lru.next, o.lru.prev; first != &o.lru {
		last.next, c.lru.next.prev = c.lru.next, last
		first.prev, c.lru.next = &c.lru, first
	}
}

// drop forgets all instances of a partition.
func (c *cache) drop(p *partition) {
	for _, e := range p.instances {
		c.remove(e)
	}
}

func (c *cache) link(e *entry) {
	e.prev, e.next = &c.lru, c.lru.next
	e.prev.next, e.next.prev = e, e
}

func (c *cache) unlink(e *entry) {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}
