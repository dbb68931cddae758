package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
)

// EnvChaos runs the suite: "all", or "some" for the selection of CI. Where it is
// unset, only the tests that need no servers run.
const EnvChaos = "RKCY_CHAOS"

var (
	seed     = flag.Uint64("seed", rand.Uint64(), "decides what clients do and when processes die")
	duration = flag.Duration("duration", 10*time.Second, "how long a scenario that repeats its harm does so")
)

func TestMain(m *testing.M) {
	Child()
	flag.Parse()
	code := devpostgres.Main(m)
	if kafka.cluster != nil {
		if err := kafka.cluster.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// kafka is the one broker that scenarios share which do no harm to it.
var kafka struct {
	once    sync.Once
	cluster *devbroker.Kafka
	at      string
	err     error
}

func broker(t testing.TB) string {
	t.Helper()
	kafka.once.Do(func() {
		if kafka.at = os.Getenv(devbroker.EnvKafka); kafka.at != "" {
			return
		}
		if kafka.cluster, kafka.err = devbroker.StartKafka(context.Background(), devbroker.KafkaConfig{HeapMB: 384}); kafka.err == nil {
			kafka.at = kafka.cluster.Bootstrap()
		}
	})
	if kafka.err != nil {
		t.Fatal(kafka.err)
	}
	return kafka.at
}

// scenario is one kind of harm.
type scenario struct {
	name string
	// inCI: belongs to the selection.
	inCI bool
	run  func(t *testing.T)
}

func TestChaos(t *testing.T) {
	mode := os.Getenv(EnvChaos)
	if mode == "" {
		t.Skipf("%s is not set; make chaos runs this", EnvChaos)
	}
	t.Logf("seed %d", *seed)
	for _, s := range scenarios() {
		if mode != "all" && !s.inCI {
			continue
		}
		t.Run(s.name, s.run)
	}
}

// shared is an arena on the shared servers.
func shared(t testing.TB) *arena {
	t.Helper()
	return newArena(t, broker(t), devpostgres.Test(t).NewDatabase(t))
}

// source returns the random numbers of a scenario.
func source(n uint64) *rand.Rand { return rand.New(rand.NewPCG(*seed, n)) }

// during does something again and again, for about d.
func during(t testing.TB, d time.Duration, fn func()) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		fn()
	}
}
