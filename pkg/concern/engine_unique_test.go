package concern

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestUniqueValues(t *testing.T) {
	type steps = []txn.TypedStep[*person]
	name := func(key, name string) txn.TypedStep[*person] { return create("parent", key, name, "") }
	cases := []struct {
		what  string
		steps steps
		code  txn.Code
		taken string
	}{
		{"create", steps{name("p1", "anna")}, 0, "anna=p1"},
		{"create with a name that is taken", steps{name("p2", "anna")}, txn.CodeAlreadyExists, "anna=p1"},
		{"without a name", steps{name("p3", "")}, 0, "anna=p1"},
		{"another without a name", steps{name("p4", "")}, 0, "anna=p1"},
		{"another", steps{name("p2", "bert")}, 0, "anna=p1 bert=p2"},
		{"rename to what is taken", steps{rename("parent", "p2", "anna")}, txn.CodeAlreadyExists, "anna=p1 bert=p2"},
		{"to the same", steps{rename("parent", "p2", "bert")}, 0, "anna=p1 bert=p2"},
		{"another field", steps{do("parent", "p2", "Touch", &person{Payload: []byte("x")})}, 0, "anna=p1 bert=p2"},
		{"rename", steps{rename("parent", "p1", "carl")}, 0, "bert=p2 carl=p1"},
		{"to what was freed", steps{rename("parent", "p2", "anna")}, 0, "anna=p2 carl=p1"},
		{"delete", steps{remove("parent", "p2")}, 0, "carl=p1"},
		{"create with what was freed", steps{name("p2", "anna")}, 0, "anna=p2 carl=p1"},
		{"there and back in one visit", steps{rename("parent", "p2", "dora"), rename("parent", "p2", "anna")}, 0, "anna=p2 carl=p1"},
		{"made and gone in one visit", steps{name("p5", "anna"), remove("parent", "p5")}, 0, "anna=p2 carl=p1"},
		{"name taken away", steps{rename("parent", "p2", "")}, 0, "carl=p1"},
		{"name given", steps{rename("parent", "p2", "bert")}, 0, "bert=p2 carl=p1"},
		{"two of one name", steps{name("p6", "emil"), name("p7", "emil")}, txn.CodeAlreadyExists, "bert=p2 carl=p1"},
		{"one hands over to another", steps{remove("parent", "p2"), name("p8", "bert")}, 0, "bert=p8 carl=p1"},
		{"refused by another step", steps{name("p9", "fritz"), remove("child", "nobody")}, txn.CodeNotFound, "bert=p8 carl=p1"},
		{"longest", steps{name("pa", strings.Repeat("n", txn.MaxKeyBytes))}, 0, "bert=p8 carl=p1 " + strings.Repeat("n", txn.MaxKeyBytes) + "=pa"},
		{"too long", steps{name("pb", strings.Repeat("n", txn.MaxKeyBytes+1))}, txn.CodeInvalidArgument, "bert=p8 carl=p1 " + strings.Repeat("n", txn.MaxKeyBytes) + "=pa"},
	}
	inBothLayouts(t, func(k *kin) {
		for _, c := range cases {
			a := k.run(c.code, c.steps...)
			if c.code == 0 && len(a.GetResults()) != len(c.steps) {
				k.t.Errorf("%s: %d results for %d steps", c.what, len(a.GetResults()), len(c.steps))
			}
			k.taken(c.taken)
			if k.free(); k.t.Failed() {
				k.t.Fatalf("after %q", c.what)
			}
		}
	})
}

// A refusal names the constraint, and nothing of what was refused is left: not
// in memory, not in the database, not in the index.
func TestUniqueValueIsTaken(t *testing.T) {
	inBothLayouts(t, func(k *kin) {
		k.run(0, create("parent", "p1", "anna", ""))
		a := k.run(txn.CodeAlreadyExists, create("parent", "p2", "anna", ""))
		for detail, want := range map[string]string{
			txn.DetailConstraint: "parent_name", txn.DetailField: "name", txn.DetailConcern: "parent_name", txn.DetailKey: "anna",
		} {
			if got := a.GetError().GetDetails()[detail]; got != want {
				k.t.Errorf("detail %s is %q, want %q", detail, got, want)
			}
		}
		if m := a.GetError().GetMessage(); !strings.Contains(m, `name "anna" is taken`) {
			k.t.Errorf("the message is %q", m)
		}
		if en := k.part("parent").instances["p2"]; en != nil && en.instance.GetVersion() != 0 {
			k.t.Error("it is in memory")
		}
		for _, r := range k.log[tpOfTopic("storage.parent")] {
			if string(r.Key) == "p2" {
				k.t.Error("it is in the storage topic")
			}
		}
		k.taken("anna=p1")
		k.run(txn.CodeNotFound, do("parent", "p2", "Show", &person{}))
		k.free()
	})
}

