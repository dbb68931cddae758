package stream_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

// open is a Kafka transaction that is not decided yet.
type open struct {
	t testing.TB
	p *kafka.Producer
}

// begin writes records in a transaction and leaves it open; with offsets of a
// group if group is not empty.
func (b *bed) begin(ctx context.Context, t testing.TB, group string, values ...string) *open {
	t.Helper()
	p := must[*kafka.Producer](t)(kafka.NewProducer(&kafka.ConfigMap{
		"bootstrap.servers": b.cfg.Bootstrap, "transactional.id": streamtest.Name("open"), "go.delivery.reports": false,
		"retry.backoff.ms": 5, "enable.metrics.push": false, "log_level": 0,
	}))
	t.Cleanup(p.Close)
	mustNot(t, p.InitTransactions(ctx))
	mustNot(t, p.BeginTransaction())
	for _, v := range values {
		mustNot(t, p.Produce(&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &b.topic}, Key: []byte("k"), Value: []byte(v)}, nil))
	}
	for p.Flush(100) > 0 {
		mustNot(t, ctx.Err())
	}
	if group != "" {
		mustNot(t, p.SendOffsetsToTransaction(ctx, []kafka.TopicPartition{{Topic: &b.topic, Offset: 9}},
			must[*kafka.ConsumerGroupMetadata](t)(kafka.NewTestConsumerGroupMetadata(group))))
	}
	return &open{t, p}
}

func (o *open) end(ctx context.Context, commit bool) {
	o.t.Helper()
	if commit {
		mustNot(o.t, o.p.CommitTransaction(ctx))
	} else {
		mustNot(o.t, o.p.AbortTransaction(ctx))
	}
}

func TestReadToWaitsForOpenTransactions(t *testing.T) {
	for _, commit := range []bool{true, false} {
		t.Run(map[bool]string{true: "commit", false: "abort"}[commit], func(t *testing.T) {
			b := newBed(t, 1)
			ctx := within(t, time.Minute)
			tx := b.transactor(t, streamtest.Name("tx"))
			write := func(v string) {
				must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, []stream.Record{b.record(0, v)}, nil, nil))
			}
			write("before")
			o := b.begin(ctx, t, "", "open")
			write("behind") // committed, but above the last stable offset

			r := must[*stream.Reader](t)(stream.NewReader(b.cfg))
			defer r.Close()
			type result struct {
				values []string
				err    error
			}
			first, done := make(chan struct{}), make(chan result, 1)
			go func() {
				var res result
				_, res.err = r.ReadTo(ctx, b.tp(0), 0, func(rec stream.Record) error {
					if res.values = append(res.values, string(rec.Value)); len(res.values) == 1 {
						close(first)
					}
					return nil
				})
				done <- res
			}()
			<-first
			// Records that come after ReadTo took the high watermark do not matter.
			o.end(ctx, commit)
			res := <-done
			mustNot(t, res.err)
			want := []string{"before", "open", "behind"}
			if !commit {
				want = []string{"before", "behind"}
			}
			if !slices.Equal(res.values, want) {
				t.Errorf("read %q, want %q", res.values, want)
			}
		})
	}
}

func TestReadToWithAnOpenTransactionEndsWithItsContext(t *testing.T) {
	b := newBed(t, 1)
	ctx := within(t, time.Minute)
	o := b.begin(ctx, t, "", "open")
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	r := must[*stream.Reader](t)(stream.NewReader(b.cfg))
	defer r.Close()
	_, err := r.ReadTo(short, b.tp(0), 0, func(rec stream.Record) error { t.Errorf("read %q", rec.Value); return nil })
	if err == nil {
		t.Error("read past a transaction that is open")
	}
	o.end(ctx, true)
	b.wantValues(ctx, t, "open") // also by a reader that was interrupted
}

func TestReadToEndsAtMarkersAndAbortedRecords(t *testing.T) {
	b := newBed(t, 1)
	ctx := within(t, time.Minute)
	if got, next := b.values(ctx, t, stream.OffsetBeginning); got != nil || next != 0 {
		t.Errorf("an empty partition: %q to %d", got, next)
	}
	b.begin(ctx, t, "", "x", "y").end(ctx, false)
	// Nothing but aborted records and a marker.
	if got, next := b.values(ctx, t, stream.OffsetBeginning); got != nil || next != 3 {
		t.Errorf("aborted records only: %q to %d", got, next)
	}
	tx := b.transactor(t, streamtest.Name("tx"))
	must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, []stream.Record{b.record(0, "a")}, nil, nil))
	b.begin(ctx, t, "", "z").end(ctx, false)
	for from, want := range map[int64][]string{0: {"a"}, 2: {"a"}, 3: {"a"}, 4: nil, 5: nil, 6: nil, 7: nil, 100: nil} {
		got, next := b.values(ctx, t, from)
		if !slices.Equal(got, want) || next != 7 {
			t.Errorf("from %d: %q to %d, want %q to 7", from, got, next, want)
		}
	}
	// The beginning of the log is deleted, up to the end.
	mustNot(t, b.admin.DeleteRecordsBefore(ctx, map[stream.TopicPartition]int64{b.tp(0): 7}))
	if got, next := b.values(ctx, t, 2); got != nil || next != 7 {
		t.Errorf("all records deleted: %q to %d", got, next)
	}
	if low := must[map[stream.TopicPartition]int64](t)(b.admin.LowWatermarks(ctx, []stream.TopicPartition{b.tp(0)})); low[b.tp(0)] != 7 {
		t.Errorf("low watermark %d", low[b.tp(0)])
	}
}

func TestReadToPassesOnErrors(t *testing.T) {
	b := newBed(t, 1)
	ctx := within(t, time.Minute)
	b.fill(t, 3)
	r := must[*stream.Reader](t)(stream.NewReader(b.cfg))
	defer r.Close()
	n := 0
	if _, err := r.ReadTo(ctx, b.tp(0), 0, func(stream.Record) error { n++; return context.Canceled }); err != context.Canceled || n != 1 { //nolint:errorlint // itself
		t.Errorf("got %v after %d records", err, n)
	}
	if _, err := r.ReadTo(within(t, 5*time.Second), stream.TopicPartition{Topic: streamtest.Name("none")}, 0, nil); err == nil {
		t.Error("a topic that does not exist was read")
	}
	// And it is as good as new.
	if _, err := r.ReadTo(ctx, b.tp(0), 1, func(stream.Record) error { n++; return nil }); err != nil || n != 3 {
		t.Errorf("got %v and %d records", err, n)
	}
}

func TestFollow(t *testing.T) {
	b := newBed(t, 1)
	ctx := within(t, time.Minute)
	tx := b.transactor(t, streamtest.Name("tx"))
	write := func(v string) {
		must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, []stream.Record{b.record(0, v)}, nil, nil))
	}
	write("past")
	r := must[*stream.Reader](t)(stream.NewReader(b.cfg))
	defer r.Close()
	for _, from := range []int64{stream.OffsetEnd, 0} {
		follow, stop := context.WithCancel(ctx)
		started, seen, done := make(chan struct{}), make(chan string, 10), make(chan error, 1)
		go func() {
			done <- r.Follow(follow, b.tp(0), from, func() { close(started) }, func(rec stream.Record) { seen <- string(rec.Value) })
		}()
		<-started
		if from == 0 {
			if got := []string{<-seen, <-seen}; !slices.Equal(got, []string{"past", "present"}) {
				t.Errorf("followed %q", got)
			}
		} else {
			write("present")
			if got := <-seen; got != "present" {
				t.Errorf("followed %q", got)
			}
		}
		stop()
		mustNot(t, <-done)
	}
}
