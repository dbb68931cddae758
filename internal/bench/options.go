package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options say what a run measures. They are part of its result.
type options struct {
	Workloads  []string      `json:"workloads"`
	Brokers    []string      `json:"brokers"`
	InFlight   []int         `json:"in_flight"`
	Duration   time.Duration `json:"duration_ns"`
	Warm       time.Duration `json:"warm_ns"`
	BrokerWarm time.Duration `json:"broker_warm_ns"`
	Seed       uint64        `json:"seed"`
	Characters int           `json:"characters"`
	Partitions int           `json:"partitions"`
	Workers    int           `json:"workers"`
	Conns      int           `json:"pgx_connections"`
	CacheBytes int64         `json:"cache_bytes"`
	Changes    int           `json:"storage_changes"`
	Takeover   int           `json:"takeover_instances"`
	Quick      bool          `json:"quick"`
	// Instances and PartitionCounts are what the scaling workloads go through.
	Instances       []int `json:"instances"`
	PartitionCounts []int `json:"partition_counts"`
	Steps           []int `json:"steps"`
	// Phase is how long the database is healthy, slow, and away.
	Phase time.Duration `json:"phase_ns"`
	// Kafka are librdkafka settings of the node and of the load.
	Kafka map[string]string `json:"kafka_settings,omitempty"`

	out, dataDir, plot     string
	cpuProfile, memProfile string
}

// Workloads that a run can choose from.
const (
	wlPgx   = "pgx"
	wlFloor = "floor"
	wlTrade = "trade"
	wlHot   = "hot"
	wlFund  = "fund"
	wlRead  = "read"
	wlGRPC  = "grpc"
	wlSaga  = "saga"
	wlSteps = "steps"
	// The last three of these have platforms of their own.
	wlPartitions = "partitions"
	wlInstances  = "instances"
	wlDatabase   = "database"
	wlStorage    = "storage"
	wlTakeover   = "takeover"
)

const (
	brokerKafka    = "kafka"
	brokerEmbedded = "embedded"
)

func knownWorkloads() []string {
	return []string{wlPgx, wlFloor, wlTrade, wlHot, wlFund, wlRead, wlGRPC, wlSaga, wlSteps, wlPartitions, wlInstances, wlDatabase, wlStorage, wlTakeover}
}

// hotCharacters is how many characters the hot workload has, hotInFlight how
// many callers.
const (
	hotCharacters = 10
	hotInFlight   = 64
)

