package stream_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
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

// A topic that wants two replicas in sync and has one takes nothing: nobody is
// told that a record is safe which one broker alone has.
func TestTooFewReplicasAcknowledgeNothing(t *testing.T) {
	if os.Getenv(streamtest.EnvKafka) == "" {
		t.Skip("the embedded broker has no replicas; test.sh runs this on Apache Kafka")
	}
	b := newBed(t, 1)
	b.topic = streamtest.Name("insync")
	must[[]string](t)(b.admin.EnsureTopics(within(t, 30*time.Second), []stream.TopicSpec{{
		Name: b.topic, Partitions: 1, Replication: 1, Config: map[string]string{"min.insync.replicas": "2"},
	}}))
	send := func(extra map[string]string) error {
		cfg := b.cfg
		cfg.Extra = extra
		p := must[*stream.Producer](t)(stream.NewProducer(cfg))
		defer p.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return p.Send(ctx, b.topic, 0, nil, []byte("v"))
	}
	e, ok := errors.AsType[*txn.Error](send(nil))
	if !ok || e.Code != txn.CodeDeadlineExceeded && e.Code != txn.CodeUnavailable {
		t.Errorf("one replica of two: %v", e)
	}
	if err := send(careless()); err != nil {
		t.Errorf("switched off, it should have been taken: %v", err)
	}
	tx := b.transactor(t, b.topic)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := tx.Commit(ctx, []stream.Record{{Topic: b.topic, Value: []byte("v")}}, nil, nil); err == nil {
		t.Error("a Kafka transaction was committed with one replica of two")
	}
}
