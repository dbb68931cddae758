package stream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

// fill writes n records of 200 bytes to partition 0.
func (b *bed) fill(tb testing.TB, n int) {
	tb.Helper()
	tx := b.transactor(tb, streamtest.Name("fill"))
	value := string(make([]byte, 200))
	for n > 0 {
		records := make([]stream.Record, min(n, 5000))
		for i := range records {
			records[i] = b.record(0, value)
		}
		must[map[stream.TopicPartition]int64](tb)(tx.Commit(within(tb, time.Minute), records, nil, nil))
		n -= len(records)
	}
}

// BenchmarkPoll is the cost of taking one record from a group.
func BenchmarkPoll(b *testing.B) {
	bed := newBed(b, 1)
	bed.fill(b, b.N)
	m := &member{}
	g := must[*stream.Group](b)(stream.NewGroup(bed.cfg, stream.GroupConfig{Group: streamtest.Name("bench"), Topics: []string{bed.topic}}, m))
	defer func() { mustNot(b, g.Close()) }()
	ctx := within(b, 5*time.Minute)
	for len(m.owned) == 0 {
		must[[]stream.Record](b)(g.Poll(ctx, 1, 50*time.Millisecond))
	}
	mustNot(b, g.Start(bed.tp(0), 0))
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		records := must[[]stream.Record](b)(g.Poll(ctx, 1000, time.Second))
		n += len(records)
	}
}

// BenchmarkCommit is the time of one Kafka transaction with offsets.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{1, 10, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			bed := newBed(b, 1)
			m := bed.join(b, streamtest.Name("bench"), true)
			ctx := within(b, 5*time.Minute)
			await(ctx, b, "assigned", func() bool { return len(m.owns()) == 1 })
			tx := bed.transactor(b, streamtest.Name("bench"))
			records := make([]stream.Record, size)
			for i := range records {
				records[i] = bed.record(0, string(make([]byte, 200)))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				must[map[stream.TopicPartition]int64](b)(tx.Commit(ctx, records, m.Group, map[stream.TopicPartition]int64{bed.tp(0): int64(i)}))
			}
		})
	}
}

// BenchmarkNewTransactor is what a renewal costs.
func BenchmarkNewTransactor(b *testing.B) {
	bed := newBed(b, 1)
	id := streamtest.Name("bench")
	for b.Loop() {
		must[*stream.Transactor](b)(stream.NewTransactor(within(b, time.Minute), bed.cfg, id)).Close()
	}
}

// BenchmarkReadTo is what a restore costs besides the records: a reader, and
// the end of a partition whose tail is a control marker.
func BenchmarkReadTo(b *testing.B) {
	bed := newBed(b, 1)
	bed.fill(b, 1)
	for b.Loop() {
		bed.values(within(b, time.Minute), b, 0)
	}
}

// BenchmarkSend is the time of one record of the idempotent producer.
func BenchmarkSend(b *testing.B) {
	bed := newBed(b, 1)
	p := must[*stream.Producer](b)(stream.NewProducer(bed.cfg))
	defer p.Close()
	value := make([]byte, 200)
	for b.Loop() {
		mustNot(b, p.Send(b.Context(), bed.topic, 0, nil, value))
	}
}
