package stream_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

func TestTransactorCommits(t *testing.T) {
	b := newBed(t, 2)
	ctx := within(t, time.Minute)
	tx := b.transactor(t, streamtest.Name("tx"))
	last := must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, []stream.Record{
		b.record(0, "a"), b.record(1, "x"), b.record(0, "b"),
		{Topic: b.topic, Key: []byte("k"), Headers: []stream.Header{{Key: "h", Value: []byte("v")}}}, // a tombstone
	}, nil, nil))
	if last[b.tp(0)] != 2 || last[b.tp(1)] != 0 {
		t.Errorf("last offsets %v", last)
	}
	// Offset 3 is the marker; the next transaction of the same producer.
	last = must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, []stream.Record{b.record(0, "c")}, nil, nil))
	if last[b.tp(0)] != 4 {
		t.Errorf("last offsets %v", last)
	}
	must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, nil, nil, nil)) // empty
	var got []stream.Record
	r := must[*stream.Reader](t)(stream.NewReader(b.cfg))
	defer r.Close()
	next := must[int64](t)(r.ReadTo(ctx, b.tp(0), 0, func(rec stream.Record) error { got = append(got, rec); return nil }))
	if len(got) != 4 || string(got[1].Value) != "b" || string(got[3].Value) != "c" || next != 6 {
		t.Fatalf("read %v to %d", got, next)
	}
	if got[2].Value != nil || string(got[2].Key) != "k" || len(got[2].Headers) != 1 || string(got[2].Headers[0].Value) != "v" {
		t.Errorf("tombstone %+v", got[2])
	}
	if tx.Renewals() != 0 {
		t.Errorf("%d renewals without any error", tx.Renewals())
	}
}

func TestTransactorAbortsAndRenews(t *testing.T) {
	b := newBed(t, 1)
	ctx := within(t, time.Minute)
	b.cfg.MaxMessageBytes = 100_000
	tx := b.transactor(t, streamtest.Name("tx"))
	_, err := tx.Commit(ctx, []stream.Record{b.record(0, "small"), b.record(0, strings.Repeat("x", 200_000))}, nil, nil)
	failure, ok := errors.AsType[*stream.AbortedError](err)
	if !ok || failure.Op != "produce" {
		t.Fatalf("got %v", err)
	}
	// A partition that does not exist.
	if _, err = tx.Commit(ctx, []stream.Record{b.record(0, "lost"), b.record(7, "nowhere")}, nil, nil); err == nil {
		t.Fatal("a record for a partition that does not exist was committed")
	}
	must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, []stream.Record{b.record(0, "kept")}, nil, nil))
	b.wantValues(ctx, t, "kept")
	if tx.Renewals() < 2 {
		t.Errorf("%d renewals; want one for each failure", tx.Renewals())
	}
}

func TestTransactorsOfOneIDFenceEachOther(t *testing.T) {
	b := newBed(t, 1)
	ctx := within(t, time.Minute)
	id := streamtest.Name("tx")
	old := b.transactor(t, id)
	must[map[stream.TopicPartition]int64](t)(old.Commit(ctx, []stream.Record{b.record(0, "old")}, nil, nil))
	young := b.transactor(t, id)
	_, err := old.Commit(ctx, []stream.Record{b.record(0, "zombie")}, nil, nil)
	failure, ok := errors.AsType[*stream.AbortedError](err)
	if !ok || failure.Class != "fatal" {
		t.Fatalf("the fenced one got %v", err)
	}
	// The failure renewed the old one, so now it is the younger.
	if _, err := young.Commit(ctx, []stream.Record{b.record(0, "young")}, nil, nil); err == nil {
		t.Fatal("two producers of one id are alive")
	}
	must[map[stream.TopicPartition]int64](t)(young.Commit(ctx, []stream.Record{b.record(0, "young")}, nil, nil))
	b.wantValues(ctx, t, "old", "young")
}

