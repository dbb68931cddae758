package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
)

func TestTelemetryFlags(t *testing.T) {
	for want, f := range map[string]telemetryFlags{
		"not host:port":     {metrics: "9000"},
		"neither host:port": {otlp: "collector"},
		"between 0 and 1":   {ratio: 2},
	} {
		if err := f.check(); err == nil || ExitCode(err) != edgecmd.ExitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", f, err)
		}
	}
	f := telemetryFlags{metrics: metricsOff, ratio: 1}
	if err := f.check(); err != nil || f.config("").MetricsListen != "" || len(f.args(roleEdge)) > 0 {
		t.Errorf("off: %v, %q", err, f.args(roleEdge))
	}
	f = telemetryFlags{metrics: "127.0.0.1:11372", otlp: "collector:4317", ratio: .5}
	want := []string{"--metrics-listen", "127.0.0.1:11374", "--otlp-endpoint", "collector:4317", "--trace-ratio", "0.5"}
	if got := f.args(roleEdge); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (&telemetryFlags{metrics: "127.0.0.1:0"}).args(roleStorage); !slices.Equal(got, []string{"--metrics-listen", "127.0.0.1:0"}) {
		t.Errorf("%q", got)
	}
}
