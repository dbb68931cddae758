package stream_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func mustNot(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// bed is a broker with a topic of its own.
type bed struct {
	cfg   stream.Config
	admin *stream.Admin
	topic string
}

func newBed(t testing.TB, partitions int) *bed {
	t.Helper()
	b := &bed{cfg: streamtest.Config(t), topic: streamtest.Name("stream")}
	b.admin = must[*stream.Admin](t)(stream.NewAdmin(b.cfg))
	t.Cleanup(b.admin.Close)
	must[[]string](t)(b.admin.EnsureTopics(within(t, 30*time.Second), []stream.TopicSpec{{Name: b.topic, Partitions: partitions, Replication: 1}}))
	return b
}

func (b *bed) tp(partition int32) stream.TopicPartition {
	return stream.TopicPartition{Topic: b.topic, Partition: partition}
}

func (b *bed) record(partition int32, value string) stream.Record {
	return stream.Record{Topic: b.topic, Partition: partition, Key: []byte("k"), Value: []byte(value)}
}

func (b *bed) transactor(t testing.TB, id string) *stream.Transactor {
	t.Helper()
	tx := must[*stream.Transactor](t)(stream.NewTransactor(within(t, 30*time.Second), b.cfg, id))
	t.Cleanup(tx.Close)
	return tx
}

// values reads partition 0 from an offset to its end, and returns the values
// and the position.
func (b *bed) values(ctx context.Context, t testing.TB, from int64) ([]string, int64) {
	t.Helper()
	r := must[*stream.Reader](t)(stream.NewReader(b.cfg))
	defer r.Close()
	var out []string
	next := must[int64](t)(r.ReadTo(ctx, b.tp(0), from, func(rec stream.Record) error {
		out = append(out, string(rec.Value))
		return nil
	}))
	return out, next
}

func (b *bed) wantValues(ctx context.Context, t testing.TB, want ...string) {
	t.Helper()
	if got, _ := b.values(ctx, t, stream.OffsetBeginning); !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
}

// member is a member of a group with a goroutine that polls, and starts what
// it is assigned at the committed offset, unless manual.
type member struct {
	*stream.Group
	manual bool

	mu       sync.Mutex
	owned    []stream.TopicPartition
	records  []stream.Record
	assigned int
	lost     bool

	stop func()
}

func (m *member) Assigned(tps []stream.TopicPartition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owned, m.assigned = append(m.owned, tps...), m.assigned+1
}

func (m *member) Revoked(tps []stream.TopicPartition, lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owned = slices.DeleteFunc(m.owned, func(tp stream.TopicPartition) bool { return slices.Contains(tps, tp) })
	m.lost = m.lost || lost
}

func (m *member) owns() []stream.TopicPartition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.owned)
}

func (m *member) got() []stream.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.records)
}

// join makes a member and polls it until stop or the end of the test.
func (b *bed) join(t testing.TB, group string, manual bool) *member {
	t.Helper()
	m := &member{manual: manual}
	m.Group = must[*stream.Group](t)(stream.NewGroup(b.cfg, stream.GroupConfig{
		Group: group, Topics: []string{b.topic}, SessionTimeout: 2 * time.Second,
	}, m))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		seen := 0
		for ctx.Err() == nil {
			records, err := m.Poll(ctx, 100, 20*time.Millisecond)
			if err != nil {
				t.Errorf("poll: %v", err)
				return
			}
			m.mu.Lock()
			m.records = append(m.records, records...)
			fresh, owned := m.assigned != seen, slices.Clone(m.owned)
			seen = m.assigned
			m.mu.Unlock()
			if !fresh || manual || len(owned) == 0 {
				continue
			}
			offsets, err := m.Committed(ctx, owned)
			for tp, offset := range offsets {
				if err == nil {
					err = m.Start(tp, max(offset, 0))
				}
			}
			if err != nil && ctx.Err() == nil {
				t.Errorf("start: %v", err)
			}
		}
	}()
	m.stop = sync.OnceFunc(func() { // leaves nothing polling; the group is still open
		cancel()
		<-done
	})
	t.Cleanup(func() {
		m.stop()
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

// await polls until something holds, or fails when ctx ends.
func await(ctx context.Context, t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}

func numbered(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%06d", i)
	}
	return out
}