func TestOffsetsOfAFormerOwnerAreRefused(t *testing.T) {
	b := newBed(t, 1)
	ctx := within(t, time.Minute)
	group := streamtest.Name("group")
	// A member that does not poll for this long is no member any more, as one
	// whose heartbeats do not arrive.
	short := *b
	short.cfg.Extra = map[string]string{"max.poll.interval.ms": "2000"}
	first := short.join(t, group, true)
	await(ctx, t, "the first member owns the partition", func() bool { return len(first.owns()) == 1 })
	tx := b.transactor(t, streamtest.Name("tx"))
	must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, []stream.Record{b.record(0, "owner")}, first.Group, map[stream.TopicPartition]int64{b.tp(0): 5}))

	first.stop() // polls no more, so it does not learn that it lost the partition
	second := b.join(t, group, true)
	await(ctx, t, "the second member owns the partition", func() bool { return len(second.owns()) == 1 })
	if _, err := tx.Commit(ctx, []stream.Record{b.record(0, "zombie")}, first.Group, map[stream.TopicPartition]int64{b.tp(0): 6}); err != nil {
		t.Logf("refused: %v", err)
	} else {
		t.Error("a member that lost its partition committed")
	}
	b.wantValues(ctx, t, "owner")
	if got := must[map[stream.TopicPartition]int64](t)(second.Committed(ctx, []stream.TopicPartition{b.tp(0)})); got[b.tp(0)] != 5 {
		t.Errorf("committed offset %d, want that of the owner, 5", got[b.tp(0)])
	}
	must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, []stream.Record{b.record(0, "new owner")}, second.Group, map[stream.TopicPartition]int64{b.tp(0): 7}))
	b.wantValues(ctx, t, "owner", "new owner")
}

func TestClientsWithoutBroker(t *testing.T) {
	cfg := stream.Config{Bootstrap: "127.0.0.1:1"} // nobody listens there
	for name, call := range map[string]func(context.Context) error{
		"transactor": func(ctx context.Context) error {
			_, err := stream.NewTransactor(ctx, cfg, "nobody")
			return err
		},
		"reader": func(ctx context.Context) error {
			r := must[*stream.Reader](t)(stream.NewReader(cfg))
			defer r.Close()
			_, err := r.ReadTo(ctx, stream.TopicPartition{Topic: "t"}, 0, func(stream.Record) error { return nil })
			return err
		},
		"topics": func(ctx context.Context) error {
			return withAdmin(t, cfg, func(a *stream.Admin) error { _, err := a.Topics(ctx); return err })
		},
		"create": func(ctx context.Context) error {
			return withAdmin(t, cfg, func(a *stream.Admin) error {
				_, err := a.EnsureTopics(ctx, []stream.TopicSpec{{Name: "t", Partitions: 1, Replication: 1}})
				return err
			})
		},
		"group offsets": func(ctx context.Context) error {
			return withAdmin(t, cfg, func(a *stream.Admin) error {
				_, err := a.GroupOffsets(ctx, "g", []stream.TopicPartition{{Topic: "t"}})
				return err
			})
		},
		"end offsets": func(ctx context.Context) error {
			return withAdmin(t, cfg, func(a *stream.Admin) error {
				_, err := a.EndOffsets(ctx, []stream.TopicPartition{{Topic: "t"}})
				return err
			})
		},
	} {
		for _, how := range []string{"deadline", "cancel"} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				if how == "cancel" { // no deadline to go by
					ended := ctx
					ctx, cancel = context.WithCancel(t.Context())
					defer cancel()
					context.AfterFunc(ended, cancel)
				}
				began := time.Now()
				err := call(ctx)
				if err == nil || !strings.Contains(err.Error(), cfg.Bootstrap) {
					t.Errorf("the error does not say where: %v", err)
				}
				if d := time.Since(began); d > 15*time.Second {
					t.Errorf("it took %s to notice the end of the context", d)
				}
			})
		}
	}
}

func withAdmin(t *testing.T, cfg stream.Config, fn func(*stream.Admin) error) error {
	a := must[*stream.Admin](t)(stream.NewAdmin(cfg))
	defer a.Close()
	return fn(a)
}
