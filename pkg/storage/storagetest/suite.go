package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Target is what the suite needs: a target that can be read.
type Target interface {
	storage.Target
	Load(ctx context.Context, concern string, keys []string) (map[string]*rkcyv1.Instance, error)
}

// Concerns of the suite. First and Second are of the same Kind; others refer to
// instances of First.
const (
	First  = "first"
	Second = "second"
	// Names has the values of a unique field.
	Names = "first_name"
	// Own has tables of its own for parts of an instance.
	Own = "own"
)

// Mappings returns those that a target for Run must have been made with.
func Mappings(k Kind) []storage.Mapping {
	first := k.Mapping(First, "first")
	first.Related = true
	return []storage.Mapping{first, k.Mapping(Second, "user"), storage.UniqueMapping(Names), k.OwnMapping(Own, "own")}
}

// Run checks a kind of target. open returns a fresh, empty one.
func Run(t *testing.T, open func(t *testing.T, mappings []storage.Mapping) Target) {
	for _, c := range []struct {
		name string
		run  func(s *suite)
	}{
		{"EveryKind", (*suite).everyKind},
		{"LastVersionWins", (*suite).lastVersionWins},
		{"DeleteAndAgain", (*suite).deleteAndAgain},
		{"Watermarks", (*suite).watermarks},
		{"Replay", (*suite).replay},
		{"AllOrNothing", (*suite).allOrNothing},
		{"Damaged", (*suite).damaged},
		{"TwoWriters", (*suite).twoWriters},
		{"ManyRows", (*suite).manyRows},
		{"Children", (*suite).children},
		{"ManyChildren", (*suite).manyChildren},
		{"Related", (*suite).related},
		{"UniqueValues", (*suite).uniqueValues},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := NewKind()
			c.run(&suite{T: t, k: k, target: open(t, Mappings(k))})
		})
	}
}

type suite struct {
	*testing.T
	k      Kind
	target Target
}

func part(concern string, n int32) storage.Partition {
	return storage.Partition{Concern: concern, Generation: 1, Partition: n}
}

func (s *suite) apply(concern string, from, next int64, changes ...*rkcyv1.Change) {
	s.Helper()
	err := s.target.Apply(s.Context(), []storage.Batch{{Partition: part(concern, 0), From: from, Next: next, Changes: changes}})
	if err != nil {
		s.Fatal(err)
	}
}

// want checks that the target has an instance, or none for nil.
func (s *suite) want(concern, key string, want *rkcyv1.Change) {
	s.Helper()
	got, err := s.target.Load(s.Context(), concern, []string{key, "no such key"})
	if err != nil {
		s.Fatal(err)
	}
	if want == nil {
		if len(got) != 0 {
			s.Errorf("%s %q is there: %v", concern, key, got)
		}
		return
	}
	if len(got) != 1 || got[key].GetVersion() != want.GetAfter().GetVersion() {
		s.Errorf("%s %q: got %v, want version %d", concern, key, got, want.GetAfter().GetVersion())
		return
	}
	a, b := s.k.New(), s.k.New()
	if err := errors.Join(proto.Unmarshal(got[key].GetValue(), a), proto.Unmarshal(want.GetAfter().GetValue(), b)); err != nil {
		s.Fatal(err)
	}
	if !proto.Equal(a, b) {
		s.Errorf("%s %q:\n got %v\nwant %v", concern, key, a, b)
	}
}

func (s *suite) mark(p storage.Partition) int64 {
	s.Helper()
	got, err := s.target.Watermarks(s.Context(), []storage.Partition{p})
	if err != nil {
		s.Fatal(err)
	}
	return got[p]
}

// weird are texts that are easily broken on their way.
var weird = []string{
	"", "NULL", "null", `{}`, `{"a":"b"}`, `"`, `\`, `\\"`, `,`, `{a,b}`, `'; DROP TABLE first; --`, "$1", "\n\r\t\x01\x7f",
	"äöü€😀", "e\u0301", "\ufeff", "\u2028", "%s%d", strings.Repeat("long ", 200_000),
}

