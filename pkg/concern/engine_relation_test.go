package concern

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestParentKnowsChildren(t *testing.T) {
	inBothLayouts(t, func(k *kin) {
		k.run(0, create("parent", "p1", "anna", ""))
		k.run(0, create("parent", "p2", "bert", ""))
		told := func() int { return len(k.log[tpOfTopic("storage.parent")]) }
		for _, c := range []struct {
			what     string
			do       func()
			one, two string // what the parents know then
			changes  int    // of parents
		}{
			{"create", func() { k.run(0, create("child", "c2", "x", "p1")) }, "c2:x", "", 1},
			{"in order of key", func() { k.run(0, create("child", "c1", "y", "p1")) }, "c1:y c2:x", "", 1},
			{"a copied field", func() { k.run(0, rename("child", "c2", "z")) }, "c1:y c2:z", "", 1},
			{"another field", func() { k.run(0, do("child", "c2", "Touch", &person{Payload: []byte("secret")})) }, "c1:y c2:z", "", 0},
			{"move", func() { k.run(0, do("child", "c1", "Move", &person{Concern: "p2"})) }, "c2:z", "c1:y", 2},
			{"move to nobody", func() { k.run(0, do("child", "c1", "Move", &person{Concern: "p9"})) }, "c2:z", "", 1},
			{"move away from all", func() { k.run(0, do("child", "c1", "Move", &person{})) }, "c2:z", "", 0},
			{"delete", func() { k.run(0, remove("child", "c2")) }, "", "", 1},
			{"parent deleted", func() { k.run(0, remove("parent", "p2")) }, "", "", 1},
			{"to one that was deleted", func() { k.run(0, do("child", "c1", "Move", &person{Concern: "p2"})) }, "", "", 0},
			{"before there was a parent", func() { k.run(0, create("parent", "p9", "carl", "")) }, "", "", 1},
		} {
			before := told()
			c.do()
			if n := told() - before; n != c.changes {
				k.t.Errorf("%s: %d changes of parents, want %d", c.what, n, c.changes)
			}
			for range 2 { // from memory, and from the database
				k.knows("p1", c.one)
				if k.database["parent/p2"] != nil && c.what != "parent deleted" {
					k.knows("p2", c.two)
				}
				k.persist()
				if n := len(k.part("parent").instances); n != 0 {
					k.t.Fatalf("%s: %d parents are still in memory", c.what, n)
				}
			}
		}
		k.free()
	})
}

// A parent with its own change in flight learns of children all the same, in
// the value that is committed and in the one that is prepared.
func TestParentIsHeldWhileChildrenChange(t *testing.T) {
	for name, c := range map[string]struct {
		ends     string // name of the child that the transaction makes; "x" exists
		code     txn.Code
		takeOver bool
	}{
		"commit":             {"c9", 0, false},
		"abort":              {"c1", txn.CodeAlreadyExists, false},
		"commit, taken over": {"c9", 0, true},
		"abort, taken over":  {"c1", txn.CodeAlreadyExists, true},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKin(t, false)
			k.run(0, create("parent", "p1", "anna", ""))
			k.run(0, create("parent", "p2", "bert", ""))
			k.run(0, create("child", "c1", "x", "p1"))
			slow := k.submitSteps(do("parent", "p1", "Touch", &person{Payload: []byte("!")}), create("child", c.ends, "new", "p2"))
			k.work("parent", false)
			if len(k.part("parent").holds) != 1 {
				t.Fatal("the parent is not held")
			}
			visit := k.log[tpOfTopic("process.child")]
			late := visit[len(visit)-1]
			k.log[tpOfTopic("process.child")] = visit[:len(visit)-1] // the next visit is on its way for long
			k.run(0, rename("child", "c1", "y"))
			k.knows("p1", "c1:y")
			k.run(0, create("child", "c2", "z", "p1"))
			if c.takeOver {
				k.persist()
				k.takeOver("parent")
			}
			k.knows("p1", "c1:y c2:z")
			late.Offset = 0
			k.append(late)
			k.rest()
			k.ended(slow, c.code)
			k.knows("p1", "c1:y c2:z")
			k.consistent()
			p := &person{}
			k.must(proto.Unmarshal(k.database["parent/p1"].GetValue(), p))
			if string(p.GetPayload()) != "!" == (c.code == 0) {
				t.Errorf("the parent has %q", p.GetPayload())
			}
			k.free()
		})
	}
}

