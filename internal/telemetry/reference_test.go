package telemetry_test

import (
	"flag"
	"os"
	"testing"

	"github.com/rocketcycle/rocketcycle/internal/telemetry"
)

var update = flag.Bool("update", false, "write docs/reference/metrics.md")

func TestReferenceIsUpToDate(t *testing.T) {
	const page = "../../docs/reference/metrics.md"
	want := telemetry.Reference()
	if *update {
		if err := os.MkdirAll("../../docs/reference", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != want {
		t.Errorf("%s is stale (%v); run go test ./internal/telemetry -update", page, err)
	}
}