func (s *suite) everyKind() {
	desc := s.k.desc.Fields()
	piece := func(name string, n int64) protoreflect.Message {
		m := dynamicpb.NewMessage(desc.ByName("part").Message())
		m.Set(m.Descriptor().Fields().ByName("name"), protoreflect.ValueOfString(name))
		m.Set(m.Descriptor().Fields().ByName("n"), protoreflect.ValueOfInt64(n))
		return m
	}
	full := func(id, text string) proto.Message {
		m := s.k.Thing(id, map[string]any{
			"user": text, "flag": true, "order": int32(math.MinInt32), "big": int64(math.MinInt64), "unsigned": uint32(math.MaxUint32),
			"huge": uint64(math.MaxUint64), "real": float32(1) / 3, "double": math.Pi, "raw": []byte{0, 1, 255, '\\', '"'},
			"color": protoreflect.EnumNumber(7), "part": piece(text, math.MaxInt64),
			"maybe_text": text, "maybe_flag": false, "maybe_int": int32(0), "maybe_big": int64(math.MaxInt64), "maybe_real": float32(0),
			"maybe_double": math.Inf(-1), "maybe_raw": []byte{},
		}).ProtoReflect()
		words := m.Mutable(desc.ByName("words")).List()
		words.Append(protoreflect.ValueOfString(text))
		words.Append(protoreflect.ValueOfString("second"))
		m.Mutable(desc.ByName("parts")).Map().Set(protoreflect.ValueOfString(text).MapKey(), protoreflect.ValueOfMessage(piece(text, -1)))
		m.Set(desc.ByName("right"), protoreflect.ValueOfMessage(piece("right", 1)))
		return m.Interface()
	}
	var changes []*rkcyv1.Change
	for i, text := range weird {
		changes = append(changes, Put(full(fmt.Sprintf("full-%d", i), text), uint64(i+1))) //nolint:gosec // small
		if text != "" && len(text) < 500 {
			changes = append(changes, Put(s.k.Thing(text, nil), 1))
		}
	}
	changes = append(changes,
		Put(s.k.Thing("empty", nil), 1),
		Put(s.k.Thing("not-a-number", map[string]any{"real": float32(math.Inf(1)), "double": math.NaN()}), 1),
		Put(s.k.Thing("left", map[string]any{"left": "", "raw": make([]byte, 1<<20)}), math.MaxInt64),
		// What jsonb cannot hold as it is.
		Put(s.k.Thing("nul", map[string]any{"part": piece("a\x00b", 1)}), 1))
	s.apply(First, 0, int64(len(changes)), changes...)
	for _, c := range changes {
		s.want(First, c.GetKey(), c)
	}
	// And over rows that are there, in one transaction of two Concerns.
	for _, c := range changes {
		c.After.Version = max(c.GetAfter().GetVersion(), 100)
	}
	err := s.target.Apply(s.Context(), []storage.Batch{
		{Partition: part(Second, 3), Next: 5, Changes: changes},
		{Partition: part(First, 0), From: int64(len(changes)), Next: 1000, Changes: changes},
	})
	if err != nil {
		s.Fatal(err)
	}
	for _, c := range changes {
		s.want(First, c.GetKey(), c)
		s.want(Second, c.GetKey(), c)
	}
}

func (s *suite) lastVersionWins() {
	a3, b2 := s.k.number("a", 3), s.k.number("b", 2)
	s.apply(First, 0, 7,
		s.k.number("a", 1), s.k.number("b", 1), s.k.number("a", 2), s.k.number("c", 1), b2, a3, Delete("c"))
	s.want(First, "a", a3)
	s.want(First, "b", b2)
	s.want(First, "c", nil)
}

