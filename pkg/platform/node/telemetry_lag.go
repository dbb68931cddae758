package node

import (
	"context"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/rocketcycle/rocketcycle/internal/telemetry"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// lagInterval is how often brokers are asked for offsets, while metrics are
// wanted.
const lagInterval = 3 * time.Second

// Kinds of topics, as metrics have them.
const (
	kindProcess = "process"
	kindState   = "state"
	kindStorage = "storage"
)

// lags are differences of offsets, as they were lagInterval ago at most.
type lags struct {
	mu         sync.Mutex
	partitions map[lagKey]lag
	targets    map[[2]string]float64 // by Concern and target
}

type lagKey struct {
	concern, kind string
	partition     int32
}

type lag struct {
	behind int64 // of the committed position, process topics only
	open   int64 // between last stable offset and high watermark
	stable int64
	since  time.Time // when stable was seen first
}

func (l *lags) observe(i *telemetry.Instruments) {
	each := func(name string, sample func(lagKey, lag, telemetry.Sample)) {
		i.Observe(name, func(s telemetry.Sample) {
			l.mu.Lock()
			defer l.mu.Unlock()
			for k, v := range l.partitions {
				sample(k, v, s)
			}
		})
	}
	partition := func(k lagKey) attribute.KeyValue {
		return attribute.String(telemetry.LabelPartition, strconv.Itoa(int(k.partition)))
	}
	topic := func(k lagKey) attribute.KeyValue { return attribute.String(telemetry.LabelTopic, k.kind) }
	each(telemetry.PartitionLag, func(k lagKey, v lag, s telemetry.Sample) {
		if k.kind == kindProcess {
			s(float64(v.behind), concernLabel(k.concern), partition(k))
		}
	})
	each(telemetry.LSOLag, func(k lagKey, v lag, s telemetry.Sample) {
		s(float64(v.open), concernLabel(k.concern), topic(k), partition(k))
	})
	each(telemetry.LSOStalled, func(k lagKey, v lag, s telemetry.Sample) {
		s(age(v.since, v.open > 0), concernLabel(k.concern), topic(k), partition(k))
	})
}

// storage returns what a target does not have yet, 0 while it is not known.
func (l *lags) storage(concern, target string) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.targets[[2]string{concern, target}]
}

// follow asks the brokers again and again until ctx ends.
func (g *gauges) follow(ctx context.Context) error {
	admin, err := stream.NewAdmin(g.node.cfg.log())
	if err != nil {
		return err
	}
	defer admin.Close()
	tick := time.NewTicker(lagInterval)
	defer tick.Stop()
	for {
		ask, cancel := context.WithTimeout(ctx, lagInterval)
		err := g.ask(ask, admin, time.Now())
		cancel()
		if err != nil && ctx.Err() == nil {
			g.node.cfg.Logger.Debug("offsets for metrics could not be read", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (g *gauges) ask(ctx context.Context, admin *stream.Admin, now time.Time) error {
	names := g.router.Names()
	if err := g.askTargets(ctx, admin, names); err != nil {
		return err
	}
	p := g.node.processors.get()
	if p == nil {
		return nil
	}
	keys := map[stream.TopicPartition]lagKey{}
	var all, process []stream.TopicPartition
	for concern, numbers := range p.Owned() {
		for _, n := range numbers {
			for kind, topic := range map[string]string{
				kindProcess: names.ProcessTopic(concern), kindState: names.StateTopic(concern), kindStorage: names.StorageTopic(concern),
			} {
				tp := stream.TopicPartition{Topic: topic, Partition: n}
				keys[tp], all = lagKey{concern, kind, n}, append(all, tp)
				if kind == kindProcess {
					process = append(process, tp)
				}
			}
		}
	}
	if len(all) == 0 {
		g.lags.mu.Lock()
		defer g.lags.mu.Unlock()
		g.lags.partitions = nil
		return nil
	}
	stable, err := admin.StableOffsets(ctx, all) // before the ends, so that none is ahead of them
	if err != nil {
		return err
	}
	ends, err := admin.EndOffsets(ctx, all)
	if err != nil {
		return err
	}
	positions, err := admin.GroupOffsets(ctx, names.ProcessGroup(), process)
	if err != nil {
		return err
	}
	g.lags.take(keys, stable, ends, positions, now)
	return nil
}

func (l *lags) take(keys map[stream.TopicPartition]lagKey, stable, ends, positions map[stream.TopicPartition]int64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := map[lagKey]lag{}
	for tp, k := range keys {
		v := lag{stable: stable[tp], open: max(ends[tp]-stable[tp], 0), since: now}
		if was, ok := l.partitions[k]; ok && was.stable == v.stable && was.open > 0 {
			v.since = was.since
		}
		if at, ok := positions[tp]; ok {
			v.behind = max(v.stable-max(at, 0), 0)
		}
		next[k] = v
	}
	l.partitions = next
}

// askTargets finds out what the targets that this node writes lack.
func (g *gauges) askTargets(ctx context.Context, admin *stream.Admin, names platform.Names) error {
	out := map[[2]string]float64{}
	for _, w := range g.node.StorageStatus() {
		var tps []stream.TopicPartition
		c, err := platform.ConcernOf(g.router.Config(), w.Concern)
		if err != nil {
			return err
		}
		for n := range c.GetPartitions() {
			tps = append(tps, stream.TopicPartition{Topic: names.StorageTopic(w.Concern), Partition: n})
		}
		stable, err := admin.StableOffsets(ctx, tps)
		if err != nil {
			return err
		}
		at, err := admin.GroupOffsets(ctx, names.StorageGroup(w.Concern, w.Target), tps)
		if err != nil {
			return err
		}
		for _, tp := range tps {
			out[[2]string{w.Concern, w.Target}] += float64(max(stable[tp]-max(at[tp], 0), 0))
		}
	}
	g.lags.mu.Lock()
	defer g.lags.mu.Unlock()
	g.lags.targets = out
	return nil
}
