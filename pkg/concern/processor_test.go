package concern

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// rig is a platform without a database: one Concern of lists, a processor or
// several, and a client.
type rig struct {
	t          *testing.T
	cfg        stream.Config
	prefix     string
	partitions int32
	client     *txn.Client
}

func (r *rig) Route(concern, key string) (string, int32, error) {
	return r.prefix + "." + concern + ".process", stream.PartitionFor([]byte(key), r.partitions), nil
}

func (r *rig) IdempotencyHome() string { return "list" }

// emptyDatabase has nothing, so all that is created stays in the overlay.
type emptyDatabase struct{}

func (emptyDatabase) Load(context.Context, string, []string) (map[string]*rkcyv1.Instance, error) {
	return nil, nil
}

func newRig(t *testing.T, partitions int32) *rig {
	t.Helper()
	r := &rig{t: t, cfg: streamtest.Config(t), prefix: streamtest.Name("rig"), partitions: partitions}
	admin, err := stream.NewAdmin(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	var specs []stream.TopicSpec
	for _, kind := range []string{"process", "state", "storage", "error"} {
		specs = append(specs, stream.TopicSpec{Name: r.prefix + ".list." + kind, Partitions: int(partitions), Replication: 1})
	}
	specs = append(specs, stream.TopicSpec{Name: r.prefix + ".response", Partitions: 1, Replication: 1})
	if _, err := admin.EnsureTopics(t.Context(), specs); err != nil {
		t.Fatal(err)
	}
	producer, err := stream.NewProducer(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	r.client, err = txn.NewClient(txn.ClientConfig{Router: r, Sender: producer, EdgeID: 7})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := stream.NewReader(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := reader.Follow(ctx, stream.TopicPartition{Topic: r.prefix + ".response"}, stream.OffsetEnd, func() { close(started) }, func(rec stream.Record) {
			if err := r.client.Deliver(rec.Value); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait(); reader.Close() })
	<-started
	return r
}

// config is that of a processor.
func (r *rig) config(session time.Duration) Config {
	return Config{
		Stream: r.cfg, Group: r.prefix + ".process", ResponseTopic: r.prefix + ".response", Router: r,
		Loader: emptyDatabase{}, SessionTimeout: session, Logger: r.cfg.Logger,
		Concerns: []Served{{
			Definition: listDefinition("list"), StorageGroup: r.prefix + ".storage",
			Topics: Topics{
				Process: r.prefix + ".list.process", State: r.prefix + ".list.state",
				Storage: r.prefix + ".list.storage", Error: r.prefix + ".list.error",
			},
		}},
	}
}

// start runs a processor and returns what stops it.
func (r *rig) start(session time.Duration) (p *Processor, stop func()) {
	p, err := NewProcessor(r.config(session))
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return p, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
}

func listStep(command, key string) txn.TypedStep[*list] {
	payload := proto.Message(&list{})
	if command == txn.CommandCreate {
		payload = &list{Value: []byte(key)}
	}
	return txn.NewStep("list", key, command, rkcyv1.Access_ACCESS_WRITE, payload, func() *list { return &list{} })
}

func TestProcessorRunsTransactions(t *testing.T) {
	r := newRig(t, 4)
	p, stop := r.start(0)
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const keys = 8
	for k := range keys {
		if _, err := txn.Do(ctx, r.client, listStep(txn.CommandCreate, fmt.Sprint("instance-", k))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := txn.Do(ctx, r.client, listStep(txn.CommandCreate, "instance-0")); txn.CodeOf(err) != txn.CodeAlreadyExists {
		t.Errorf("second create: %v", err)
	}
	if _, err := txn.Do(ctx, r.client, listStep("Append", "nobody")); txn.CodeOf(err) != txn.CodeNotFound {
		t.Errorf("append to nobody: %v", err)
	}
	if _, err := txn.Do(ctx, r.client, listStep("Panic", "instance-0")); txn.CodeOf(err) != txn.CodeInternal {
		t.Errorf("panic: %v", err)
	}
	if _, err := txn.Do(ctx, r.client, listStep("Nonsense", "instance-0")); txn.CodeOf(err) != txn.CodeUnimplemented {
		t.Errorf("unknown command: %v", err)
	}
	const runners, each = 16, 20
	var g errgroup.Group
	for i := range runners {
		g.Go(func() error {
			for j := range each {
				b := txn.New()
				one := txn.Add(b, listStep("Append", fmt.Sprint("instance-", (i+j)%keys)))
				two := txn.Add(b, listStep("Append", fmt.Sprint("instance-", (i+3*j+1)%keys)))
				res, err := r.client.Run(ctx, b)
				if err != nil {
					return err
				}
				for _, h := range []*txn.Handle[*list]{one, two} {
					if _, err := h.Result(res); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for k := range keys {
		l, err := txn.Do(ctx, r.client, listStep(txn.CommandRead, fmt.Sprint("instance-", k)))
		if err != nil {
			t.Fatal(err)
		}
		total += len(l.GetPaths())
	}
	if total != 2*runners*each {
		t.Errorf("%d appends took effect, not %d", total, 2*runners*each)
	}
	t.Logf("%+v", p.Status())
}

// Two processors share the partitions; one goes away in the middle of the work
// and the other takes over.
func TestProcessorsShareAndTakeOver(t *testing.T) {
	r := newRig(t, 4)
	_, stop1 := r.start(0)
	defer stop1()
	p2, stop2 := r.start(0)
	defer stop2()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const keys = 24
	for k := range keys {
		if _, err := txn.Do(ctx, r.client, listStep(txn.CommandCreate, fmt.Sprint("instance-", k))); err != nil {
			t.Fatal(err)
		}
	}
	var g errgroup.Group
	half := make(chan struct{}, 8)
	for i := range 8 {
		g.Go(func() error {
			for j := range 40 {
				if j == 20 {
					half <- struct{}{}
				}
				b := txn.New()
				txn.Add(b, listStep("Append", fmt.Sprint("instance-", (i+j)%keys)))
				txn.Add(b, listStep("Append", fmt.Sprint("instance-", (i+3*j+1)%keys)))
				if _, err := r.client.Run(ctx, b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 8 {
		<-half
	}
	stop1()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for k := range keys {
		l, err := txn.Do(ctx, r.client, listStep(txn.CommandRead, fmt.Sprint("instance-", k)))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, id := range l.GetPaths() {
			seen[id] = true
		}
		total += len(l.GetPaths())
	}
	if total != 2*8*40 {
		t.Errorf("%d appends took effect, not %d", total, 2*8*40)
	}
	t.Logf("%+v", p2.Status())
}
