package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/storage/storagetest"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestMain(m *testing.M) { os.Exit(devpostgres.Main(m)) }

// rig is a storage topic, and what was written to it.
type rig struct {
	*testing.T
	cfg          stream.Config
	topic, group string
	partitions   int32
	kind         storagetest.Kind
	tx           *stream.Transactor
	admin        *stream.Admin

	sent [][]*rkcyv1.Change              // by partition, in order
	ends map[stream.TopicPartition]int64 // behind the last change
	want map[string]*rkcyv1.Change       // last change of each key
}

func newRig(t *testing.T, partitions int32) *rig {
	t.Helper()
	name := streamtest.Name("storage")
	r := &rig{
		T: t, cfg: streamtest.Config(t), topic: name, group: name, partitions: partitions, kind: storagetest.NewKind(),
		sent: make([][]*rkcyv1.Change, partitions), ends: map[stream.TopicPartition]int64{}, want: map[string]*rkcyv1.Change{},
	}
	var err error
	if r.admin, err = stream.NewAdmin(r.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.admin.Close)
	if _, err := r.admin.EnsureTopics(t.Context(), []stream.TopicSpec{{Name: name, Partitions: int(partitions), Replication: 1}}); err != nil {
		t.Fatal(err)
	}
	if r.tx, err = stream.NewTransactor(t.Context(), r.cfg, name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.tx.Close)
	return r
}

func (r *rig) tp(partition int32) stream.TopicPartition {
	return stream.TopicPartition{Topic: r.topic, Partition: partition}
}

// put appends changes in one Kafka transaction.
func (r *rig) put(changes ...*rkcyv1.Change) {
	r.Helper()
	var records []stream.Record
	for _, c := range changes {
		value, err := proto.Marshal(c)
		if err != nil {
			r.Fatal(err)
		}
		p := stream.PartitionFor([]byte(c.GetKey()), r.partitions)
		records = append(records, stream.Record{Topic: r.topic, Partition: p, Key: []byte(c.GetKey()), Value: value})
		r.sent[p] = append(r.sent[p], c)
		r.want[c.GetKey()] = c
	}
	last, err := r.tx.Commit(r.Context(), records, nil, nil)
	if err != nil {
		r.Fatal(err)
	}
	for tp, offset := range last {
		r.ends[tp] = offset + 1
	}
}

// random appends n changes of 50 keys.
func (r *rig) random(n int) {
	r.Helper()
	for n > 0 {
		var changes []*rkcyv1.Change
		for range min(n, 1+rand.N(200)) {
			key := fmt.Sprintf("key-%d", rand.N(50))
			version := r.want[key].GetAfter().GetVersion() + 1
			if version > 1 && rand.N(4) == 0 {
				changes = append(changes, storagetest.Delete(key))
			} else {
				changes = append(changes, storagetest.Put(r.kind.Thing(key, map[string]any{"big": rand.Int64()}), version))
			}
			r.want[key] = changes[len(changes)-1]
		}
		n -= len(changes)
		r.put(changes...)
	}
}

// start runs a writer until the test ends or stop is called.
func (r *rig) start(target storage.Target, change func(*storage.WriterConfig)) (w *storage.Writer, stop func()) {
	r.Helper()
	cfg := storage.WriterConfig{
		Stream: r.cfg, Group: r.group, Concern: storagetest.First, Generation: 1, Topic: r.topic, Target: target, Logger: r.cfg.Logger,
		RetryMax: 100 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	w, err := storage.NewWriter(cfg)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.Errorf("the writer ended with %v", err)
		}
	})
	r.Cleanup(stop)
	return w, stop
}

