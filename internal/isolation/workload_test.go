package isolation_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/isolation"
	"github.com/rocketcycle/rocketcycle/internal/isolation/workload"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

var (
	seed     = flag.Uint64("seed", uint64(time.Now().UnixNano()), "decides what the clients of the workload do")
	duration = flag.Duration("duration", 12*time.Second, "how long the workload runs")
	disturb  = flag.Duration("disturb", 0, "how often a processor is replaced or killed (default 2s, on Apache Kafka 4s, where a rebalance takes longer)")
	keep     = flag.String("history", "", "write the history of the workload to this file")
)

func TestMain(m *testing.M) {
	workload.Child()
	os.Exit(m.Run())
}

// The platform under load, with partitions that move and a processor that is
// killed: what its clients see must be strictly serializable.
func TestWorkload(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if *disturb == 0 {
		*disturb = 2 * time.Second
		if os.Getenv(streamtest.EnvKafka) != "" {
			*disturb = 4 * time.Second
		}
	}
	t.Logf("seed %d", *seed)
	h, stats, err := workload.Run(t.Context(), workload.Config{
		Stream: streamtest.Config(t), Prefix: streamtest.Name("isolation"), Seed: *seed, Duration: *duration,
		Child: self, Disturb: *disturb,
	})
	if *keep != "" {
		write(t, h)
	}
	if err != nil {
		t.Error(err) // what was recorded may tell why
	}
	start := time.Now()
	report, err := isolation.Check(h)
	if err != nil {
		t.Fatal(err)
	}
	linear := isolation.Linearizable(h, 5*time.Second)
	t.Logf("%+v, checked in %v", stats, time.Since(start))
	t.Log(report)
	t.Log(linear)
	if !report.Valid() || !linear.Valid() {
		t.Errorf("seed %d: see above", *seed)
	}
	// What is not judged proves nothing, nor a run in which nothing happens.
	if len(linear.Undecided) > linear.Objects/4 {
		t.Errorf("%d of %d instances were not decided", len(linear.Undecided), linear.Objects)
	}
	seconds := int(duration.Seconds())
	if report.OK < 10*seconds || report.Edges < 10*seconds {
		t.Errorf("%d operations and %d dependencies in %v prove too little", report.OK, report.Edges, *duration)
	}
	if stats.Kills == 0 || stats.Moves == 0 || stats.Engine.Parked == 0 || stats.Engine.Markers == 0 {
		t.Errorf("nothing disturbed it: %+v", stats)
	}
}

func write(t *testing.T, h isolation.History) {
	t.Helper()
	f, err := os.Create(*keep)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Write(f); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