func (s *suite) deleteAndAgain() {
	again := s.k.number("a", 1)
	s.apply(First, 0, 1, s.k.number("a", 5))
	s.apply(First, 1, 2, Delete("a"), Delete("never there"), Delete("nul\x00"))
	s.want(First, "a", nil)
	s.apply(First, 2, 3, again)
	s.want(First, "a", again)
	s.apply(First, 3, 4, Delete("a"), s.k.number("a", 1), Delete("a"), s.k.number("a", 2))
	s.want(First, "a", s.k.number("a", 2))
}

func (s *suite) watermarks() {
	ask := []storage.Partition{part(First, 0), part(First, 1), part(Second, 0), {Concern: First, Generation: 2, Partition: 0}}
	s.apply(First, 0, 10, s.k.number("a", 1))
	s.apply(First, 10, 25)
	got, err := s.target.Watermarks(s.Context(), ask)
	if err != nil || len(got) != len(ask) || got[ask[0]] != 25 || got[ask[1]] != 0 || got[ask[2]] != 0 || got[ask[3]] != 0 {
		s.Errorf("got %v, %v", got, err)
	}
	if got, err := s.target.Watermarks(s.Context(), nil); err != nil || len(got) != 0 {
		s.Errorf("got %v, %v", got, err)
	}
	if err := s.target.Apply(s.Context(), nil); err != nil {
		s.Error(err)
	}
	// Never written, but the writer believes it was; and the other way round.
	for _, b := range []storage.Batch{{Partition: part(First, 1), From: 3, Next: 4}, {Partition: part(First, 0), From: 0, Next: 4}} {
		b.Changes = []*rkcyv1.Change{s.k.number("x", 1)}
		if err := s.target.Apply(s.Context(), []storage.Batch{b}); !errors.Is(err, storage.ErrStale) || errors.Is(err, storage.ErrPermanent) {
			s.Errorf("%+v gave %v", b, err)
		}
	}
	s.want(First, "x", nil)
}

func (s *suite) replay() {
	batch := []storage.Batch{{Partition: part(First, 0), Next: 2, Changes: []*rkcyv1.Change{s.k.number("a", 1), s.k.number("b", 1)}}}
	if err := s.target.Apply(s.Context(), batch); err != nil {
		s.Fatal(err)
	}
	s.apply(First, 2, 4, s.k.number("a", 2), Delete("b"))
	if err := s.target.Apply(s.Context(), batch); !errors.Is(err, storage.ErrStale) {
		s.Errorf("a batch that was applied before gave %v", err)
	}
	s.want(First, "a", s.k.number("a", 2))
	s.want(First, "b", nil)
	if got := s.mark(part(First, 0)); got != 4 {
		s.Errorf("watermark %d", got)
	}
}

func (s *suite) allOrNothing() {
	s.apply(Second, 0, 5, s.k.number("old", 1))
	err := s.target.Apply(s.Context(), []storage.Batch{
		{Partition: part(First, 0), Next: 1, Changes: []*rkcyv1.Change{s.k.number("a", 1)}},
		{Partition: part(Second, 0), From: 4, Next: 6, Changes: []*rkcyv1.Change{s.k.number("b", 1), Delete("old")}},
	})
	if !errors.Is(err, storage.ErrStale) {
		s.Errorf("got %v", err)
	}
	s.want(First, "a", nil)
	s.want(Second, "b", nil)
	s.want(Second, "old", s.k.number("old", 1))
	if a, b := s.mark(part(First, 0)), s.mark(part(Second, 0)); a != 0 || b != 5 {
		s.Errorf("watermarks %d, %d", a, b)
	}
	// The target goes on.
	s.apply(First, 0, 1, s.k.number("a", 1))
	s.want(First, "a", s.k.number("a", 1))
}

