package concern

import (
	"bytes"
	"cmp"
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
	if parent = r.ParentKey(child); parent == "" || txn.CheckKey(parent) != nil {
		return nil, "", nil
	}
	copied, err = proto.MarshalOptions{Deterministic: true}.Marshal(r.Copy(child))
	return copied, parent, err
}

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
// has no children to know of.
func (e *engine) related(p *partition, r *rkcyv1.Related) {
	en := e.cache.get(p, r.GetParent())
	if en == nil || en.instance.GetVersion() == 0 {
		return
	}
	children, changed := withRelated(en.instance.GetRelated(), r)
	if !changed {
		return
	}
	after := &rkcyv1.Instance{Value: en.instance.GetValue(), Version: en.instance.GetVersion(), Related: children}
	for id := range p.holds {
		if p.slots[r.GetParent()] == nil {
			break
		}
		if h := p.holdOf(id, r.GetParent()); h != nil && h.pending.GetVersion() > 0 {
			e.repend(p, h, &rkcyv1.Instance{Value: h.pending.GetValue(), Version: h.pending.GetVersion(), Related: children})
		}
	}
	e.store(p, after, &rkcyv1.Change{Key: r.GetParent(), After: after, EffectiveTimeMs: e.nowMs})
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