func (r *rig) await(what string, ok func() bool) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), 60*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			r.Fatalf("%s: not in time", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// awaitOffsets waits until the group's offsets, which processors go by, are at
// the ends of the given partitions, or all.
func (r *rig) awaitOffsets(partitions ...int32) {
	r.Helper()
	if len(partitions) == 0 {
		for p := range r.partitions {
			partitions = append(partitions, p)
		}
	}
	var got map[stream.TopicPartition]int64
	var tps []stream.TopicPartition
	for _, p := range partitions {
		if r.ends[r.tp(p)] > 0 {
			tps = append(tps, r.tp(p))
		}
	}
	defer func() {
		if r.Failed() {
			r.Logf("group offsets %v, want %v", got, r.ends)
		}
	}()
	r.await("group offsets", func() bool {
		var err error
		if got, err = r.admin.GroupOffsets(r.Context(), r.group, tps); err != nil {
			r.Fatal(err)
		}
		for _, tp := range tps {
			if got[tp] > r.ends[tp] {
				r.Fatalf("group offset %d of %v is above %d", got[tp], tp, r.ends[tp])
			}
			if got[tp] != r.ends[tp] {
				return false
			}
		}
		return true
	})
}

// check compares the target with what was sent.
func (r *rig) check(target storagetest.Target) {
	r.Helper()
	var keys []string
	for k := range r.want {
		keys = append(keys, k)
	}
	got, err := target.Load(r.Context(), storagetest.First, keys)
	if err != nil {
		r.Fatal(err)
	}
	there := 0
	for key, c := range r.want {
		if c.GetAfter().GetVersion() == 0 {
			if got[key] != nil {
				r.Errorf("%s is there, though deleted", key)
			}
			continue
		}
		there++
		a, b := r.kind.New(), r.kind.New()
		if err := errors.Join(proto.Unmarshal(got[key].GetValue(), a), proto.Unmarshal(c.GetAfter().GetValue(), b)); err != nil {
			r.Fatal(err)
		}
		if got[key].GetVersion() != c.GetAfter().GetVersion() || !proto.Equal(a, b) {
			r.Errorf("%s is %v, want %v", key, got[key], c.GetAfter())
		}
	}
	if len(got) != there || there == 0 {
		r.Errorf("%d instances, want %d", len(got), there)
	}
	memory, ok := target.(*storagetest.Memory)
	if !ok {
		return
	}
	// Every change once, in order.
	byPartition := make([][]*rkcyv1.Change, r.partitions)
	for _, c := range memory.Applied() {
		p := stream.PartitionFor([]byte(c.GetKey()), r.partitions)
		byPartition[p] = append(byPartition[p], c)
	}
	for p, sent := range r.sent {
		if len(byPartition[p]) != len(sent) {
			r.Errorf("partition %d: %d changes applied, %d sent", p, len(byPartition[p]), len(sent))
			continue
		}
		for i := range sent {
			if !proto.Equal(sent[i], byPartition[p][i]) {
				r.Errorf("partition %d: change %d is %v, want %v", p, i, byPartition[p][i], sent[i])
				break
			}
		}
	}
}

func memory(r *rig) *storagetest.Memory {
	return storagetest.NewMemory(storagetest.Mappings(r.kind)...)
}

func database(r *rig, dsn string) *postgres.Target {
	r.Helper()
	mappings := storagetest.Mappings(r.kind)
	app := fstest.MapFS{"00001_tables.sql": {Data: []byte("-- +goose Up\n" + postgres.Schema(mappings[0]) + postgres.Schema(mappings[1]))}}
	if _, err := postgres.Migrate(r.Context(), dsn, app, nil); err != nil {
		r.Fatal(err)
	}
	target, err := postgres.Open(postgres.Config{DSN: dsn, Mappings: mappings, LoadTimeout: time.Minute, ConnectTimeout: 30 * time.Second})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(target.Close)
	return target
}

// Writers come and go, several of them, while changes come in.
func TestRestarts(t *testing.T) {
	for name, open := range map[string]func(r *rig) storagetest.Target{
		"memory":   func(r *rig) storagetest.Target { return memory(r) },
		"postgres": func(r *rig) storagetest.Target { return database(r, devpostgres.Test(r).NewDatabase(r)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4)
			target := open(r)
			small := func(c *storage.WriterConfig) { c.BatchMax = 37 }
			stop := func() {}
			for range 5 {
				r.random(300)
				_, stopNext := r.start(target, small)
				r.random(200)
				stop() // there are two for a while
				stop = stopNext
			}
			r.random(300)
			r.awaitOffsets()
			r.check(target)
		})
	}
}

// The database commits, and the writer never hears of it: it was killed there,
// or the connection was lost.
func TestCommitNotHeardOf(t *testing.T) {
	r := newRig(t, 3)
	target := memory(r)
	var lost atomic.Int64
	target.After = func([]storage.Batch) error {
		if lost.Add(1)%2 == 1 {
			return errors.New("connection lost")
		}
		return nil
	}
	r.random(2000)
	w, _ := r.start(target, func(c *storage.WriterConfig) { c.BatchMax = 100 })
	r.awaitOffsets()
	r.check(target)
	if lost.Load() < 20 {
		t.Errorf("%d commits only", lost.Load())
	}
	r.await("the status", func() bool { return w.Status().Failing == "" })
}

