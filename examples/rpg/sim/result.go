package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Result is what a simulation has to tell.
type Result struct {
	Mix        string `json:"mix"`
	Seed       uint64 `json:"seed"`
	Runners    int    `json:"runners"`
	Characters int    `json:"characters"`
	// OK, Refused and Unknown count requests by their outcome; UnknownApplied
	// are those of unknown outcome that turned out to have taken effect.
	OK             int `json:"ok"`
	Refused        int `json:"refused"`
	Unknown        int `json:"unknown"`
	UnknownApplied int `json:"unknown_applied"`
	// Seconds that the load took, and requests of any outcome per second.
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	// Latency of requests that were ok, by kind.
	Latency map[string]Latency `json:"latency"`
	// Databases that were compared.
	Databases []string `json:"databases"`
	// Differences between the model and what was seen; none: all is well.
	Differences []string `json:"differences"`

	named int // databases that were to be compared
}

func (r *Result) count(t tally, took time.Duration) {
	r.OK, r.Refused, r.Unknown = t.outcomes[ok], t.outcomes[refused], t.outcomes[unknown]
	r.Seconds = took.Seconds()
	r.PerSecond = float64(r.OK+r.Refused+r.Unknown) / max(r.Seconds, 1e-9)
	r.Latency = map[string]Latency{}
	for request, l := range t.latencies {
		r.Latency[request] = latency(l)
	}
	r.Differences = []string{}
}

// WriteJSON writes the result as one JSON object.
func (r *Result) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// Write writes the result for people.
func (r *Result) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "mix %s, seed %d, %d runners, %d characters\n", r.Mix, r.Seed, r.Runners, r.Characters)
	fmt.Fprintf(&b, "%d ok, %d refused, %d unknown", r.OK, r.Refused, r.Unknown)
	if r.Unknown > 0 {
		fmt.Fprintf(&b, " (%d of them took effect)", r.UnknownApplied)
	}
	fmt.Fprintf(&b, " in %.1f s: %.0f requests/s\n", r.Seconds, r.PerSecond)
	for _, request := range []string{requestRead, requestFund, requestTrade} {
		if l, is := r.Latency[request]; is {
			fmt.Fprintf(&b, "  %-5s %8d   p50 %8.1f ms   p90 %8.1f ms   p99 %8.1f ms   max %8.1f ms\n", request, l.Count, l.P50, l.P90, l.P99, l.Max)
		}
	}
	for _, d := range r.Differences {
		fmt.Fprintf(&b, "DIFFERENCE %s\n", d)
	}
	compared := "cache"
	for _, d := range r.Databases {
		compared += ", database " + d
	}
	switch {
	case r.named == 0:
		compared += "; NO database was compared, name it with --postgres or --ready-file"
	case len(r.Databases) < r.named:
		compared += fmt.Sprintf("; %d of %d databases could NOT be compared", r.named-len(r.Databases), r.named)
	}
	if len(r.Differences) == 0 {
		fmt.Fprintf(&b, "equal: model, %s\n", compared)
	} else {
		fmt.Fprintf(&b, "%d differences between model, %s\n", len(r.Differences), compared)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
