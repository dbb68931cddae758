package stream_test

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

// careless are settings with which a producer is answered before the other
// replicas have its record. The platform file cannot have them.
func careless() map[string]string {
	return map[string]string{"acks": "1", "enable.idempotence": "false"}
}

// Every record is acknowledged by all replicas in sync. The broker of this test
// looks at what it is asked for.
func TestEmbeddedEveryReplicaIsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		extra map[string]string
		want  []int16
	}{
		"as it is":     {nil, []int16{-1}},
		"switched off": {careless(), []int16{1}},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := must[*kfake.Cluster](t)(kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t")))
			defer cluster.Close()
			var mu sync.Mutex
			asked := map[int16]bool{}
			cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
				mu.Lock()
				defer mu.Unlock()
				cluster.KeepControl()
				asked[r.(*kmsg.ProduceRequest).Acks] = true
				return nil, nil, false
			})
			cfg := stream.Config{Bootstrap: cluster.ListenAddrs()[0], Extra: c.extra}
			p := must[*stream.Producer](t)(stream.NewProducer(cfg))
			defer p.Close()
			mustNot(t, p.Send(within(t, time.Minute), "t", 0, nil, []byte("v")))
			if c.extra == nil { // the library refuses a transaction with less
				tx := must[*stream.Transactor](t)(stream.NewTransactor(within(t, time.Minute), cfg, "x"))
				defer tx.Close()
				_, err := tx.Commit(within(t, time.Minute), []stream.Record{{Topic: "t", Value: []byte("v")}}, nil, nil)
				mustNot(t, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if got := slices.Collect(maps.Keys(asked)); !slices.Equal(got, c.want) {
				t.Errorf("acknowledged by %v, want %v (-1 is all)", got, c.want)
			}
		})
	}
}

// With one of two replicas gone, nobody is told that a record is safe which the
// other has alone.
func TestOneReplicaOfTwoAcknowledgesNothing(t *testing.T) {
	if os.Getenv(streamtest.EnvKafka) == "" {
		t.Skip("the embedded broker has no replicas; test.sh runs this where there is an Apache Kafka")
	}
	k := must[*devbroker.Kafka](t)(devbroker.StartKafka(within(t, 2*time.Minute), devbroker.KafkaConfig{Brokers: 2, HeapMB: 256}))
	defer func() { mustNot(t, k.Close()) }()
	cfg := stream.Config{Bootstrap: k.Bootstrap()}
	const topic, partitions = "t", 4
	admin := must[*stream.Admin](t)(stream.NewAdmin(cfg))
	defer admin.Close()
	must[[]string](t)(admin.EnsureTopics(within(t, time.Minute), []stream.TopicSpec{{
		Name: topic, Partitions: partitions, Replication: 2, Config: map[string]string{"min.insync.replicas": "2"},
	}}))
	p := must[*stream.Producer](t)(stream.NewProducer(cfg))
	defer p.Close()
	loose := cfg
	loose.Extra = careless()
	off := must[*stream.Producer](t)(stream.NewProducer(loose))
	defer off.Close()
	tx := must[*stream.Transactor](t)(stream.NewTransactor(within(t, time.Minute), cfg, "x"))
	defer tx.Close()
	// acknowledged returns how many partitions take a record.
	acknowledged := func(p *stream.Producer, patience time.Duration) (n int64) {
		var g sync.WaitGroup
		var ok atomic.Int64
		for partition := range int32(partitions) {
			g.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if p.Send(ctx, topic, partition, nil, []byte("v")) == nil {
					ok.Add(1)
				}
			})
		}
		g.Wait()
		return ok.Load()
	}
	commit := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := tx.Commit(ctx, []stream.Record{{Topic: topic, Value: []byte("v")}, {Topic: topic, Partition: 1, Value: []byte("v")}}, nil, nil)
		return err
	}
	mustNot(t, commit(time.Minute))
	if a, b := acknowledged(p, time.Minute), acknowledged(off, time.Minute); a != partitions || b != partitions {
		t.Fatalf("%d and %d partitions of %d work", a, b, partitions)
	}
	mustNot(t, k.KillBroker(1))
	if n := acknowledged(p, 5*time.Second); n != 0 {
		t.Errorf("one replica of two acknowledged in %d partitions", n)
	}
	if err := commit(5 * time.Second); err == nil {
		t.Error("a Kafka transaction was committed with one replica of two")
	}
	if n := acknowledged(off, 30*time.Second); n == 0 {
		t.Error("switched off, the replica that is left should have acknowledged")
	}
	mustNot(t, k.KillBroker(0)) // which would wait for the other one
}
