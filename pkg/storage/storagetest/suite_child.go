package storagetest

import (
	"fmt"
	"math/rand/v2"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// own returns an instance with words, parts and, if not "", a note.
func (k Kind) own(id string, words, parts []string, note string) proto.Message {
	m := k.Thing(id, map[string]any{"order": int32(len(words))}) //nolint:gosec // small
	r := m.ProtoReflect()
	for _, w := range words {
		r.Mutable(k.field("words")).List().Append(protoreflect.ValueOfString(w))
	}
	for _, name := range parts {
		all := r.Mutable(k.field("parts")).Map()
		part := all.NewValue()
		part.Message().Set(part.Message().Descriptor().Fields().ByName("name"), protoreflect.ValueOfString(name+note))
		all.Set(protoreflect.ValueOfString(name).MapKey(), part)
	}
	if note != "" {
		r.Set(k.field("maybe_text"), protoreflect.ValueOfString(note))
	}
	return m
}

// children: whatever the order of changes, in a batch or over several, each
// instance comes back with the parts that are in tables of their own.
func (s *suite) children() {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	texts := []string{"a", "b", "ä", "Z", "z", "", "it's", `"`, `\`, "{}", "NULL", "e\u0301"}
	some := func(unique bool) []string {
		var out []string
		for _, i := range random.Perm(len(texts))[:random.IntN(6)] {
			out = append(out, texts[i])
		}
		if !unique && len(out) > 0 {
			out = append(out, out[0])
		}
		return out
	}
	state := map[string]*rkcyv1.Change{}
	offset := int64(0)
	for range 40 {
		var changes []*rkcyv1.Change
		for range 1 + random.IntN(8) {
			key := fmt.Sprintf("k%d", random.IntN(5))
			c := Delete(key)
			if random.IntN(4) > 0 {
				version := state[key].GetAfter().GetVersion() + 1
				c = Put(s.k.own(key, some(false), some(true), texts[random.IntN(len(texts))]), version)
			}
			state[key] = c
			changes = append(changes, c)
		}
		next := offset + int64(len(changes))
		s.apply(Own, offset, next, changes...)
		offset = next
		for key, c := range state {
			if c.GetAfter().GetVersion() == 0 {
				c = nil
			}
			s.want(Own, key, c)
		}
	}
	// Deleted and made again in one batch, with less.
	again := Put(s.k.own("k0", []string{"only"}, nil, ""), 1)
	s.apply(Own, offset, offset+3, Put(s.k.own("k0", texts, texts, "note"), 9), Delete("k0"), again)
	s.want(Own, "k0", again)
	// Nothing of a batch that is refused, or comes too late, is there.
	late := Put(s.k.own("k0", texts, texts, "late"), 10)
	if err := s.target.Apply(s.Context(), []storage.Batch{{Partition: part(Own, 0), From: offset, Next: offset + 1, Changes: []*rkcyv1.Change{late}}}); err == nil {
		s.Error("a batch from the past was applied")
	}
	s.want(Own, "k0", again)
}

// manyChildren need several statements.
func (s *suite) manyChildren() {
	var changes []*rkcyv1.Change
	for i := range 30 {
		words := make([]string, 2000)
		for j := range words {
			words[j] = fmt.Sprintf("%d-%d-%0300d", i, j, j)
		}
		changes = append(changes, Put(s.k.own(fmt.Sprint(i), words, nil, ""), 1))
	}
	s.apply(Own, 0, 30, changes...)
	for _, c := range changes {
		s.want(Own, c.GetKey(), c)
	}
	var gone []*rkcyv1.Change
	for _, c := range changes {
		gone = append(gone, Delete(c.GetKey()))
	}
	s.apply(Own, 30, 60, gone...)
	s.want(Own, "7", nil)
}