func (s *suite) damaged() {
	for name, bad := range map[string]*rkcyv1.Change{
		"not a message": {Key: "k", After: &rkcyv1.Instance{Value: []byte{0xff, 0xff, 0xff}, Version: 1}},
		"NUL in a text": Put(s.k.Thing("k", map[string]any{"user": "a\x00b"}), 1),
	} {
		err := s.target.Apply(s.Context(), []storage.Batch{
			{Partition: part(First, 0), Next: 1, Changes: []*rkcyv1.Change{s.k.number("a", 1)}},
			{Partition: part(Second, 7), Next: 12, Changes: []*rkcyv1.Change{s.k.number("b", 1), bad, s.k.number("c", 1)}},
		})
		e, ok := errors.AsType[*storage.ChangeError](err)
		if !ok || !errors.Is(err, storage.ErrPermanent) || e.Key != "k" || e.Partition != part(Second, 7) || e.Index != 1 || e.Next != 12 {
			s.Errorf("%s: got %v", name, err)
		}
		s.want(First, "a", nil)
	}
	err := s.target.Apply(s.Context(), []storage.Batch{{Partition: part("unknown", 0), Next: 1, Changes: []*rkcyv1.Change{s.k.number("a", 1)}}})
	if !errors.Is(err, storage.ErrPermanent) {
		s.Errorf("an unknown Concern: got %v", err)
	}
	if a, b := s.mark(part(First, 0)), s.mark(part(Second, 7)); a != 0 || b != 0 {
		s.Errorf("watermarks %d, %d", a, b)
	}
}

// twoWriters: whoever believes in the same watermark, one of them wins.
func (s *suite) twoWriters() {
	const rounds, writers = 20, 3
	for round := range rounds {
		won := make([]bool, writers)
		var g errgroup.Group
		for w := range writers {
			g.Go(func() error {
				var changes []*rkcyv1.Change
				for k := range 20 { // in an order of its own
					changes = append(changes, Put(s.k.Thing(fmt.Sprint((k*7+w*3)%20), map[string]any{"user": fmt.Sprint(round, w)}), 1))
				}
				err := s.target.Apply(s.Context(), []storage.Batch{
					{Partition: part(First, int32(w%2)), From: int64(round), Next: int64(round + 1), Changes: changes},         //nolint:gosec // small
					{Partition: part(First, int32((w+1)%2)), From: int64(round), Next: int64(round + 1), Changes: changes[:1]}, //nolint:gosec // small
				})
				won[w] = err == nil
				if errors.Is(err, storage.ErrStale) {
					return nil
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			s.Fatal(err)
		}
		winner := -1
		for w, ok := range won {
			if ok && winner >= 0 {
				s.Fatalf("round %d: writers %d and %d both won", round, winner, w)
			}
			if ok {
				winner = w
			}
		}
		if winner < 0 {
			s.Fatalf("round %d: nobody won", round)
		}
		for k := range 20 {
			key := fmt.Sprint(k)
			s.want(First, key, Put(s.k.Thing(key, map[string]any{"user": fmt.Sprint(round, winner)}), 1))
		}
	}
}

// manyRows needs several statements, for their number and for their size.
func (s *suite) manyRows() {
	var changes []*rkcyv1.Change
	for i := range 3000 {
		changes = append(changes, s.k.number(fmt.Sprintf("n%d", i), i+1))
	}
	for i := range 40 {
		changes = append(changes, Put(s.k.Thing(fmt.Sprintf("large%d", i), map[string]any{"raw": []byte(strings.Repeat("x", 1<<20))}), 1))
	}
	s.apply(First, 0, int64(len(changes)), changes...)
	for _, i := range []int{0, 1, 1499, 2999, 3000, 3020, 3039} {
		s.want(First, changes[i].GetKey(), changes[i])
	}
	keys := make([]string, len(changes))
	for i, c := range changes {
		keys[i] = c.GetKey()
	}
	if got, err := s.target.Load(s.Context(), First, keys[:3000]); err != nil || len(got) != 3000 {
		s.Errorf("%d rows, %v", len(got), err)
	}
	var gone []*rkcyv1.Change
	for _, k := range keys {
		gone = append(gone, Delete(k))
	}
	s.apply(First, int64(len(changes)), int64(2*len(changes)), gone...)
	if got, err := s.target.Load(s.Context(), First, keys); err != nil || len(got) != 0 {
		s.Errorf("%d rows, %v", len(got), err)
	}
}
