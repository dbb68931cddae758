package concern

import (
	"context"
	"fmt"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// version is a program with one version of the messages of a Concern, whose
// children are of the same kind.
type version struct {
	t    *testing.T
	desc protoreflect.MessageDescriptor
}

func newVersion(t *testing.T, fields string) version {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{
		"hero.proto": `syntax = "proto3"; message Hero { ` + fields + ` }`,
	})}}
	files, err := compiler.Compile(context.Background(), "hero.proto")
	if err != nil {
		t.Fatal(err)
	}
	return version{t, files[0].Messages().ByName("Hero")}
}

func (v version) message() proto.Message { return dynamicpb.NewMessage(v.desc) }

func (v version) get(m proto.Message, field protoreflect.Name) string {
	fd := v.desc.Fields().ByName(field)
	if fd == nil {
		return ""
	}
	return m.ProtoReflect().Get(fd).String()
}

func (v version) hero(fields ...string) proto.Message {
	m := dynamicpb.NewMessage(v.desc)
	for i := 0; i < len(fields); i += 2 {
		fd := v.desc.Fields().ByName(protoreflect.Name(fields[i]))
		if fd == nil {
			v.t.Fatalf("no field %s", fields[i])
		}
		m.Set(fd, protoreflect.ValueOfString(fields[i+1]))
	}
	return m
}

// definition has the command Set, which sets every field that its payload does.
func (v version) definition(name string) Definition {
	copied := []protoreflect.Name{"id", "name", "rank"}
	return Definition{
		Name: name, New: v.message, KeyOf: func(m proto.Message) string { return v.get(m, "id") },
		Relations: []Relation{{
			Field: "boss", Parent: "parent", ParentKey: func(m proto.Message) string { return v.get(m, "boss") },
			Copy: func(m proto.Message) proto.Message {
				out := dynamicpb.NewMessage(v.desc)
				for _, f := range copied {
					if fd := v.desc.Fields().ByName(f); fd != nil && m.ProtoReflect().Has(fd) {
						out.Set(fd, m.ProtoReflect().Get(fd))
					}
				}
				return out
			},
		}},
		Commands: []Command{{
			Name: "Set", NewPayload: v.message, NewResult: v.message,
			Run: func(_ Context, instance, payload proto.Message) (proto.Message, error) {
				payload.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
					instance.ProtoReflect().Set(fd, value)
					return true
				})
				return instance, nil
			},
		}, {
			Name: "Show", ReadOnly: true, NewPayload: v.message, NewResult: v.message,
			Run: func(ctx Context, instance, _ proto.Message) (proto.Message, error) {
				all, err := Related(ctx, "child", func() *dynamicpb.Message { return dynamicpb.NewMessage(v.desc) })
				text := ""
				for _, c := range all {
					text += fmt.Sprintf("%s:%s:%s ", v.get(c, "id"), v.get(c, "name"), v.get(c, "rank"))
				}
				return v.hero("id", v.get(instance, "id"), "name", text), err
			},
		}},
	}
}

// rollOut replaces the program of every processor, in the middle of its work.
func (k *kin) rollOut(v version) {
	k.t.Helper()
	for _, name := range []string{"parent", "child"} {
		set, err := newCommandSet(v.definition(name))
		k.must(err)
		s := *k.served["process."+name]
		s.commands = set
		k.served["process."+name] = &s
	}
	k.takeOver(kinConcerns...)
}

func (v version) step(concern, key, command string, payload proto.Message) txn.TypedStep[*dynamicpb.Message] {
	return txn.NewStep(concern, key, command, 0, payload, func() *dynamicpb.Message { return dynamicpb.NewMessage(v.desc) })
}

// submitHeroes submits steps, which run in order of (Concern, key).
func (k *kin) submitHeroes(steps ...txn.TypedStep[*dynamicpb.Message]) txn.ID {
	return k.submit(func(b *txn.Builder) {
		for _, s := range steps {
			txn.Add(b, s)
		}
	})
}

