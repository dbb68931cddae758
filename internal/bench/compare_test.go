package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// aRun is a run with one of everything that is judged.
func aRun(rate float64, p50 time.Duration) *result {
	r := &result{Options: options{Brokers: []string{brokerKafka}, InFlight: []int{1, 512}, CacheBytes: 256 << 20}}
	add := func(broker, system, workload string, inFlight int, rate float64, p50 time.Duration, n *nodeCell) {
		r.Cells = append(r.Cells, cell{
			Broker: broker, System: system, Workload: workload, InFlight: inFlight, measured: measured{Rate: rate, P50: p50}, Node: n,
		})
	}
	add(brokerNone, sysSerializable, wlTrade, 512, 4000, 0, nil)
	add(brokerNone, sysTuned, wlTrade, 512, 10_000, 0, nil)
	add(brokerKafka, sysFloor, wlTrade, 1, 300, 5*time.Millisecond, nil)
	add(brokerKafka, sysRocketcycle, wlTrade, 1, 200, p50, &nodeCell{RSS: 200 << 20})
	add(brokerKafka, sysRocketcycle, wlTrade, 512, rate, 0, &nodeCell{RSS: 500 << 20})
	r.judge()
	return r
}

func (r *result) ratio(t *testing.T, name string) ratio {
	t.Helper()
	for _, one := range r.Ratios {
		if strings.Contains(one.Name, name) {
			return one
		}
	}
	t.Fatalf("there is no ratio %q in %v", name, r.Ratios)
	return ratio{}
}

func TestJudge(t *testing.T) {
	r := aRun(9000, 6*time.Millisecond)
	for _, c := range []struct {
		name  string
		value float64
		met   bool
	}{
		{"trade, 512 in flight: rate / " + sysSerializable, 2.25, true},
		{"trade, 512 in flight: rate / " + sysTuned, 0.9, false},
		{"p50 / floor", 1.2, true},
		{"memory", 244.0 / 300, true},
	} {
		got := r.ratio(t, c.name)
		if diff := got.Value - c.value; diff > 0.001 || diff < -0.001 || got.Met != c.met {
			t.Errorf("%s: %v, met %v; want %v, %v", c.name, got.Value, got.Met, c.value, c.met)
		}
	}
	if got := aRun(9000, 7*time.Millisecond).ratio(t, "p50 / floor"); got.Met {
		t.Errorf("%v is met with a p50 of 1.4 times the floor", got)
	}
}

func TestCompare(t *testing.T) {
	recorded := aRun(9000, 6*time.Millisecond)
	for name, c := range map[string]struct {
		run   *result
		worse string
	}{
		"the same":      {aRun(9000, 6*time.Millisecond), ""},
		"better":        {aRun(12_000, 4*time.Millisecond), ""},
		"within":        {aRun(8500, 6*time.Millisecond), ""},
		"lower rate":    {aRun(6000, 6*time.Millisecond), "trade, 512 in flight: rate / " + sysTuned},
		"longer answer": {aRun(9000, 9*time.Millisecond), "p50 / floor"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := compareResults(recorded, c.run, 0.15, &out)
			if (err != nil) != (c.worse != "") {
				t.Fatalf("%v\n%s", err, out.String())
			}
			found := false
			for line := range strings.Lines(out.String()) {
				if strings.Contains(line, "WORSE") && strings.Contains(line, c.worse) {
					found = true
				}
			}
			if found != (c.worse != "") {
				t.Errorf("the table does not mark %q:\n%s", c.worse, out.String())
			}
		})
	}
}

func TestResultSurvivesItsFile(t *testing.T) {
	r := aRun(9000, 6*time.Millisecond)
	r.Time = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	file, err := r.write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	back, err := readResult(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := compareResults(r, back, 0.0001, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if len(back.Ratios) != len(r.Ratios) || back.find(brokerKafka, sysRocketcycle, wlTrade, 512).Rate != 9000 {
		t.Errorf("something was lost: %+v", back)
	}
}
