package sim

import (
	"slices"
	"time"
)

// tally is what one runner counted, or all of them.
type tally struct {
	outcomes  [3]int
	latencies map[string][]time.Duration // by request, of those that are ok
}

func (t *tally) add(request string, how outcome, took time.Duration) {
	t.outcomes[how]++
	if how == ok {
		if t.latencies == nil {
			t.latencies = map[string][]time.Duration{}
		}
		t.latencies[request] = append(t.latencies[request], took)
	}
}

func (t *tally) merge(o tally) {
	for i, n := range o.outcomes {
		t.outcomes[i] += n
	}
	for request, l := range o.latencies {
		if t.latencies == nil {
			t.latencies = map[string][]time.Duration{}
		}
		t.latencies[request] = append(t.latencies[request], l...)
	}
}

// Latency sums up how long requests took, in ms.
type Latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func latency(l []time.Duration) Latency {
	if len(l) == 0 {
		return Latency{}
	}
	slices.Sort(l)
	at := func(percent int) float64 {
		// The smallest that percent of all do not exceed.
		i := max((len(l)*percent+99)/100, 1) - 1
		return float64(l[i].Microseconds()) / 1000
	}
	return Latency{Count: len(l), P50: at(50), P90: at(90), P99: at(99), Max: at(100)}
}
