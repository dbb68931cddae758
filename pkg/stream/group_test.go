package stream_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

func TestGroupStartsPaused(t *testing.T) {
	b := newBed(t, 1)
	ctx := within(t, time.Minute)
	want := numbered(5)
	tx := b.transactor(t, streamtest.Name("tx"))
	for _, v := range want {
		must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, []stream.Record{b.record(0, v)}, nil, nil))
	}
	m := &member{}
	m.Group = must[*stream.Group](t)(stream.NewGroup(b.cfg, stream.GroupConfig{Group: streamtest.Name("g"), Topics: []string{b.topic}}, m))
	defer func() { mustNot(t, m.Close()) }()
	poll := func() []stream.Record {
		return must[[]stream.Record](t)(m.Poll(ctx, 100, 50*time.Millisecond))
	}
	for len(m.owned) == 0 {
		if got := poll(); len(got) > 0 {
			t.Fatalf("%d records before the partition was assigned", len(got))
		}
	}
	for range 10 { // paused until Start
		if got := poll(); len(got) > 0 {
			t.Fatalf("%d records before Start", len(got))
		}
	}
	take := func(n int) (values []string) {
		for len(values) < n {
			mustNot(t, ctx.Err())
			for _, r := range poll() {
				values = append(values, string(r.Value))
			}
		}
		return values
	}
	mustNot(t, m.Start(b.tp(0), 4)) // a record and a marker each
	if got := take(3); !slices.Equal(got, want[2:]) {
		t.Errorf("from offset 4: %q", got)
	}
	mustNot(t, m.Start(b.tp(0), 0)) // back again
	if got := take(5); !slices.Equal(got, want) {
		t.Errorf("from offset 0: %q", got)
	}
	mustNot(t, m.Pause(b.tp(0)))
	must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, []stream.Record{b.record(0, "paused")}, nil, nil))
	for range 10 {
		if got := poll(); len(got) > 0 {
			t.Fatalf("%d records while paused", len(got))
		}
	}
	mustNot(t, m.Resume(b.tp(0)))
	if got := take(1); got[0] != "paused" {
		t.Errorf("after Resume: %q", got)
	}
}

func TestGroupTakeover(t *testing.T) {
	const partitions, perPartition = 4, 50
	b := newBed(t, partitions)
	ctx := within(t, 2*time.Minute)
	group := streamtest.Name("g")
	first := b.join(t, group, false)
	await(ctx, t, "the first owns all", func() bool { return len(first.owns()) == partitions })
	second := b.join(t, group, false)
	await(ctx, t, "they share", func() bool { return len(first.owns()) == 2 && len(second.owns()) == 2 })
	tx := b.transactor(t, streamtest.Name("tx"))
	want := numbered(perPartition)
	for _, v := range want {
		var batch []stream.Record
		for p := range int32(partitions) {
			batch = append(batch, b.record(p, v))
		}
		must[map[stream.TopicPartition]int64](t)(tx.Commit(ctx, batch, nil, nil))
	}
	await(ctx, t, "all is read", func() bool { return len(first.got())+len(second.got()) >= partitions*perPartition })
	// The second goes on where nothing was committed: from the beginning.
	before := len(second.got())
	first.stop()
	mustNot(t, first.Close())
	await(ctx, t, "the second owns all", func() bool { return len(second.owns()) == partitions })
	await(ctx, t, "all is read again", func() bool { return len(second.got())-before >= partitions*perPartition })
	last := map[int32]string{}
	for _, r := range second.got()[before:] {
		if prev := last[r.Partition]; string(r.Value) <= prev && prev != want[perPartition-1] {
			t.Fatalf("partition %d: %q after %q", r.Partition, r.Value, prev)
		}
		last[r.Partition] = string(r.Value)
	}
}

func TestCommittedWaitsForPendingOffsets(t *testing.T) {
	b := newBed(t, 1)
	ctx := within(t, time.Minute)
	group := streamtest.Name("g")
	m := b.join(t, streamtest.Name("other"), true)
	_ = m
	viewer := must[*stream.Group](t)(stream.NewGroup(b.cfg, stream.GroupConfig{Group: group, Topics: []string{b.topic}}, &member{}))
	defer func() { mustNot(t, viewer.Close()) }()
	if got := must[map[stream.TopicPartition]int64](t)(viewer.Committed(ctx, []stream.TopicPartition{b.tp(0)})); got[b.tp(0)] != -1 {
		t.Fatalf("committed %v at first", got)
	}
	o := b.begin(ctx, t, group, "v")
	if got, err := viewer.Committed(within(t, 700*time.Millisecond), []stream.TopicPartition{b.tp(0)}); err == nil {
		t.Fatalf("committed %v while a transaction is open", got)
	}
	o.end(ctx, true)
	if got := must[map[stream.TopicPartition]int64](t)(viewer.Committed(ctx, []stream.TopicPartition{b.tp(0)})); got[b.tp(0)] != 9 {
		t.Errorf("committed %v, want 9", got)
	}
	if got := must[map[stream.TopicPartition]int64](t)(b.admin.GroupOffsets(ctx, group, []stream.TopicPartition{b.tp(0)})); got[b.tp(0)] != 9 {
		t.Errorf("group offset %v, want 9", got)
	}
	if got := must[map[stream.TopicPartition]int64](t)(b.admin.GroupOffsets(ctx, streamtest.Name("none"), []stream.TopicPartition{b.tp(0)})); got[b.tp(0)] != -1 {
		t.Errorf("offset %v of a group that does not exist", got)
	}
}

