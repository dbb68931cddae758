package storagetest

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// related: what an instance knows of its children comes back as it was.
func (s *suite) related() {
	const children = 300
	with := func(c *rkcyv1.Change, related ...*rkcyv1.RelatedInstance) *rkcyv1.Change {
		c.After.Related = related
		return c
	}
	child := func(key string, value []byte) *rkcyv1.RelatedInstance {
		return &rkcyv1.RelatedInstance{Concern: "child", Key: key, Value: value}
	}
	var many []*rkcyv1.RelatedInstance
	for i := range children {
		many = append(many, child(fmt.Sprintf("c%03d", i), []byte(strings.Repeat("\x00\xff", i))))
	}
	check := func(want ...*rkcyv1.Change) {
		s.Helper()
		for _, c := range want {
			got, err := s.target.Load(s.Context(), First, []string{c.GetKey()})
			if err != nil {
				s.Fatal(err)
			}
			// The values are compared elsewhere.
			have := &rkcyv1.Instance{Version: got[c.GetKey()].GetVersion(), Related: got[c.GetKey()].GetRelated()}
			if w := (&rkcyv1.Instance{Version: c.GetAfter().GetVersion(), Related: c.GetAfter().GetRelated()}); !proto.Equal(have, w) {
				s.Errorf("%s knows of %d children, version %d; want %d, version %d", c.GetKey(),
					len(have.GetRelated()), have.GetVersion(), len(w.GetRelated()), w.GetVersion())
			}
		}
	}
	one := with(s.k.number("one", 1), child("c\"', {}", nil))
	none := s.k.number("none", 1)
	lots := with(s.k.number("lots", 1), many...)
	s.apply(First, 0, 3, one, none, lots)
	check(one, none, lots)
	// The same version with other children, which is how a parent learns of
	// them; the last one of a batch wins.
	one, none, lots = s.k.number("one", 1), with(s.k.number("none", 1), many[7]), with(s.k.number("lots", 1), many[1:]...)
	s.apply(First, 3, 9, with(s.k.number("one", 1), many[0]), one, none, lots)
	check(one, none, lots)
	// A deleted instance leaves nothing to one that is made after it.
	again := s.k.number("lots", 1)
	s.apply(First, 9, 11, Delete("lots"), again)
	check(again)
}

// uniqueValues: the values of a unique field, and who has them.
func (s *suite) uniqueValues() {
	take := func(value, owner string) *rkcyv1.Change {
		return Put(&rkcyv1.UniqueEntry{Value: value, Owner: owner}, 1)
	}
	check := func(value, owner string) {
		s.Helper()
		got, err := s.target.Load(s.Context(), Names, []string{value})
		if err != nil {
			s.Fatal(err)
		}
		e := &rkcyv1.UniqueEntry{}
		if err := proto.Unmarshal(got[value].GetValue(), e); err != nil {
			s.Fatal(err)
		}
		if want := (&rkcyv1.UniqueEntry{Value: value, Owner: owner}); owner == "" && got[value] != nil || owner != "" && !proto.Equal(e, want) {
			s.Errorf("%q is taken by %q, want %q", value, e.GetOwner(), owner)
		}
	}
	s.apply(Names, 0, 3, take("anna", "p1"), take("bert's", "p2"), take(`"carl"`, "p3"))
	check("anna", "p1")
	check("bert's", "p2")
	check(`"carl"`, "p3")
	s.apply(Names, 3, 6, Delete("anna"), Delete(`"carl"`), take(`"carl"`, "p1"))
	check("anna", "")
	check(`"carl"`, "p1")
	if err := storage.UniqueMapping(Names).Validate(); err != nil {
		s.Error(err)
	}
}