// Killed between the commit of the database and that of the group offset: the
// next writer starts at the watermark and tells the group.
func TestKilledBeforeOffsetCommit(t *testing.T) {
	r := newRig(t, 1)
	target := memory(r)
	r.random(100)
	// What the writer did before it was killed.
	err := target.Apply(t.Context(), []storage.Batch{{
		Partition: storage.Partition{Concern: storagetest.First, Generation: 1}, Next: r.ends[r.tp(0)], Changes: r.sent[0],
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.start(target, nil)
	r.awaitOffsets()
	r.check(target)
	r.random(100)
	r.awaitOffsets()
	r.check(target)
}

// While the database is away the writer keeps one batch in memory, however
// much is waiting in the log, and catches up exactly.
func TestDatabaseAway(t *testing.T) {
	r := newRig(t, 3)
	target := memory(r)
	const most = 60
	var away atomic.Bool
	var attempts, largest atomic.Int64
	target.Before = func(batches []storage.Batch) error {
		n := 0
		for _, b := range batches {
			n += len(b.Changes)
		}
		largest.Store(max(largest.Load(), int64(n)))
		if away.Load() {
			attempts.Add(1)
			return fmt.Errorf("dial tcp: connection %d refused", attempts.Load())
		}
		return nil
	}
	var log lockedBuffer
	w, _ := r.start(target, func(c *storage.WriterConfig) {
		c.BatchMax, c.RetryMax, c.Logger = most, 5*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil))
	})
	r.random(500)
	r.awaitOffsets()
	away.Store(true)
	r.random(5000)
	r.await("attempts", func() bool { return attempts.Load() > 30 })
	if got := w.Status().Failing; !strings.Contains(got, "refused") {
		t.Errorf("status is %q", got)
	}
	if n := strings.Count(log.String(), "held up"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	away.Store(false)
	r.awaitOffsets()
	r.check(target)
	if largest.Load() > most {
		t.Errorf("%d changes in one batch, want %d at most", largest.Load(), most)
	}
	r.await("the status", func() bool { return w.Status().Failing == "" })
	if got := w.Status().Changes; got != 5500 {
		t.Errorf("%d changes applied", got)
	}
}

// A batch is bounded by its size too.
func TestLargeChanges(t *testing.T) {
	r := newRig(t, 2)
	target := memory(r)
	var largest atomic.Int64
	target.Before = func(batches []storage.Batch) error {
		n := 0
		for _, b := range batches {
			for _, c := range b.Changes {
				n += len(c.GetAfter().GetValue())
			}
		}
		largest.Store(max(largest.Load(), int64(n)))
		return nil
	}
	for i := range 40 {
		r.put(storagetest.Put(r.kind.Thing(fmt.Sprint(i), map[string]any{"raw": make([]byte, 500_000)}), 1))
	}
	r.start(target, func(c *storage.WriterConfig) { c.BatchBytes = 1 << 20 })
	r.awaitOffsets()
	r.check(target)
	if most := int64(1<<20 + 16*501_000); largest.Load() > most {
		t.Errorf("%d bytes in one batch, want %d at most", largest.Load(), most)
	}
}

// Another writer, one that Kafka has forgotten, is faster.
func TestStale(t *testing.T) {
	r := newRig(t, 2)
	target := memory(r)
	var other sync.Once
	target.Before = func(batches []storage.Batch) (err error) {
		other.Do(func() {
			b := batches[0]
			half := len(b.Changes) / 2
			b.Changes, b.Next = b.Changes[:half], b.From+int64(half)
			before := target.Before
			target.Before = nil
			err = target.Apply(context.Background(), []storage.Batch{b})
			target.Before = before
		})
		return err
	}
	// In one Kafka transaction, so that offsets have no holes.
	var changes []*rkcyv1.Change
	for i := range 200 {
		changes = append(changes, storagetest.Put(r.kind.Thing(fmt.Sprintf("key-%d", i%20), nil), uint64(i+1)))
	}
	r.put(changes...)
	r.start(target, nil)
	r.awaitOffsets()
	r.check(target)
}

// A change that the target refuses holds up its own partition, and is written
// as soon as it can be.
func TestRefused(t *testing.T) {
	for name, refusal := range map[string]func(storage.Batch) error{
		"known change": func(b storage.Batch) error {
			return &storage.ChangeError{Partition: b.Partition, Key: "bad", From: b.From, Next: b.Next, Err: errors.New("too odd")}
		},
		"unknown change": func(storage.Batch) error { return fmt.Errorf("%w: too odd", storage.ErrPermanent) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 4)
			target := memory(r)
			var odd atomic.Bool
			odd.Store(true)
			target.Before = func(batches []storage.Batch) error {
				for _, b := range batches {
					for _, c := range b.Changes {
						if odd.Load() && c.GetKey() == "bad" {
							return refusal(b)
						}
					}
				}
				return nil
			}
			bad := stream.PartitionFor([]byte("bad"), r.partitions)
			r.random(500)
			r.put(storagetest.Put(r.kind.Thing("bad", nil), 1))
			var log lockedBuffer
			w, _ := r.start(target, func(c *storage.WriterConfig) {
				c.BatchMax, c.Logger = 50, slog.New(slog.NewTextHandler(&log, nil))
			})
			r.random(2000)
			var others []int32
			for p := range r.partitions {
				if p != bad {
					others = append(others, p)
				}
			}
			r.awaitOffsets(others...)
			r.await("the status", func() bool { return strings.Contains(w.Status().Failing, "too odd") })
			for _, c := range target.Applied() {
				if c.GetKey() == "bad" {
					t.Error("the change was applied")
				}
			}
			if !strings.Contains(log.String(), fmt.Sprintf("level=ERROR msg=\"a storage partition is held up; trying again\" concern=%s topic=%s partition=%d", storagetest.First, r.topic, bad)) {
				t.Errorf("log:\n%s", log.String())
			}
			odd.Store(false)
			r.awaitOffsets()
			r.check(target)
			r.await("the status", func() bool { return w.Status().Failing == "" })
		})
	}
}