// Whoever takes turns how: of those who want a name at the same time, one gets
// it.
func TestUniqueValueWantedByMany(t *testing.T) {
	for turn := range 27 {
		inBothLayouts(t, func(k *kin) {
			k.run(0, create("parent", "p9", "zoe", ""))
			ids := []txn.ID{k.submitSteps(create("parent", "p1", "anna", ""))}
			k.work(kinConcerns[turn%3], false)
			ids = append(ids, k.submitSteps(create("parent", "p2", "anna", "")))
			k.work(kinConcerns[turn/3%3], false)
			ids = append(ids, k.submitSteps(rename("parent", "p9", "anna")))
			k.work(kinConcerns[turn/9%3], false)
			k.rest()
			won := -1
			for i, id := range ids {
				switch a := k.answer(id); {
				case a.GetError() == nil && won < 0:
					won = i
				case a.GetError() == nil:
					k.t.Errorf("%d and %d both have the name", won, i)
				case a.GetError().GetCode() != txn.CodeAlreadyExists:
					k.t.Errorf("%v", a.GetError())
				}
			}
			switch won {
			case 0, 1:
				k.taken(fmt.Sprintf("anna=p%d zoe=p9", won+1))
			case 2:
				k.taken("anna=p9")
			default:
				k.t.Error("nobody has the name")
			}
			parents := 0
			for at := range k.database {
				if strings.HasPrefix(at, "parent/") {
					parents++
				}
			}
			if want := 2 - won/2; parents != want {
				k.t.Errorf("there are %d parents, want %d", parents, want)
			}
			k.free()
		})
	}
}

// A transaction that dies with steps that were added to it starts again without
// them: the next attempt may see another value.
func TestAddedStepsDoNotOutliveTheirAttempt(t *testing.T) {
	k := newKin(t, false)
	k.run(0, create("parent", "p1", "anna", ""))
	k.run(0, create("parent", "p2", "bert", ""))
	// The older one holds the entry of the name that it gives up, and is on its
	// way to the one that it wants.
	older := k.submitSteps(rename("parent", "p1", "zoe"))
	k.work("parent", false)
	k.part("parent_name").instances = map[string]*entry{} // so that it hops
	k.persist()
	k.work("parent_name", false)
	if len(k.part("parent_name").holds) != 1 {
		t.Fatal("the entry is not held")
	}
	process := tpOfTopic("process.parent_name")
	next := k.log[process][len(k.log[process])-1]
	k.log[process] = k.log[process][:len(k.log[process])-1]
	// The younger one holds p2 and wants that name: it dies.
	younger := k.submitSteps(rename("parent", "p2", "anna"))
	k.rest()
	if got := k.engines["parent_name"].stats.Deaths; got != 1 {
		t.Fatalf("%d deaths, want 1", got)
	}
	// Meanwhile p2 gets another name, which the second attempt has to give back.
	k.run(0, rename("parent", "p2", "carl"))
	k.takeOver("parent_name")
	k.append(next)
	k.rest()
	k.ended(older, 0)
	a := k.ended(younger, 0)
	if a.GetAttempts() != 2 || len(a.GetResults()) != 1 {
		t.Errorf("%d attempts, %d results; want 2 and 1", a.GetAttempts(), len(a.GetResults()))
	}
	k.taken("anna=p2 zoe=p1")
	k.free()
}

