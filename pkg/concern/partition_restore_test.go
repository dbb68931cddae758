package concern

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// changesOf makes storage records, one per instance, the first at an offset.
func changesOf(tb testing.TB, at int64, keys ...string) []stream.Record {
	tb.Helper()
	records := make([]stream.Record, len(keys))
	for i, key := range keys {
		var id txn.ID
		binary.BigEndian.PutUint64(id[:], uint64(at)+uint64(i)) //nolint:gosec // positive
		raw, err := proto.Marshal(&rkcyv1.Change{
			Key: key, After: &rkcyv1.Instance{Value: make([]byte, 100), Version: 1}, TxnId: id[:], Attempt: 1,
		})
		if err != nil {
			tb.Fatal(err)
		}
		records[i] = stream.Record{Offset: at + int64(i), Key: []byte(key), Value: raw}
	}
	return records
}

func feed(tb testing.TB, r *restorer, records []stream.Record) {
	tb.Helper()
	for _, rec := range records {
		if err := r.change(rec); err != nil {
			tb.Fatal(err)
		}
	}
}

func numbered(prefix string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s%07d", prefix, i)
	}
	return keys
}

func (x *table) restorer(concern string, partition int32, watermark int64) *restorer {
	tp := stream.TopicPartition{Topic: processTopic(concern), Partition: partition}
	return newRestorer(newPartition(tp, x.served[tp.Topic], 100), watermark)
}

// The engine's cache has what two restores brought, evicts the least recently
// changed of what the database has first, and its books are right.
func TestRestoredInstancesJoinTheCache(t *testing.T) {
	x := newTable(t)
	e := x.newEngine()
	first, second := x.restorer("alpha", 0, 3), x.restorer("alpha", 1, 2)
	// "b" changes again above the watermark, "a" below it.
	feed(t, first, changesOf(t, 0, "a", "b", "a", "b", "c"))
	feed(t, second, changesOf(t, 0, "d", "e"))
	first.finish(e, 0)
	second.finish(e, 0)
	check := func(want ...string) {
		t.Helper()
		var have []string
		var used, pinned int64
		for _, p := range e.order {
			have = append(have, slices.Collect(maps.Keys(p.instances))...)
			for _, en := range p.instances {
				used += en.size()
				if en.pinned() {
					pinned += en.size()
				}
			}
		}
		slices.Sort(have)
		if !slices.Equal(have, want) {
			t.Errorf("instances %v, want %v", have, want)
		}
		if e.cache.used != used || e.cache.pinnedBytes != pinned {
			t.Errorf("%d bytes, %d pinned, by the books; %d and %d in truth", e.cache.used, e.cache.pinnedBytes, used, pinned)
		}
	}
	check("a", "b", "c", "d", "e")
	one := first.p.instances["a"].size()
	for _, step := range []struct {
		bound int64
		left  []string
	}{{4, []string{"b", "c", "d", "e"}}, {3, []string{"b", "c", "e"}}, {0, []string{"b", "c"}}} {
		e.cache.limit = step.bound * one
		e.cache.evict()
		check(step.left...)
	}
	e.advance(first.p.tp, 4) // "b" at 3 is persisted, "c" at 4 is not
	e.cache.evict()
	check("c")
	e.drop(first.p.tp)
	check()
}

// A restore keeps no more of what the database has than the cache may, and
// all that it does not have.
func TestRestoreKeepsTheBound(t *testing.T) {
	x := newTable(t)
	r := x.restorer("alpha", 0, 1000)
	records := changesOf(t, 0, numbered("k", 1010)...)
	r.cache.limit = 100 * 500
	feed(t, r, records)
	if n := len(r.p.instances); n < 10 || r.cache.used > r.cache.limit {
		t.Errorf("%d instances, %d bytes of %d", n, r.cache.used, r.cache.limit)
	}
	for _, rec := range records[1000:] {
		if r.p.instances[string(rec.Key)] == nil {
			t.Errorf("%s is not persisted and was dropped", rec.Key)
		}
	}
}

// Many changes of few instances take the memory of few.
func TestRestoreOfHotInstances(t *testing.T) {
	x := newTable(t)
	r := x.restorer("alpha", 0, 0)
	for i := range 1000 {
		feed(t, r, changesOf(t, int64(i)*10, numbered("k", 10)...))
	}
	if n := len(r.p.overlay); n > 2000 {
		t.Errorf("%d overlay items for 10 instances", n)
	}
	if n := len(r.changed); n > 2*r.p.window.size {
		t.Errorf("%d visits are remembered for a window of %d", n, r.p.window.size)
	}
	e := x.newEngine()
	r.finish(e, 0)
	e.advance(r.p.tp, 10_000)
	if e.cache.pinnedBytes != 0 || len(r.p.overlay) != 0 {
		t.Errorf("%d bytes are pinned, %d overlay items are left", e.cache.pinnedBytes, len(r.p.overlay))
	}
}

// What finish does on the worker's goroutine does not grow with the instances:
// other partitions wait for it.
func TestFinishDoesNotGrow(t *testing.T) {
	x := newTable(t)
	allocations := func(instances int) float64 {
		const runs = 5 // and one that does not count
		var restorers []*restorer
		for range runs + 1 {
			r := x.restorer("alpha", 0, 0)
			feed(t, r, changesOf(t, 0, numbered("k", instances)...))
			restorers = append(restorers, r)
		}
		return testing.AllocsPerRun(runs, func() {
			restorers[0].finish(x.newEngine(), 0)
			restorers = restorers[1:]
		})
	}
	// Both fill the window.
	if few, many := allocations(1000), allocations(5000); many > few+50 {
		t.Errorf("%.0f allocations with 1,000 instances, %.0f with 5,000", few, many)
	}
}

func BenchmarkRestore(b *testing.B) {
	begin := func() *restorer {
		return newRestorer(newPartition(stream.TopicPartition{}, &servedConcern{}, windowOffsets), 0)
	}
	records := changesOf(b, 0, numbered("00000000-0000-7000-8000-", 100_000)...)
	b.Run("change", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			feed(b, begin(), records)
		}
	})
	b.Run("finish", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			r := begin()
			feed(b, r, records)
			b.StartTimer()
			r.finish(newEngine(engineConfig{}), 0)
		}
	})
}
