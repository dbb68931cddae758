package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// ratio compares two cells of one run, or one cell with a fixed bound. Ratios
// are what can be compared between runs and machines.
type ratio struct {
	Broker string  `json:"broker"`
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	// Target is what the platform aims at on Apache Kafka; 0: none.
	Target float64 `json:"target,omitempty"`
	// Less: smaller is better, Target is the most that is allowed.
	Less bool `json:"less,omitempty"`
	Met  bool `json:"met"`
	// Absolute values depend on the machine, so runs are not compared by them.
	Absolute bool   `json:"absolute,omitempty"`
	Note     string `json:"note,omitempty"`
}

func (r ratio) judged() ratio {
	r.Met = r.Target == 0 || (r.Less && r.Value <= r.Target) || (!r.Less && r.Value >= r.Target)
	return r
}

// cacheSlack is what a processor may use besides its cache.
const cacheSlack = 300 << 20

// judge fills in the ratios of a run.
func (r *result) judge() {
	r.Ratios = nil
	add := func(one ratio) { r.Ratios = append(r.Ratios, one.judged()) }
	for _, broker := range r.Options.Brokers {
		rate := func(name, workload string, inFlight int, against string, target float64) {
			ours := r.find(broker, sysRocketcycle, workload, inFlight)
			theirs := r.find(brokerNone, against, workload, inFlight)
			if ours != nil && theirs != nil {
				add(ratio{Broker: broker, Name: fmt.Sprintf("%s, %d in flight: rate / %s", name, inFlight, against), Value: ours.Rate / theirs.Rate, Target: target})
			}
		}
		rate("trade", wlTrade, 512, sysSerializable, 2)
		rate("trade", wlTrade, 512, sysTuned, 1)
		rate("trade", wlTrade, 64, sysSerializable, 0)
		rate("trade on 10 hot", wlHot, hotInFlight, sysRowLocked, 1)
		rate("trade on 10 hot", wlHot, hotInFlight, sysTuned, 0)
		r.judgeSaga(broker, add)
		rate("fund", wlFund, 512, sysSerializable, 4)
		rate("fund", wlFund, 512, sysStatement, 4)
		rate("read through the log", wlRead, 512, sysStatement, 1)
		for _, n := range r.Options.InFlight {
			ours, floor := r.find(broker, sysRocketcycle, wlTrade, n), r.find(broker, sysFloor, wlTrade, n)
			if ours == nil || floor == nil {
				continue
			}
			if n == 1 {
				add(ratio{Broker: broker, Name: "trade, 1 in flight: p50 / floor", Value: float64(ours.P50) / float64(floor.P50), Target: 1.3, Less: true})
			} else {
				add(ratio{Broker: broker, Name: fmt.Sprintf("trade, %d in flight: rate / floor", n), Value: ours.Rate / floor.Rate})
			}
		}
		r.judgeScale(broker, add)
		r.judgeBounds(broker, add)
	}
}

// judgeSaga compares trades as sagas on hot characters with isolated ones by
// hand.
func (r *result) judgeSaga(broker string, add func(ratio)) {
	ours := r.find(broker, sysRocketcycle, wlSaga, hotInFlight)
	if theirs := r.find(brokerNone, sysTuned, wlHot, hotInFlight); ours != nil && theirs != nil {
		add(ratio{Broker: broker, Name: fmt.Sprintf("trade as a saga on 10 hot, %d in flight: rate / %s", hotInFlight, sysTuned), Value: ours.Rate / theirs.Rate, Target: 1})
	}
}

