package concern_test

import (
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/isolation"
	"github.com/rocketcycle/rocketcycle/internal/isolation/workload"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

// The isolation checker must find what goes wrong when nothing holds
// instances, or it would not tell us anything. That it finds nothing with them
// is shown in internal/isolation.
func TestIsolationCheckerFindsMissingHolds(t *testing.T) {
	for seed := range uint64(5) {
		h, stats, err := workload.Run(t.Context(), workload.Config{
			Stream: streamtest.Config(t), Prefix: streamtest.Name("without"), Seed: seed, Duration: 3 * time.Second,
			Configure: concern.WithoutHolds,
		})
		if err != nil {
			t.Fatal(err)
		}
		report, err := isolation.Check(h)
		if err != nil {
			t.Fatal(err)
		}
		if report.OK < 100 {
			t.Fatalf("%d operations prove too little: %+v", report.OK, stats)
		}
		if !report.Valid() {
			t.Logf("seed %d: %d operations, found %v", seed, report.OK, report.Kinds())
			return
		}
	}
	t.Error("no holds, and no anomaly found")
}
