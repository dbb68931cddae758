package chaos

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
	"github.com/rocketcycle/rocketcycle/internal/failpoint"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// A commit whose connection breaks is repeated by the library, and succeeds. The
// first one may still be on its way, so the producer must not be used again.
func TestLostCommitRenewsProducer(t *testing.T) {
	defer failpoint.Reset()
	for _, off := range []bool{false, true} {
		if off {
			failpoint.Disable(failpoint.Renewal)
		}
		b, err := devbroker.StartEmbedded(t.Context(), devbroker.EmbeddedConfig{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		p, err := newKafkaProxy(b.Bootstrap())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.close)
		cfg := stream.Config{Bootstrap: p.bootstrap(), TransactionTimeout: 5 * time.Second}
		admin, err := stream.NewAdmin(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := admin.EnsureTopics(t.Context(), []stream.TopicSpec{{Name: "t", Partitions: 1, Replication: 1}}); err != nil {
			t.Fatal(err)
		}
		admin.Close()
		tx, err := stream.NewTransactor(t.Context(), cfg, "x")
		if err != nil {
			t.Fatal(err)
		}
		commit := func() {
			t.Helper()
			if _, err := tx.Commit(t.Context(), []stream.Record{{Topic: "t", Value: []byte("v")}}, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		commit()
		commit()
		if n := tx.Renewals(); n != 0 {
			t.Errorf("%d renewals before anything happened", n)
		}
		var once sync.Once
		p.judge(func(r *request) (v verdict) {
			if r.key == kmsg.EndTxn {
				once.Do(func() { v = lose })
			}
			return v
		}, nil)
		commit() // its commit is lost and repeated
		commit()
		want := uint64(1)
		if off {
			want = 0
		}
		if n := tx.Renewals(); n != want {
			t.Errorf("renewal switched off: %v; %d renewals, want %d", off, n, want)
		}
		tx.Close()
	}
}