// A Concern gets fields while transactions are in flight. What a program of
// before has written is understood by the one of after, and the other way
// round: who rolls back loses nothing of what has been written meanwhile.
func TestFieldsAreAdded(t *testing.T) {
	before := newVersion(t, "string id = 1; string name = 2; string boss = 3;")
	after := newVersion(t, "string id = 1; string name = 2; string boss = 3; string rank = 4; repeated string medals = 5;")
	inBothLayouts(t, func(k *kin) {
		is := func(v version, concern, key string, fields ...string) {
			k.t.Helper()
			id := k.submitHeroes(v.step(concern, key, txn.CommandRead, v.message()))
			k.rest()
			got := v.message()
			k.must(proto.Unmarshal(k.ended(id, 0).GetResults()[0].GetValue(), got))
			for i := 0; i < len(fields); i += 2 {
				if have := v.get(got, protoreflect.Name(fields[i])); have != fields[i+1] {
					k.t.Errorf("%s %s: %s is %q, want %q", concern, key, fields[i], have, fields[i+1])
				}
			}
		}
		knows := func(v version, want string) {
			k.t.Helper()
			id := k.submitHeroes(v.step("parent", "p1", "Show", v.message()))
			k.rest()
			got := v.message()
			k.must(proto.Unmarshal(k.ended(id, 0).GetResults()[0].GetValue(), got))
			if have := v.get(got, "name"); have != want {
				k.t.Errorf("the parent knows %q, want %q", have, want)
			}
		}
		// slow stops in the middle, with the child held and more to do.
		slow := func(v version, parent, child []string) txn.ID {
			id := k.submitHeroes(v.step("parent", "p1", "Set", v.hero(parent...)), v.step("child", "c1", "Set", v.hero(child...)))
			if !k.together {
				k.work("child", false)
				if len(k.part("child").holds) != 1 {
					k.t.Fatal("nothing is in flight")
				}
			}
			return id
		}
		k.rollOut(before)
		id := k.submitHeroes(before.step("parent", "p1", txn.CommandCreate, before.hero("id", "p1", "name", "anna")),
			before.step("child", "c1", txn.CommandCreate, before.hero("id", "c1", "name", "x", "boss", "p1")))
		k.rest()
		k.ended(id, 0)
		first := slow(before, []string{"name", "berta"}, []string{"name", "y"})

		k.rollOut(after)
		k.rest()
		k.ended(first, 0)
		is(after, "parent", "p1", "name", "berta", "rank", "")
		is(after, "child", "c1", "name", "y", "boss", "p1")
		knows(after, "c1:y: ")
		id = k.submitHeroes(after.step("parent", "p1", "Set", after.hero("rank", "general")), after.step("child", "c1", "Set", after.hero("rank", "major")))
		k.rest()
		k.ended(id, 0)
		knows(after, "c1:y:major ")
		second := slow(after, []string{"name", "bea"}, []string{"name", "yy"})

		k.rollOut(before) // rolled back, in the middle again
		k.rest()
		k.ended(second, 0)
		is(before, "parent", "p1", "name", "bea")
		is(before, "child", "c1", "name", "yy")
		id = k.submitHeroes(before.step("parent", "p1", "Set", before.hero("name", "carla")), before.step("child", "c1", "Set", before.hero("name", "z")))
		k.rest()
		k.ended(id, 0)
		is(before, "parent", "p1", "name", "carla")
		knows(before, "c1:z: ")

		k.rollOut(after)
		is(after, "parent", "p1", "name", "carla", "rank", "general")
		is(after, "child", "c1", "name", "z", "rank", "major")
		// The one from before did not copy what it does not know; the next change
		// of the child tells.
		id = k.submitHeroes(after.step("child", "c1", "Set", after.hero("name", "zz")))
		k.rest()
		k.ended(id, 0)
		knows(after, "c1:zz:major ")
		k.free()
	})
}