func parseOptions(args []string) (options, error) {
	var o options
	var workloads, brokers, inFlight, settings, instances, partitionCounts, steps string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.BoolVar(&o.Quick, "quick", false, "small counts, under two minutes: shows that all works, not how fast it is")
	f.StringVar(&workloads, "workloads", strings.Join(knownWorkloads(), ","), "what to measure")
	f.StringVar(&brokers, "brokers", "both", "kafka, embedded or both")
	f.StringVar(&inFlight, "in-flight", "1,64,512", "numbers of callers, each with one request at a time")
	f.DurationVar(&o.Duration, "duration", 0, "how long each cell is measured (default 6s, quick 1s)")
	f.DurationVar(&o.Warm, "warm", 0, "how long each cell runs before (default 2s, quick 0.5s)")
	f.DurationVar(&o.BrokerWarm, "broker-warm", 0, "how long Apache Kafka is kept busy before anything is measured (default 1m, quick 8s)")
	f.Uint64Var(&o.Seed, "seed", 1, "of the random choices")
	f.IntVar(&o.Characters, "characters", 1000, "characters that trade")
	f.IntVar(&o.Partitions, "partitions", 4, "of each topic")
	f.IntVar(&o.Workers, "workers", 1, "of the processor, and of the floor")
	f.IntVar(&o.Conns, "pgx-connections", 32, "of the pgx baselines' pool, at most")
	f.Int64Var(&o.CacheBytes, "cache", 256<<20, "bytes of the processor's cache")
	f.IntVar(&o.Changes, "changes", 0, "that the storage worker alone has to write, two per instance (default 400000, quick 60000)")
	f.IntVar(&o.Takeover, "takeover", 0, "unpersisted instances to restore (default 1000000, quick 100000)")
	f.StringVar(&instances, "instances", "", "numbers of instances in the database, with a cache of 1 MiB (default 1000,100000,1000000,5000000, quick 1000,20000)")
	f.StringVar(&partitionCounts, "partition-counts", "4,64", "numbers of partitions to compare")
	f.StringVar(&steps, "steps", "1,2,4,8,16", "numbers of steps of a transaction to compare")
	f.DurationVar(&o.Phase, "phase", 0, "how long the database is healthy, slow, away, and healthy again, each (default 8s, quick 3s)")
	f.StringVar(&o.plot, "plot", "", "file for the plot of response times while the database fails (default: database.svg beside the result)")
	f.StringVar(&settings, "kafka-settings", "", "librdkafka settings to try, name=value,…, of node and load (not of the floor)")
	f.StringVar(&o.out, "out", "build/bench", "folder for the result")
	f.StringVar(&o.dataDir, "data-dir", "", "folder for brokers and databases (default: a temporary one)")
	f.StringVar(&o.cpuProfile, "cpuprofile", "", "folder for CPU profiles of the node, one per cell")
	f.StringVar(&o.memProfile, "memprofile", "", "folder for profiles of its allocations, two per cell: before and after (go tool pprof -base)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	setDefault := func(d *time.Duration, full, quick time.Duration) {
		if *d == 0 {
			*d = full
			if o.Quick {
				*d = quick
			}
		}
	}
	setDefault(&o.Duration, 6*time.Second, time.Second)
	setDefault(&o.Warm, 2*time.Second, 500*time.Millisecond)
	setDefault(&o.BrokerWarm, time.Minute, 8*time.Second)
	if o.Changes == 0 {
		o.Changes = choose(o.Quick, 60_000, 400_000)
	}
	if o.Takeover == 0 {
		o.Takeover = choose(o.Quick, 100_000, 1_000_000)
	}
	var faults []error
	if f.NArg() > 0 {
		faults = append(faults, fmt.Errorf("unknown argument %q; bench --help lists the flags", f.Arg(0)))
	}
	for w := range strings.SplitSeq(workloads, ",") {
		if !slices.Contains(knownWorkloads(), w) {
			faults = append(faults, fmt.Errorf("unknown workload %q; there are %s", w, strings.Join(knownWorkloads(), ", ")))
		}
		o.Workloads = append(o.Workloads, w)
	}
	switch brokers {
	case "both":
		o.Brokers = []string{brokerKafka, brokerEmbedded}
	case brokerKafka, brokerEmbedded:
		o.Brokers = []string{brokers}
	default:
		faults = append(faults, fmt.Errorf("brokers are kafka, embedded or both, not %q", brokers))
	}
	setDefault(&o.Phase, 8*time.Second, 3*time.Second)
	if instances == "" {
		instances = choose(o.Quick, "1000,20000", "1000,100000,1000000,5000000")
	}
	if o.plot == "" {
		o.plot = filepath.Join(o.out, "database.svg")
	}
	for _, list := range []struct {
		flag, text string
		into       *[]int
	}{{"in-flight", inFlight, &o.InFlight}, {"instances", instances, &o.Instances}, {"partition-counts", partitionCounts, &o.PartitionCounts}, {"steps", steps, &o.Steps}} {
		for text := range strings.SplitSeq(list.text, ",") {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				faults = append(faults, fmt.Errorf("%s: %q is not a positive number", list.flag, text))
			}
			*list.into = append(*list.into, n)
		}
	}
	if slices.Max(o.Steps)*stepsInFlight > o.Characters {
		faults = append(faults, fmt.Errorf("%d characters are too few for %d transactions of %d steps at a time", o.Characters, stepsInFlight, slices.Max(o.Steps)))
	}
	if !slices.IsSorted(o.Instances) || slices.Min(o.Instances) < hotInstances {
		faults = append(faults, fmt.Errorf("instances must grow, and be at least %d", hotInstances))
	}
	for text := range strings.SplitSeq(settings, ",") {
		name, value, ok := strings.Cut(text, "=")
		switch {
		case text == "":
		case !ok:
			faults = append(faults, fmt.Errorf("kafka setting %q is not name=value", text))
		case o.Kafka == nil:
			o.Kafka = map[string]string{name: value}
		default:
			o.Kafka[name] = value
		}
	}
	if o.Characters < hotCharacters || o.Partitions < 2 || o.Workers < 1 || o.Conns < 1 || o.Changes < 2 || o.Takeover < 1 {
		faults = append(faults, fmt.Errorf("at least %d characters, 2 partitions and 1 of everything else are needed", hotCharacters))
	}
	if o.Workers > o.Partitions {
		faults = append(faults, fmt.Errorf("%d workers cannot share %d partitions", o.Workers, o.Partitions))
	}
	for _, dir := range []string{o.cpuProfile, o.memProfile, o.out} {
		if dir != "" {
			faults = append(faults, os.MkdirAll(dir, 0o750))
		}
	}
	return o, errors.Join(faults...)
}

func choose[T any](cond bool, yes, no T) T {
	if cond {
		return yes
	}
	return no
}

func (o options) has(workload string) bool { return slices.Contains(o.Workloads, workload) }