// judgeScale adds how cost grows.
func (r *result) judgeScale(broker string, add func(ratio)) {
	if cells := r.sizes(broker, wlInstances); len(cells) > 1 {
		for _, c := range cells[1:] {
			add(ratio{
				Broker: broker, Name: fmt.Sprintf("fund, %d instances: rate / that of %d", c.Size, cells[0].Size), Value: c.Rate / cells[0].Rate, Target: 0.9,
				Note: fmt.Sprintf("%.2f %% misses", 100*c.Node.LoadedPer),
			})
		}
	}
	if cells := r.sizes(broker, wlPartitions); len(cells) > 1 {
		for _, c := range cells[1:] {
			add(ratio{
				Broker: broker, Name: fmt.Sprintf("trade, %d partitions: CPU / that of %d", c.Size, cells[0].Size), Value: c.cpu() / cells[0].cpu(), Target: 1.1, Less: true,
				Note: fmt.Sprintf("rate %.2f", c.Rate/cells[0].Rate),
			})
		}
	}
	// The last against what the first and the one in the middle let expect.
	if cells := r.sizes(broker, wlSteps); len(cells) > 2 {
		first, middle, last := cells[0], cells[len(cells)/2], cells[len(cells)-1]
		per := (1/middle.Rate - 1/first.Rate) / float64(middle.Size-first.Size)
		expected := 1/first.Rate + per*float64(last.Size-first.Size)
		add(ratio{
			Broker: broker, Name: fmt.Sprintf("%d steps: time / a line through %d and %d", last.Size, first.Size, middle.Size), Value: 1 / last.Rate / expected, Target: 1.1, Less: true,
		})
	}
	phase := func(name string) *phaseCell {
		i := slices.IndexFunc(r.Database, func(c phaseCell) bool { return c.Broker == broker && c.System == sysRocketcycle && c.Phase == name })
		if i < 0 {
			return nil
		}
		return &r.Database[i]
	}
	failed := ratio{Broker: broker, Name: "trades that failed while the database did, and 1", Value: 1, Target: 1, Less: true, Absolute: true}
	names := phases()
	for _, name := range names {
		if c := phase(name); c != nil {
			failed.Value += float64(c.Failed)
		}
	}
	if phase(names[0]) != nil {
		add(failed)
	}
	for _, name := range names[1:] {
		if healthy, c := phase(names[0]), phase(name); healthy != nil && c != nil && healthy.P50 > 0 {
			add(ratio{Broker: broker, Name: "trade, database " + name + ": p50 / healthy", Value: float64(c.P50) / float64(healthy.P50), Less: true})
		}
	}
}

// judgeBounds adds what is measured against a number.
func (r *result) judgeBounds(broker string, add func(ratio)) {
	for _, s := range r.Storage {
		if s.Broker == broker {
			add(ratio{Broker: broker, Name: "storage worker alone: coalesced rows/s", Value: s.RowRate, Target: 30_000, Absolute: true})
		}
	}
	for _, t := range r.Takeovers {
		if t.Broker == broker {
			one := ratio{
				Broker: broker, Name: "takeover: s per million unpersisted instances", Target: 5, Less: true, Absolute: true,
				Value: t.Seconds * 1e6 / float64(t.Instances),
			}
			if t.Instances < 1_000_000 {
				one.Note = fmt.Sprintf("from %d instances", t.Instances)
			}
			add(one)
		}
	}
	if c := r.find(broker, sysRocketcycle, wlTrade, 512); c != nil {
		// What the worker is behind, in seconds of commits: a trade makes two
		// changes, and an offset more for each Kafka transaction and partition.
		add(ratio{
			Broker: broker, Name: "storage worker: s until drained after trade, 512 in flight", Value: c.Node.DrainSeconds,
			Target: 1, Less: true, Absolute: true, Note: fmt.Sprintf("%d offsets behind", c.Node.StorageLag),
		})
	}
	var peak uint64
	for _, c := range r.Cells {
		if c.Broker == broker && c.Node != nil && c.Workload != wlInstances { // its cache is smaller
			peak = max(peak, c.Node.RSS)
		}
	}
	if peak > 0 {
		add(ratio{
			Broker: broker, Name: "memory: RSS beyond the cache / 300 MiB", Target: 1, Less: true,
			Value: (float64(peak) - float64(r.Options.CacheBytes)) / cacheSlack, Note: fmt.Sprintf("RSS at most %d MiB", peak>>20),
		})
	}
	peak = 0
	for _, c := range r.sizes(broker, wlInstances) {
		peak = max(peak, c.Node.RSS)
	}
	if peak > 0 {
		add(ratio{
			Broker: broker, Name: "memory with a cache of 1 MiB: RSS beyond it / 300 MiB", Target: 1, Less: true,
			Value: (float64(peak) - instanceCache) / cacheSlack, Note: fmt.Sprintf("RSS at most %d MiB", peak>>20),
		})
	}
	for _, t := range r.Takeovers {
		if t.Broker == broker {
			add(ratio{
				Broker: broker, Name: "memory at a takeover: RSS beyond the cache / 300 MiB", Target: 1, Less: true,
				Value: (float64(t.RSS) - float64(t.CacheBytes)) / cacheSlack, Note: fmt.Sprintf("RSS at most %d MiB", t.RSS>>20),
			})
		}
	}
}

func printRatios(out io.Writer, ratios []ratio) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "broker\tratio\tvalue\ttarget\t\t")
	for _, r := range ratios {
		target, verdict := "", ""
		if r.Target != 0 {
			target, verdict = choose(r.Less, "≤ ", "≥ ")+number(r.Target), choose(r.Met, "met", "NOT MET")
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Broker, r.Name, number(r.Value), target, verdict, r.Note)
	}
	return w.Flush()
}

func number(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