// extend keeps all that it does not say it changes.
func TestExtend(t *testing.T) {
	full := &rkcyv1.Transaction{}
	fill(full.ProtoReflect())
	full.Steps = []*rkcyv1.Step{{Concern: "parent", Key: "p", Command: "x"}}
	full.Visits = []*rkcyv1.VisitPlan{{Steps: []uint32{0}}}
	full.SubmittedSteps = 0
	v := &rkcyv1.Visit{Txn: full, Attempt: 3, Results: []*rkcyv1.StepResult{{Version: 1}}, Participants: []*rkcyv1.Participant{{Topic: "t"}},
		Related: []*rkcyv1.Related{{Parent: "q"}}}
	before := proto.CloneOf(v)
	added := []*rkcyv1.Step{{Concern: "z", Key: "2", Command: "c"}, {Concern: "z", Key: "1", Command: "d"}}
	once, results := extend(v, v.GetResults(), added[:1])
	twice, results := extend(once, results, added[1:])
	if !proto.Equal(v, before) {
		t.Error("the visit itself was changed")
	}
	want := proto.CloneOf(before)
	want.Txn.Steps = append(want.Txn.Steps, added...)
	want.Txn.Visits = append(want.Txn.Visits, &rkcyv1.VisitPlan{Steps: []uint32{1}}, &rkcyv1.VisitPlan{Steps: []uint32{2}})
	want.Txn.SubmittedSteps = 1
	want.Results = append(want.Results, &rkcyv1.StepResult{}, &rkcyv1.StepResult{})
	if !proto.Equal(twice, want) || len(results) != 3 {
		t.Errorf("extended to\n%v\nwant\n%v", twice, want)
	}
	if again := txn.Submitted(twice.GetTxn()); !proto.Equal(again, func() *rkcyv1.Transaction {
		x := proto.CloneOf(before.GetTxn())
		x.SubmittedSteps = again.GetSubmittedSteps()
		return x
	}()) {
		t.Errorf("submitted was\n%v\nnow\n%v", before.GetTxn(), again)
	}
}

// A saga cannot change unique values, and a transaction cannot grow beyond what
// any may have.
func TestUniqueValuesHaveBounds(t *testing.T) {
	k := newKin(t, false)
	k.run(0, create("parent", "p1", "anna", ""))
	id := k.submitTo(txn.Saga(), func(b *txn.Builder) {
		txn.Add(b, rename("parent", "p1", "bert").WithoutCompensation())
	})
	k.rest()
	if m := k.ended(id, txn.CodeFailedPrecondition).GetError().GetMessage(); !strings.Contains(m, "unique") {
		t.Errorf("refused with %q", m)
	}
	id = k.submitTo(txn.Saga(), func(b *txn.Builder) {
		txn.Add(b, do("parent", "p1", "Touch", &person{Payload: []byte("x")}).WithoutCompensation())
	})
	k.rest()
	k.ended(id, 0)
	k.taken("anna=p1")
	id = k.submit(func(b *txn.Builder) {
		for i := range txn.MaxSteps/2 + 1 {
			txn.Add(b, create("parent", fmt.Sprint("q", i), fmt.Sprint("n", i), ""))
		}
	})
	k.rest()
	if m := k.ended(id, txn.CodeInvalidArgument).GetError().GetMessage(); !strings.Contains(m, fmt.Sprint(txn.MaxSteps)) {
		t.Errorf("refused with %q", m)
	}
	k.taken("anna=p1")
	k.free()
}

// fill sets every field, to what tells it from others.
func fill(m protoreflect.Message) {
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		scalar := func() protoreflect.Value {
			switch fd.Kind() {
			case protoreflect.StringKind:
				return protoreflect.ValueOfString(string(fd.Name()))
			case protoreflect.BytesKind:
				return protoreflect.ValueOfBytes([]byte(fd.Name()))
			case protoreflect.BoolKind:
				return protoreflect.ValueOfBool(true)
			case protoreflect.EnumKind:
				return protoreflect.ValueOfEnum(1)
			case protoreflect.Int32Kind:
				return protoreflect.ValueOfInt32(int32(fd.Number()))
			case protoreflect.Uint32Kind:
				return protoreflect.ValueOfUint32(uint32(fd.Number())) //nolint:gosec // positive
			case protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
				return protoreflect.ValueOfInt64(int64(fd.Number()))
			default:
				return protoreflect.ValueOfUint64(uint64(fd.Number())) //nolint:gosec // positive
			}
		}
		switch {
		case fd.IsMap():
			m.Mutable(fd).Map().Set(protoreflect.ValueOfString("k").MapKey(), protoreflect.ValueOfString("v"))
		case fd.IsList() && fd.Message() != nil:
			fill(m.Mutable(fd).List().AppendMutable().Message())
		case fd.IsList():
			m.Mutable(fd).List().Append(scalar())
		case fd.Message() != nil:
			fill(m.Mutable(fd).Message())
		default:
			m.Set(fd, scalar())
		}
	}
}