// A record that is no change: what lies before it is written, nothing behind it
// is, the other partitions go on, and the log says where it is, once.
func TestDamagedRecord(t *testing.T) {
	for name, value := range map[string][]byte{"garbage": {0xff, 0xff, 0xff}, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2)
			target := memory(r)
			r.random(300)
			last, err := r.tx.Commit(t.Context(), []stream.Record{{Topic: r.topic, Partition: 1, Value: value}}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			end := r.ends[r.tp(1)]
			var log lockedBuffer
			w, _ := r.start(target, func(c *storage.WriterConfig) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			r.random(300)
			r.awaitOffsets(0)
			where := fmt.Sprintf("%s[1]@%d", r.topic, last[r.tp(1)])
			r.await("the status", func() bool { return strings.Contains(w.Status().Failing, where) })
			r.random(300)
			r.awaitOffsets(0)
			got, err := r.admin.GroupOffsets(t.Context(), r.group, []stream.TopicPartition{r.tp(1)})
			if err != nil || got[r.tp(1)] != end {
				t.Errorf("group offset %v, %v; want %d", got, err, end)
			}
			if n := strings.Count(log.String(), where); n != 1 {
				t.Errorf("logged %d times:\n%s", n, log.String())
			}
		})
	}
}

// The log begins above the watermark: changes are missing, and reading on would
// hide that.
func TestGap(t *testing.T) {
	r := newRig(t, 2)
	target := memory(r)
	r.random(300)
	if err := r.admin.DeleteRecordsBefore(t.Context(), map[stream.TopicPartition]int64{r.tp(0): 10}); err != nil {
		t.Fatal(err)
	}
	w, stop := r.start(target, nil)
	r.awaitOffsets(1)
	r.await("the status", func() bool { return strings.Contains(w.Status().Failing, "changes are missing") })
	stop()
	// The log ends below the watermark: it is another log.
	r.Log("above the end")
	target = memory(r)
	err := target.Apply(t.Context(), []storage.Batch{{
		Partition: storage.Partition{Concern: storagetest.First, Generation: 1, Partition: 0}, Next: 1_000_000,
	}})
	if err != nil {
		t.Fatal(err)
	}
	w, _ = r.start(target, nil)
	r.await("the status", func() bool { return strings.Contains(w.Status().Failing, "changes are missing") })
}

// A real database is killed, and stands still, again and again.
func TestPostgresFaults(t *testing.T) {
	server := devpostgres.Own(t)
	r := newRig(t, 4)
	target := database(r, server.NewDatabase(t))
	for range 2 {
		r.start(target, func(c *storage.WriterConfig) { c.BatchMax, c.ApplyTimeout = 50, time.Second })
	}
	for range 3 {
		r.random(400)
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		r.random(400)
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.random(400)
		if err := server.Pause(); err != nil {
			t.Fatal(err)
		}
		r.random(400)
		if err := server.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	r.awaitOffsets()
	r.check(target)
	var ask []storage.Partition
	for p := range r.partitions {
		ask = append(ask, storage.Partition{Concern: storagetest.First, Generation: 1, Partition: p})
	}
	marks, err := target.Watermarks(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ask {
		if marks[p] != r.ends[r.tp(p.Partition)] {
			t.Errorf("watermark of %v is %d, want %d", p, marks[p], r.ends[r.tp(p.Partition)])
		}
	}
}

// A writer that is told to end while the database does not answer ends.
func TestStopWhileAway(t *testing.T) {
	r := newRig(t, 1)
	inside := make(chan struct{}, 100)
	target := &hanging{Memory: memory(r), inside: inside}
	r.random(10)
	_, stop := r.start(target, func(c *storage.WriterConfig) { c.StopTimeout, c.ApplyTimeout = 50*time.Millisecond, time.Hour })
	<-inside
	stop()
}

type hanging struct {
	*storagetest.Memory
	inside chan struct{}
}

func (h *hanging) Apply(ctx context.Context, _ []storage.Batch) error {
	h.inside <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func TestWriterConfig(t *testing.T) {
	if _, err := storage.NewWriter(storage.WriterConfig{BatchMax: -1}); err == nil {
		t.Error("no error")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
