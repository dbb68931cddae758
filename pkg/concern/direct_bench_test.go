package concern

import (
	"fmt"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// BenchmarkDirectRead reads from a mirror of 1,000 instances, by as many goroutines
// as there are cores.
func BenchmarkDirectRead(b *testing.B) {
	cfg := Config{
		Group: "g", ResponseTopic: "r", Router: fixedRoute{}, Loader: emptyDatabase{},
		Concerns: []Served{{Definition: listDefinition("list"), StorageGroup: "s", Topics: Topics{Process: "process"}}},
	}
	p, err := NewProcessor(cfg)
	if err != nil {
		b.Fatal(err)
	}
	w := newWorker(p, 0)
	w.lease.renew(w.lease.now(), time.Now().Add(time.Hour))
	topic, n, err := fixedRoute{}.Route("list", "k")
	if err != nil {
		b.Fatal(err)
	}
	m := newMirror()
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprint("key-", i)
		m.set(keys[i], &rkcyv1.Instance{Value: make([]byte, 200), Version: 1})
	}
	p.mirrors.open(stream.TopicPartition{Topic: topic, Partition: n}, &served{mirror: m, worker: w})
	for _, size := range []int{1, 100} {
		for _, session := range []bool{false, true} {
			b.Run(fmt.Sprintf("keys=%d/session=%t", size, session), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						found, err := p.Read(b.Context(), Read{Concern: "list", Keys: keys[:size], Session: session})
						if err != nil || found[0].Err != nil {
							b.Error("refused")
							return
						}
					}
				})
			})
		}
	}
}
