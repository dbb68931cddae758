package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// result is what a run leaves behind.
type result struct {
	Time      time.Time      `json:"time"`
	Go        string         `json:"go"`
	System    string         `json:"system"`
	CPUs      int            `json:"cpus"`
	Options   options        `json:"options"`
	Cells     []cell         `json:"cells"`
	Storage   []storageCell  `json:"storage,omitempty"`
	Takeovers []takeoverCell `json:"takeovers,omitempty"`
	Database  []phaseCell    `json:"database,omitempty"`
	// Load is the load average of the machine before and after.
	Load   [2]float64 `json:"load_average"`
	Ratios []ratio    `json:"ratios"`
}

func newResult(o options) *result {
	return &result{Time: time.Now().UTC().Truncate(time.Second), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Options: o}
}

// Names of systems in cells.
const (
	sysRocketcycle  = "rocketcycle"
	sysGRPC         = "rocketcycle gRPC"
	sysFloor        = "floor"
	sysSerializable = "pgx serializable"
	sysRowLocked    = "pgx row-locked"
	sysTuned        = "pgx tuned"
	sysStatement    = "pgx statement"
)

// brokerNone is where no broker takes part.
const brokerNone = "-"

// cell is one workload on one system.
type cell struct {
	Broker   string `json:"broker"`
	System   string `json:"system"`
	Workload string `json:"workload"`
	InFlight int    `json:"in_flight"`
	// Size is what a scaling workload varies: steps, partitions, instances.
	Size int `json:"size,omitempty"`
	measured
	// CPU time per operation of this process, which makes the load, and of the
	// broker; in µs, warm-up included.
	LoadCPUPer   float64 `json:"load_cpu_us_per_op"`
	BrokerCPUPer float64 `json:"broker_cpu_us_per_op,omitempty"`
	// LoadAverage of the machine at the end: about 4 is what the benchmark makes
	// itself on two cores, more is the work of others.
	LoadAverage float64 `json:"load_average"`
	// Of the node, during the measurement.
	Node *nodeCell `json:"node,omitempty"`
	// Retries per operation, of a baseline.
	Retries float64 `json:"retries,omitempty"`
}

// nodeCell is what the node's process did meanwhile; Per is per operation.
type nodeCell struct {
	KafkaPerSecond float64 `json:"kafka_transactions_per_second"`
	RecordsPer     float64 `json:"records_per_kafka_transaction"`
	AllocPer       float64 `json:"alloc_bytes_per_op"`
	ObjectsPer     float64 `json:"alloc_objects_per_op"`
	CPUPer         float64 `json:"cpu_us_per_op"`
	RSS            uint64  `json:"rss_bytes"`
	Attempts       float64 `json:"attempts_per_op"`
	DeathsPer      float64 `json:"deaths_per_op"`
	HopsPer        float64 `json:"hops_per_op"`
	LoadedPer      float64 `json:"loaded_per_op"`
	Aborted        uint64  `json:"kafka_transactions_aborted"`
	// StorageLag is how many offsets the storage worker was behind at the end,
	// DrainSeconds how long it took to make up for it.
	StorageLag   int64   `json:"storage_lag"`
	DrainSeconds float64 `json:"drain_seconds"`
}

// storageCell is the storage worker alone.
type storageCell struct {
	Broker  string  `json:"broker"`
	Changes int     `json:"changes"`
	Rows    int     `json:"rows"`
	Seconds float64 `json:"seconds"`
	RowRate float64 `json:"rows_per_second"`
	Batches uint64  `json:"batches"`
	RSS     uint64  `json:"rss_bytes"`
	CPUPer  float64 `json:"cpu_us_per_row"`
}

// takeoverCell is the restore of all partitions.
type takeoverCell struct {
	Broker    string `json:"broker"`
	Instances int    `json:"instances"`
	// Seconds from the last assignment of partitions until all were served;
	// SinceFirst from the first one, with the rebalances in between.
	Seconds    float64    `json:"seconds"`
	SinceFirst float64    `json:"seconds_since_first"`
	Restores   []restored `json:"restores"`
	RSS        uint64     `json:"rss_bytes"`
	CacheBytes int64      `json:"cache_bytes"`
	CPUSeconds float64    `json:"cpu_seconds"`
	// Other partitions of the worker, served meanwhile.
	Others measured `json:"others"`
}

func (r *result) find(broker, system, workload string, inFlight int) *cell {
	for i := range r.Cells {
		c := &r.Cells[i]
		if c.Broker == broker && c.System == system && c.Workload == workload && c.InFlight == inFlight {
			return c
		}
	}
	return nil
}