func TestCommitOffsets(t *testing.T) {
	b := newBed(t, 2)
	ctx := within(t, time.Minute)
	group := streamtest.Name("g")
	m := b.join(t, group, true)
	await(ctx, t, "assigned", func() bool { return len(m.owns()) == 2 })
	mustNot(t, m.CommitOffsets(map[stream.TopicPartition]int64{b.tp(1): 4}))
	got := must[map[stream.TopicPartition]int64](t)(b.admin.GroupOffsets(ctx, group, []stream.TopicPartition{b.tp(0), b.tp(1)}))
	if got[b.tp(0)] != -1 || got[b.tp(1)] != 4 {
		t.Errorf("group offsets %v", got)
	}
}

func TestAdmin(t *testing.T) {
	b := newBed(t, 3)
	ctx := within(t, time.Minute)
	if n := must[map[string]int](t)(b.admin.Topics(ctx))[b.topic]; n != 3 {
		t.Errorf("%d partitions", n)
	}
	if n := must[int](t)(b.admin.Brokers(ctx)); n < 1 {
		t.Errorf("%d brokers", n)
	}
	fresh := streamtest.Name("fresh")
	specs := []stream.TopicSpec{{Name: b.topic, Partitions: 9, Replication: 1}, {Name: fresh, Partitions: 1, Replication: 1}}
	if created := must[[]string](t)(b.admin.EnsureTopics(ctx, specs)); !slices.Equal(created, []string{fresh}) {
		t.Errorf("created %q", created)
	}
	if _, err := b.admin.EnsureTopics(ctx, []stream.TopicSpec{{Name: streamtest.Name("x"), Partitions: 1, Replication: 99}}); err == nil {
		t.Error("a topic with more replicas than brokers was created")
	}
	o := b.begin(ctx, t, "", "open")
	if end := must[map[stream.TopicPartition]int64](t)(b.admin.EndOffsets(ctx, []stream.TopicPartition{b.tp(0), b.tp(1)})); end[b.tp(0)] != 1 || end[b.tp(1)] != 0 {
		t.Errorf("ends %v; the record of the open transaction counts", end)
	}
	o.end(ctx, false)
}

func TestSendAndItsErrors(t *testing.T) {
	b := newBed(t, 1)
	b.cfg.MaxMessageBytes = 100_000
	p := must[*stream.Producer](t)(stream.NewProducer(b.cfg))
	ctx := within(t, time.Minute)
	mustNot(t, p.Send(ctx, b.topic, 0, []byte("k"), []byte("sent")))
	err := p.Send(ctx, b.topic, 0, nil, []byte(strings.Repeat("x", 200_000)))
	if e, ok := errors.AsType[*txn.Error](err); !ok || e.Code != txn.CodeInvalidArgument || e.Details[txn.DetailOutcome] != "" {
		t.Errorf("too large: %v", err)
	}
	err = p.Send(ctx, b.topic, 5, nil, []byte("x"))
	if e, ok := errors.AsType[*txn.Error](err); !ok || e.Code != txn.CodeUnavailable || e.Details[txn.DetailOutcome] != "" {
		t.Errorf("no such partition: %v", err)
	}
	p.Close()
	p.Close()
	err = p.Send(ctx, b.topic, 0, nil, []byte("x"))
	if e, ok := errors.AsType[*txn.Error](err); !ok || e.Code != txn.CodeUnavailable || e.Details[txn.DetailOutcome] != "" {
		t.Errorf("closed: %v", err)
	}
	b.wantValues(ctx, t, "sent")
}

func TestSendError(t *testing.T) {
	for code, want := range map[kafka.ErrorCode]struct {
		code    txn.Code
		unknown bool
	}{
		kafka.ErrMsgSizeTooLarge:              {txn.CodeInvalidArgument, false},
		kafka.ErrInvalidMsgSize:               {txn.CodeInvalidArgument, false},
		kafka.ErrUnknownTopicOrPart:           {txn.CodeUnavailable, false},
		kafka.ErrUnknownPartition:             {txn.CodeUnavailable, false},
		kafka.ErrQueueFull:                    {txn.CodeResourceExhausted, false},
		kafka.ErrMsgTimedOut:                  {txn.CodeUnavailable, true},
		kafka.ErrPurgeInflight:                {txn.CodeUnavailable, true},
		kafka.ErrNotEnoughReplicasAfterAppend: {txn.CodeUnavailable, true},
	} {
		e, ok := errors.AsType[*txn.Error](stream.SendError(t.Context(), "t", kafka.NewError(code, "", false)))
		if !ok || e.Code != want.code || (e.Details[txn.DetailOutcome] == txn.OutcomeUnknown) != want.unknown {
			t.Errorf("%v: %v", code, e)
		}
	}
	if got := stream.Classify(errors.New("not of Kafka")).String(); got != "fatal" {
		t.Errorf("an unknown error is %s", got)
	}
	if got := stream.Classify(kafka.NewError(kafka.ErrProducerFenced, "", true)).String(); got != "fatal" {
		t.Errorf("a fatal error is %s", got)
	}
}

func TestPartitionFor(t *testing.T) {
	// Values of org.apache.kafka.common.utils.Utils.murmur2.
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		for _, n := range []int32{1, 2, 3, 7, 16, 1000} {
			if got := stream.PartitionFor([]byte(key), n); got != (want&0x7fffffff)%n {
				t.Errorf("%q of %d: %d, want %d", key, n, got, (want&0x7fffffff)%n)
			}
		}
	}
}
