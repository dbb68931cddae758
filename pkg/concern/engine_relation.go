package concern

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// relate returns what the parents of an instance have to be told of a change
// of it. before and after are nil where the instance does not exist.
func (s *commandSet) relate(key string, before, after proto.Message) ([]*rkcyv1.Related, error) {
	var out []*rkcyv1.Related
	for _, r := range s.def.Relations {
		old, was, err := r.of(before)
		if err != nil {
			return nil, err
		}
		now, is, err := r.of(after)
		if err != nil {
			return nil, err
		}
		if was == is && bytes.Equal(old, now) {
			continue
		}
		if was != "" && was != is {
			out = append(out, &rkcyv1.Related{
				Concern: r.Parent, Parent: was, Removed: true, Child: &rkcyv1.RelatedInstance{Concern: s.def.Name, Key: key},
			})
		}
		if is != "" {
			out = append(out, &rkcyv1.Related{
				Concern: r.Parent, Parent: is, Child: &rkcyv1.RelatedInstance{Concern: s.def.Name, Key: key, Value: now},
			})
		}
	}
	return out, nil
}

// of returns what a parent sees of a child, and the parent's key; "" for none.
func (r Relation) of(child proto.Message) (copied []byte, parent string, err error) {
	if child == nil {
		return nil, "", nil
	}
	if parent = r.ParentKey(child); parent == "" || !isKey(parent) {
		return nil, "", nil // none, or one that no instance can have
	}
	copied, err = proto.MarshalOptions{Deterministic: true}.Marshal(r.Copy(child))
	return copied, parent, err
}

func isKey(s string) bool { return txn.CheckKey(s) == nil }

// tellParents passes on what has become true of children. It is called before
// the markers of the same transaction are sent, so that whoever waits for a
// hold on the parent sees it.
func (e *engine) tellParents(related []*rkcyv1.Related) {
	for _, r := range related {
		topic, partition, err := e.cfg.router.Route(r.GetConcern(), r.GetParent())
		if err != nil {
			e.cfg.logger.Error("a relation leads nowhere", "concern", r.GetConcern(), "error", err)
			continue
		}
		if p := e.parts[tpOf(&rkcyv1.Participant{Topic: topic, Partition: partition})]; p != nil && p.instances[r.GetParent()] != nil {
			e.related(p, r)
			continue
		}
		e.emit(topic, partition, []byte(r.GetParent()), e.marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Related{Related: r}}))
	}
}

// related notes what a parent is told of a child. A parent that does not exist
// has no children to know of, unless a transaction is about to make it.
func (e *engine) related(p *partition, r *rkcyv1.Related) {
	key := r.GetParent()
	if p.slots[key] != nil {
		for id := range p.holds {
			if h := p.holdOf(id, key); h != nil && h.pending.GetVersion() > 0 {
				if pending, changed := e.withRelated(p, h.pending, r); changed {
					e.repend(p, h, pending)
				}
			}
		}
	}
	en := e.cache.get(p, key)
	switch {
	case en == nil: // the database is away
		p.late(r)
	case en.instance.GetVersion() > 0:
		if after, changed := e.withRelated(p, en.instance, r); changed {
			e.store(p, after, &rkcyv1.Change{Key: key, After: after, EffectiveTimeMs: e.nowMs})
		}
	}
}

// withRelated returns an instance that knows what it is told of a child. One
// that knows so many that it could not be written any more is told nothing new.
func (e *engine) withRelated(p *partition, of *rkcyv1.Instance, r *rkcyv1.Related) (*rkcyv1.Instance, bool) {
	children, changed := withRelated(of.GetRelated(), r)
	if !changed {
		return of, false
	}
	after := &rkcyv1.Instance{Value: of.GetValue(), Version: of.GetVersion(), Related: children}
	if n := proto.Size(after); n > txn.MaxRecordBytes && len(children) >= len(of.GetRelated()) {
		e.cfg.logger.Error("an instance has too many children to know of one more", "concern", r.GetConcern(), "child", r.GetChild().GetConcern(),
			"bytes", n, "children", len(children))
		e.emit(p.concern.topics.Error, 0, []byte(r.GetParent()), e.marshal(&rkcyv1.Quarantined{
			Topic: p.tp.Topic, Partition: p.tp.Partition, Offset: p.next - 1, Key: []byte(r.GetParent()), TimeMs: e.nowMs,
			Reason: fmt.Sprintf("with what it knows of %d children %s %q has %d bytes; at most %d are allowed",
				len(children), r.GetConcern(), r.GetParent(), n, txn.MaxRecordBytes),
			Value: e.marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Related{Related: r}}),
		}))
		return of, false
	}
	return after, true
}

// stateRelated begins the key of the state record of what a parent could not be
// told.
const stateRelated = 'r'

func relatedKey(r *rkcyv1.Related) string {
	return string(rune(stateRelated)) + strings.Join([]string{r.GetParent(), r.GetChild().GetConcern(), r.GetChild().GetKey()}, "\x00")
}

// late keeps what a parent is told until the parent can be read. Only the last
// word on each child counts.
func (p *partition) late(r *rkcyv1.Related) {
	p.keepUntold(r)
	p.state.set(relatedKey(r), &rkcyv1.StateRecord{Kind: &rkcyv1.StateRecord_Related{Related: r}})
	p.touched = true
}

func (p *partition) keepUntold(r *rkcyv1.Related) {
	if p.untold[r.GetParent()] == nil {
		p.untold[r.GetParent()] = map[string]*rkcyv1.Related{}
	}
	p.untold[r.GetParent()][relatedKey(r)] = r
}

// tellLate tells parents that are at hand by now what they were not told.
func (e *engine) tellLate() {
	for _, p := range e.order {
		for _, parent := range slices.Sorted(maps.Keys(p.untold)) {
			if p.instances[parent] == nil {
				continue
			}
			told := p.untold[parent]
			delete(p.untold, parent)
			p.touched = true
			for _, key := range slices.Sorted(maps.Keys(told)) {
				p.state.set(key, nil)
				e.related(p, told[key])
			}
		}
	}
}

// untoldParents returns the instances that have to be loaded to be told.
func (e *engine) untoldParents() []instanceRef {
	var refs []instanceRef
	for _, p := range e.order {
		for _, parent := range slices.Sorted(maps.Keys(p.untold)) {
			if p.instances[parent] == nil {
				refs = append(refs, instanceRef{p, parent})
			}
		}
	}
	return refs
}

// repend replaces what a transaction has prepared.
func (e *engine) repend(p *partition, h *hold, pending *rkcyv1.Instance) {
	h.pending = pending
	h.change = proto.CloneOf(h.change)
	h.change.After = pending
	e.recordHold(p, h)
}

func withRelated(have []*rkcyv1.RelatedInstance, r *rkcyv1.Related) (out []*rkcyv1.RelatedInstance, changed bool) {
	at, found := slices.BinarySearchFunc(have, r.GetChild(), func(a, b *rkcyv1.RelatedInstance) int {
		return cmp.Or(strings.Compare(a.GetConcern(), b.GetConcern()), strings.Compare(a.GetKey(), b.GetKey()))
	})
	switch {
	case r.GetRemoved() && !found, found && !r.GetRemoved() && proto.Equal(have[at], r.GetChild()):
		return have, false
	case r.GetRemoved():
		return slices.Delete(slices.Clone(have), at, at+1), true
	case found:
		out = slices.Clone(have)
		out[at] = r.GetChild()
		return out, true
	default:
		return slices.Insert(slices.Clone(have), at, r.GetChild()), true
	}
}