// sizes returns the cells of a scaling workload, in order of size.
func (r *result) sizes(broker, workload string) (cells []cell) {
	for _, c := range r.Cells {
		if c.Broker == broker && c.Workload == workload && c.Size > 0 {
			cells = append(cells, c)
		}
	}
	slices.SortFunc(cells, func(a, b cell) int { return a.Size - b.Size })
	return cells
}

// name is the workload and its size.
func (c cell) name() string {
	if c.Size == 0 {
		return c.Workload
	}
	return fmt.Sprintf("%s %d", c.Workload, c.Size)
}

// cpu is what an operation costs all together but PostgreSQL, µs.
func (c cell) cpu() float64 {
	cost := c.LoadCPUPer + c.BrokerCPUPer
	if c.Node != nil {
		cost += c.Node.CPUPer
	}
	return cost
}

// print writes the tables.
func (r *result) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\t\n", args...) }
	row("workload\tbroker\tsystem\tin flight\tper second\tp50 ms\tp99 ms\trecords/kafka txn\tKiB/op\tobjects/op\tCPU µs/op: load\tbroker\tnode\tRSS MiB\tattempts\tmisses %%\tlag\tdrain s\tload average")
	for _, c := range r.Cells {
		text := fmt.Sprintf("%s\t%s\t%s\t%d\t%.0f\t%.2f\t%.2f", c.name(), c.Broker, c.System, c.InFlight, c.Rate, ms(c.P50), ms(c.P99))
		switch n := c.Node; {
		case n != nil:
			row("%s\t%.1f\t%.1f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%.3f\t%.2f\t%d\t%.2f\t%.1f", text, n.RecordsPer, n.AllocPer/1024, n.ObjectsPer, c.LoadCPUPer, c.BrokerCPUPer, n.CPUPer, n.RSS>>20, n.Attempts, 100*n.LoadedPer, n.StorageLag, n.DrainSeconds, c.LoadAverage)
		case c.Retries > 0:
			row("%s\t\t\t\t%.0f\t\t\t\t%.3f\t\t\t\t%.1f", text, c.LoadCPUPer, 1+c.Retries, c.LoadAverage)
		default:
			row("%s\t\t\t\t%.0f\t%.0f\t\t\t\t\t\t%.1f", text, c.LoadCPUPer, c.BrokerCPUPer, c.LoadAverage)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, s := range r.Storage {
		_, _ = fmt.Fprintf(out, "storage worker alone, %s: %d changes, %d rows in %.2f s: %.0f rows/s, %d database transactions, %.0f µs CPU a row, RSS %d MiB\n",
			s.Broker, s.Changes, s.Rows, s.Seconds, s.RowRate, s.Batches, s.CPUPer, s.RSS>>20)
	}
	for _, t := range r.Takeovers {
		_, _ = fmt.Fprintf(out, "takeover, %s: %d unpersisted instances restored in %.2f s (%.2f s with the rebalances of the start), CPU %.2f s, RSS %d MiB with a cache of %d MiB; "+
			"others meanwhile: %d reads, p50 %.1f ms, p99 %.1f ms, at most %.0f ms\n",
			t.Broker, t.Instances, t.Seconds, t.SinceFirst, t.CPUSeconds, t.RSS>>20, t.CacheBytes>>20, t.Others.Ops, ms(t.Others.P50), ms(t.Others.P99), ms(t.Others.Max))
	}
	for _, p := range r.Database {
		_, _ = fmt.Fprintf(out, "database %s, %s, %s: %d trades, p50 %.1f ms, p99 %.1f ms, %d failed\n",
			p.Phase, p.Broker, p.System, p.Ops, ms(p.P50), ms(p.P99), p.Failed)
	}
	_, _ = fmt.Fprintf(out, "load average of the machine: %.1f before, %.1f after\n", r.Load[0], r.Load[1])
	_, _ = fmt.Fprintln(out)
	return printRatios(out, r.Ratios)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// write stores the result and returns the file's name.
func (r *result) write(dir string) (string, error) {
	raw, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, r.Time.Format("2006-01-02T150405Z")+".json")
	return file, os.WriteFile(file, append(raw, '\n'), 0o600)
}

func readResult(file string) (*result, error) {
	raw, err := os.ReadFile(file) //nolint:gosec // named by the user
	if err != nil {
		return nil, err
	}
	var r result
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(r.Cells) == 0 {
		return nil, errors.New(file + " has no measurement in it")
	}
	return &r, nil
}
