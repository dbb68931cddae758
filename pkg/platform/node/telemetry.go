package node

import (
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"

	"github.com/rocketcycle/rocketcycle/internal/telemetry"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// gauges are the metrics of a node that are read when somebody asks.
type gauges struct {
	node   *Node
	router *platform.Router
	lags   lags
	// now is what the processor says, the same for all metrics of one answer.
	now concern.Status
}

// observe makes the node's metrics known to its meter provider until stop is
// called.
func (g *gauges) observe() (stop func() error, err error) {
	n := g.node
	if n.cfg.MeterProvider == nil {
		return func() error { return nil }, nil
	}
	i := telemetry.New(n.cfg.MeterProvider)
	i.Observe(telemetry.PlatformVersion, func(s telemetry.Sample) {
		n.mu.Lock()
		defer n.mu.Unlock()
		s(float64(n.version))
	})
	i.Observe(telemetry.PlatformPartitions, func(s telemetry.Sample) {
		for _, c := range g.router.Config().GetConcerns() {
			s(float64(c.GetPartitions()), concernLabel(c.GetName()))
		}
	})
	if n.cfg.Roles.Edge {
		g.observeEdge(i)
	}
	if n.cfg.Roles.Processor {
		g.observeProcessor(i)
		g.lags.observe(i)
	}
	if n.cfg.Roles.Storage {
		g.observeStorage(i)
	}
	return i.Start(func() { g.now, _ = n.ProcessorStatus() })
}

func concernLabel(name string) attribute.KeyValue {
	return attribute.String(telemetry.LabelConcern, name)
}

func (g *gauges) observeEdge(i *telemetry.Instruments) {
	n := g.node
	i.Observe(telemetry.EdgeInFlight, func(s telemetry.Sample) { s(float64(n.server.Status().InFlight)) })
	i.Observe(telemetry.EdgeShed, func(s telemetry.Sample) { s(float64(n.server.Status().Shed)) })
	i.Observe(telemetry.EdgeWebSockets, func(s telemetry.Sample) { s(float64(n.server.Status().WebSockets)) })
	i.Observe(telemetry.EdgeWaiting, func(s telemetry.Sample) {
		waiting := 0
		if c := n.runner.client.Load(); c != nil {
			waiting = c.InFlight()
		}
		s(float64(waiting))
	})
}

func (g *gauges) observeProcessor(i *telemetry.Instruments) {
	stats := func(name string, value func(*concern.Stats) uint64) {
		i.Observe(name, func(s telemetry.Sample) { s(float64(value(&g.now.Stats))) })
	}
	stats(telemetry.Visits, func(s *concern.Stats) uint64 { return s.Visits })
	stats(telemetry.VisitsLocal, func(s *concern.Stats) uint64 { return s.LocalVisits })
	stats(telemetry.Hops, func(s *concern.Stats) uint64 { return s.Hops })
	stats(telemetry.Markers, func(s *concern.Stats) uint64 { return s.Markers })
	stats(telemetry.Changes, func(s *concern.Stats) uint64 { return s.Changes })
	stats(telemetry.Duplicates, func(s *concern.Stats) uint64 { return s.Duplicates })
	stats(telemetry.Repeats, func(s *concern.Stats) uint64 { return s.Repeats })
	stats(telemetry.Parks, func(s *concern.Stats) uint64 { return s.Parked })
	stats(telemetry.Deaths, func(s *concern.Stats) uint64 { return s.Deaths })
	stats(telemetry.Expired, func(s *concern.Stats) uint64 { return s.Expired })
	stats(telemetry.ProcessorShed, func(s *concern.Stats) uint64 { return s.Shed })
	stats(telemetry.SagasUndone, func(s *concern.Stats) uint64 { return s.Undone })
	stats(telemetry.Quarantined, func(s *concern.Stats) uint64 { return s.Quarantined })
	stats(telemetry.Panics, func(s *concern.Stats) uint64 { return s.Panics })
	stats(telemetry.CacheHits, func(s *concern.Stats) uint64 { return s.CacheHits })
	stats(telemetry.CacheMisses, func(s *concern.Stats) uint64 { return s.CacheMisses })
	stats(telemetry.CacheLoads, func(s *concern.Stats) uint64 { return s.Loaded })
	stats(telemetry.CacheEvictions, func(s *concern.Stats) uint64 { return s.Evicted })

	status := func(name string, value func(*concern.Status) float64) {
		i.Observe(name, func(s telemetry.Sample) { s(value(&g.now)) })
	}
	status(telemetry.CommitRecords, func(s *concern.Status) float64 { return float64(s.Records) })
	status(telemetry.Holds, func(s *concern.Status) float64 { return float64(s.Waiting.Holds) })
	status(telemetry.Parked, func(s *concern.Status) float64 { return float64(s.Waiting.Parked) })
	status(telemetry.ParkedBytes, func(s *concern.Status) float64 { return float64(s.Waiting.ParkedBytes) })
	status(telemetry.SagasStuck, func(s *concern.Status) float64 { return float64(s.Waiting.Stuck) })
	status(telemetry.TransactionsOpen, func(s *concern.Status) float64 {
		return age(time.UnixMilli(s.Waiting.OldestMs), s.Waiting.OldestMs > 0)
	})
	status(telemetry.HandlersBlocked, func(s *concern.Status) float64 { return float64(s.Blocked) })
	status(telemetry.CacheBytes, func(s *concern.Status) float64 { return float64(s.CacheBytes) })
	status(telemetry.CacheOverlayBytes, func(s *concern.Status) float64 { return float64(s.PinnedBytes) })
	status(telemetry.CacheInstances, func(s *concern.Status) float64 { return float64(s.Instances) })
	status(telemetry.PartitionsRestored, func(s *concern.Status) float64 { return float64(s.Restoring) })

	i.Observe(telemetry.ConfigVersion, func(s telemetry.Sample) { s(float64(g.node.ConfigVersion())) })
	i.Observe(telemetry.Transactions, func(s telemetry.Sample) {
		for code, count := range g.now.Stats.Ended {
			s(float64(count), attribute.String(telemetry.LabelCode, codeLabel(txn.Code(code)))) //nolint:gosec // few
		}
	})
	i.Observe(telemetry.ProducerRenewals, func(s telemetry.Sample) {
		for r := range stream.RenewalReasons {
			s(float64(g.now.RenewalsBy[r]), attribute.String(telemetry.LabelReason, r.String()))
		}
	})
	i.Observe(telemetry.PartitionsOwned, func(s telemetry.Sample) {
		owned := map[string][]int32{}
		if p := g.node.processors.get(); p != nil {
			owned = p.Owned()
		}
		for _, c := range g.node.cfg.usedConcerns() {
			s(float64(len(owned[c.Definition.Name])), concernLabel(c.Definition.Name))
		}
	})
}

// codeLabel returns a code as metrics have it.
func codeLabel(c txn.Code) string {
	if c == 0 {
		return strings.ToUpper(codes.OK.String())
	}
	return txn.CodeName(c)
}

func age(since time.Time, any bool) float64 {
	if !any {
		return 0
	}
	return max(time.Since(since), 0).Seconds()
}

func (g *gauges) observeStorage(i *telemetry.Instruments) {
	each := func(name string, value func(WriterStatus) float64) {
		i.Observe(name, func(s telemetry.Sample) {
			for _, w := range g.node.StorageStatus() {
				s(value(w), concernLabel(w.Concern), attribute.String(telemetry.LabelTarget, w.Target))
			}
		})
	}
	each(telemetry.StorageBatches, func(w WriterStatus) float64 { return float64(w.Batches) })
	each(telemetry.StorageChanges, func(w WriterStatus) float64 { return float64(w.Changes) })
	each(telemetry.StorageLag, func(w WriterStatus) float64 { return age(w.Oldest, !w.Oldest.IsZero()) })
	each(telemetry.StorageLagOffsets, func(w WriterStatus) float64 { return g.lags.storage(w.Concern, w.Target) })
	each(telemetry.StorageFailing, func(w WriterStatus) float64 {
		if w.Failing != "" {
			return 1
		}
		return 0
	})
}