// A transaction may make a parent and its child.
func TestParentAndChildInOneTransaction(t *testing.T) {
	parent, child := create("parent", "p1", "anna", ""), create("child", "c1", "x", "p1")
	for name, steps := range map[string][]txn.TypedStep[*person]{
		"parent first": {parent, child}, "child first": {child, parent},
		"and changed": {parent, child, rename("parent", "p1", "bert"), rename("child", "c1", "x")},
		"and again":   {parent, child, remove("child", "c1"), create("child", "c1", "x", "p1")},
	} {
		t.Run(name, func(t *testing.T) {
			inBothLayouts(t, func(k *kin) {
				k.run(0, steps...)
				k.knows("p1", "c1:x")
				k.consistent()
				k.free()
			})
		})
	}
}

// A child that comes while its parent is in the making is known to it, also if
// the transaction that makes the parent visits it again.
func TestChildOfParentInTheMaking(t *testing.T) {
	k := newKin(t, false)
	maker := k.submitSteps(create("parent", "p1", "anna", ""), create("child", "c9", "x", ""), rename("parent", "p1", "bert"))
	k.work("parent", false)
	process := tpOfTopic("process.child")
	next := k.log[process][0]
	k.log[process] = nil
	k.run(0, create("child", "c1", "x", "p1"))
	k.append(next)
	k.rest()
	k.ended(maker, 0)
	k.knows("p1", "c1:x")
	k.consistent()
	k.free()
}

// Of children that are made at the same time, no more come to be than the
// parent allows, however the engines take turns.
func TestLimitOfChildren(t *testing.T) {
	for turn := range 8 {
		inBothLayouts(t, func(k *kin) {
			k.run(0, create("parent", "p1", "anna", ""))
			var ids []txn.ID
			for i := range 5 {
				ids = append(ids, k.submit(addTo("p1", fmt.Sprint("c", i), "x")))
				if turn>>(i%3)&1 == 1 {
					k.work(kinConcerns[(turn+i)%3], false)
				}
			}
			k.rest()
			made := 0
			for _, id := range ids {
				switch a := k.answer(id); a.GetError().GetCode() {
				case 0:
					made++
				case txn.CodeFailedPrecondition:
				default:
					k.t.Errorf("%v", a.GetError())
				}
			}
			if made != mostChildren {
				k.t.Errorf("%d children were made, want %d", made, mostChildren)
			}
			k.consistent()
			k.free()
		})
	}
}

// A parent that is deleted while a child is made: one of the two is refused.
func TestParentDeletedWhileChildIsMade(t *testing.T) {
	for turn := range 16 {
		inBothLayouts(t, func(k *kin) {
			k.run(0, create("parent", "p1", "anna", ""))
			var add txn.ID
			if turn%2 == 0 {
				add = k.submit(addTo("p1", "c1", "x"))
			}
			gone := k.submitSteps(remove("parent", "p1"))
			if turn%2 == 1 {
				add = k.submit(addTo("p1", "c1", "x"))
			}
			for i := range 3 {
				if turn>>(i+1)&1 == 1 {
					k.work(kinConcerns[(turn+i)%3], false)
				}
			}
			k.rest()
			a, g := k.answer(add).GetError().GetCode(), k.answer(gone).GetError().GetCode()
			if a == 0 && g != txn.CodeFailedPrecondition || g == 0 && a != txn.CodeNotFound || a != 0 && g != 0 {
				k.t.Errorf("adding ended in %v, deleting in %v", a, g)
			}
			k.consistent()
			if (k.database["child/c1"] == nil) != (k.database["parent/p1"] == nil) {
				k.t.Error("a child without parent")
			}
			k.free()
		})
	}
}

// What a parent has to be told while the database is away is not lost.
func TestParentOutOfReach(t *testing.T) {
	for _, takeOver := range []bool{false, true} {
		k := newKin(t, false)
		k.run(0, create("parent", "p1", "anna", ""))
		k.run(0, create("parent", "p2", "bert", ""))
		k.persist()
		k.run(0, create("child", "c1", "x", "p9"), create("child", "c2", "x", "p9"), create("child", "c3", "x", "p9"))
		if len(k.part("parent").instances) != 0 {
			t.Fatal("the parents are in memory")
		}
		// The children are at hand, since they are not persisted yet.
		k.away = true
		for _, step := range []txn.TypedStep[*person]{
			do("child", "c1", "Move", &person{Concern: "p1"}), rename("child", "c1", "y"), rename("child", "c1", "z"),
			do("child", "c2", "Move", &person{Concern: "p1"}), do("child", "c2", "Move", &person{Concern: "p2"}),
			do("child", "c3", "Move", &person{Concern: "p1"}), remove("child", "c3"),
		} {
			k.run(0, step)
			if takeOver {
				k.takeOver("parent")
			}
		}
		if n := len(k.part("parent").untold["p1"]); n != 3 {
			t.Fatalf("%d children are untold, want 3", n)
		}
		k.run(txn.CodeUnavailable, do("parent", "p1", "Show", &person{}))
		k.away = false
		if takeOver {
			k.takeOver("parent")
		}
		k.knows("p1", "c1:z")
		k.knows("p2", "c2:x")
		k.consistent()
		k.free()
	}
}

