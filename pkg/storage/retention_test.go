package storage_test

import (
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// Old records go once every target has them, and no earlier.
func TestRetention(t *testing.T) {
	r := newRig(t, 2)
	second := *r
	second.group += "-second"
	tps := []stream.TopicPartition{r.tp(0), r.tp(1)}
	lows := func() map[stream.TopicPartition]int64 {
		t.Helper()
		out, err := r.admin.LowWatermarks(t.Context(), tps)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	apply := func(before time.Time, groups ...string) {
		t.Helper()
		err := storage.Retention{Topic: r.topic, Partitions: 2, Groups: groups, Behind: 10}.Apply(t.Context(), r.admin, before)
		if err != nil {
			t.Fatal(err)
		}
	}
	later := time.Now().Add(time.Hour)
	nothing := func(what string) {
		t.Helper()
		if got := lows(); got[tps[0]] != 0 || got[tps[1]] != 0 {
			t.Fatalf("%s: records up to %v were deleted", what, got)
		}
	}
	r.random(500)
	first, other := memory(r), memory(r)
	r.start(first, nil)
	r.awaitOffsets()
	apply(later, r.group, second.group)
	nothing("a target that never was there")
	_, stop := second.start(other, nil)
	second.awaitOffsets()
	stop()
	before := map[stream.TopicPartition]int64{tps[0]: r.ends[tps[0]], tps[1]: r.ends[tps[1]]}
	r.random(500)
	r.awaitOffsets()
	apply(time.Now().Add(-time.Hour), r.group, second.group)
	nothing("records that are not old")
	apply(later)
	nothing("no target")
	// The second target is behind: what it lacks stays.
	apply(later, r.group, second.group)
	for _, tp := range tps {
		if got := lows()[tp]; got != before[tp]-10 {
			t.Errorf("partition %d begins at %d, want %d", tp.Partition, got, before[tp]-10)
		}
	}
	apply(later, r.group, second.group) // again
	second.start(other, nil)
	second.awaitOffsets()
	r.check(other)
	r.check(first)
	apply(later, r.group, second.group)
	for _, tp := range tps {
		if got := lows()[tp]; got != r.ends[tp]-10 {
			t.Errorf("partition %d begins at %d, want %d", tp.Partition, got, r.ends[tp]-10)
		}
	}
}