// A parent that knows too many children to be written is told nothing more, and
// goes on.
func TestTooManyChildren(t *testing.T) {
	k := newKin(t, false)
	k.run(0, create("parent", "p1", "anna", ""))
	name := strings.Repeat("x", 900_000)
	for i := range 6 {
		k.run(0, create("child", fmt.Sprint("c", i), name, "p1"))
	}
	if n := len(k.log[tpOfTopic("error.parent")]); n != 2 {
		t.Errorf("%d records in the error topic, want 2", n)
	}
	if got := len(k.part("parent").instances["p1"].instance.GetRelated()); got != 4 {
		t.Errorf("the parent knows %d children", got)
	}
	k.run(0, rename("child", "c0", "small"))
	k.run(0, remove("child", "c1"))
	k.run(0, rename("child", "c5", "small, too"))
	if got := len(k.part("parent").instances["p1"].instance.GetRelated()); got != 4 { // c0 c2 c3 c5
		t.Errorf("the parent knows %d children", got)
	}
	k.free()
}

// Whatever batch is lost, and whoever takes over when: it comes out the same.
func TestRelationsAndFaults(t *testing.T) {
	scenarios := map[string]struct {
		run  func(k *kin) []txn.ID
		want string // parents know
		name string // names taken
	}{
		"add a child": {func(k *kin) []txn.ID { return []txn.ID{k.submit(addTo("p1", "c2", "new"))} }, "c1:x c2:new|", "anna=p1 bert=p2"},
		"move a child": {func(k *kin) []txn.ID {
			return []txn.ID{k.submitSteps(do("parent", "p2", "Add", &person{}), do("child", "c1", "Move", &person{Concern: "p2"}))}
		}, "|c1:x", "anna=p1 bert=p2"},
		"delete a child":  {func(k *kin) []txn.ID { return []txn.ID{k.submitSteps(remove("child", "c1"))} }, "|", "anna=p1 bert=p2"},
		"rename a parent": {func(k *kin) []txn.ID { return []txn.ID{k.submitSteps(rename("parent", "p1", "carl"))} }, "c1:x|", "bert=p2 carl=p1"},
		"rename and add": {func(k *kin) []txn.ID {
			return []txn.ID{k.submitSteps(rename("parent", "p1", "carl"), create("child", "c2", "y", "p1"), rename("child", "c1", "z"))}
		}, "c1:z c2:y|", "bert=p2 carl=p1"},
		"names change hands": {func(k *kin) []txn.ID {
			a := k.submitSteps(rename("parent", "p1", "carl"))
			k.rest()
			return []txn.ID{a, k.submitSteps(rename("parent", "p2", "anna"))}
		}, "c1:x|", "anna=p2 carl=p1"},
	}
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			inBothLayouts(t, func(outer *kin) {
				for _, mode := range []string{"crash", "take over"} {
					for at := 0; ; at++ {
						k := newKin(outer.t, outer.together)
						k.run(0, create("parent", "p1", "anna", ""), create("parent", "p2", "bert", ""))
						k.run(0, create("child", "c1", "x", "p1"))
						ids := s.run(k)
						batches, hit := 0, false
						for busy := true; busy; {
							busy = false
							for _, c := range kinConcerns {
								crash := mode == "crash" && batches == at
								if k.work(c, crash) {
									busy = true
									if batches == at {
										hit = true
										k.persist()
										k.takeOver(c)
									}
									batches++
								}
							}
						}
						for _, id := range ids {
							k.ended(id, 0)
						}
						one, two, _ := strings.Cut(s.want, "|")
						k.knows("p1", one)
						k.knows("p2", two)
						k.taken(s.name)
						k.consistent()
						k.free()
						if !hit {
							if at == 0 {
								k.t.Fatal("no batch was hit")
							}
							break
						}
						if k.t.Failed() {
							k.t.Fatalf("%s at batch %d", mode, at)
						}
					}
				}
			})
		})
	}
}

// What a parent is told in a record that cannot be is quarantined.
func TestRelatedRecordOfElsewhere(t *testing.T) {
	k := newKin(t, false)
	for _, r := range []*rkcyv1.Related{{Concern: "child", Parent: "p1"}, {Concern: "parent"}, {}} {
		raw, err := proto.Marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Related{Related: r}})
		k.must(err)
		k.append(recordTo("process.parent", raw))
	}
	k.rest()
	if n := len(k.log[tpOfTopic("error.parent")]); n != 3 {
		t.Errorf("%d records in the error topic", n)
	}
	k.free()
}
