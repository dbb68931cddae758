package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// The floor is what Kafka transactions cost with nothing in them: a record
// goes from partition to partition, hop by hop, and then to the response
// topic. No state, no holds, no storage, no protobuf.

const (
	floorTopic     = "bench.floor.process"
	floorResponses = "bench.floor.response"
	floorGroup     = "bench.floor"
	// floorHops is the number of visits of a trade.
	floorHops = 2
	// floorBytes is the size of a record.
	floorBytes = 200
)

type floorConfig struct {
	Bootstrap  string `json:"bootstrap"`
	Partitions int    `json:"partitions"`
	Workers    int    `json:"workers"`
}

// runFloor is a child that runs the workers of the floor.
func runFloor(ctx context.Context, cfg floorConfig) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	faults := make([]error, cfg.Workers)
	workers := make([]*floorWorker, cfg.Workers)
	for i := range workers {
		w := &floorWorker{cfg: cfg, started: map[stream.TopicPartition]bool{}}
		workers[i] = w
		wg.Go(func() {
			if faults[i] = w.run(ctx, i); faults[i] != nil {
				stop()
			}
		})
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !shared(workers, int64(cfg.Partitions)) && ctx.Err() == nil {
		<-tick.C
	}
	err := serveChild(os.Stdin, os.Stdout, struct{}{}, nil)
	stop()
	wg.Wait()
	return errors.Join(append(faults, err)...)
}

// shared reports whether all partitions are read, and every worker has some: the
// first to join gets all of them at first.
func shared(workers []*floorWorker, partitions int64) bool {
	sum := int64(0)
	for _, w := range workers {
		n := w.owned.Load()
		if n == 0 {
			return false
		}
		sum += n
	}
	return sum == partitions
}

type floorWorker struct {
	cfg     floorConfig
	owned   atomic.Int64
	started map[stream.TopicPartition]bool // false: not started yet
}

func (w *floorWorker) run(ctx context.Context, index int) error {
	log := stream.Config{Bootstrap: w.cfg.Bootstrap, ClientID: "floor"}
	t, err := stream.NewTransactor(ctx, log, fmt.Sprintf("%s.%d", floorGroup, index))
	if err != nil {
		return err
	}
	defer t.Close()
	group, err := stream.NewGroup(log, stream.GroupConfig{Group: floorGroup, Topics: []string{floorTopic}}, w)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := w.turn(ctx, group, t); err != nil {
			return errors.Join(err, group.Close())
		}
	}
	return group.Close()
}

func (w *floorWorker) turn(ctx context.Context, group *stream.Group, t *stream.Transactor) error {
	for tp, started := range w.started {
		if started {
			continue
		}
		at, err := group.Committed(ctx, []stream.TopicPartition{tp})
		if err != nil {
			return err
		}
		if err := group.Start(tp, max(at[tp], 0)); err != nil {
			return err
		}
		w.started[tp] = true
		w.owned.Add(1)
	}
	records, err := group.Poll(ctx, 1000, 50*time.Millisecond)
	if err != nil || len(records) == 0 {
		return err
	}
	out := make([]stream.Record, len(records))
	offsets := map[stream.TopicPartition]int64{}
	for i, r := range records {
		offsets[stream.TopicPartition{Topic: r.Topic, Partition: r.Partition}] = r.Offset + 1
		out[i] = r
		// The first byte counts the hops that are left, the second is the
		// distance between their partitions.
		r.Value[0]--
		if r.Value[0] == 0 {
			out[i].Topic, out[i].Partition = floorResponses, 0
		} else {
			out[i].Partition = (r.Partition + int32(r.Value[1])) % int32(w.cfg.Partitions) //nolint:gosec // few
		}
	}
	_, err = t.Commit(context.WithoutCancel(ctx), out, group, offsets)
	return err
}

// Assigned implements stream.Listener.
func (w *floorWorker) Assigned(tps []stream.TopicPartition) {
	for _, tp := range tps {
		w.started[tp] = false
	}
}

// Revoked implements stream.Listener.
func (w *floorWorker) Revoked(tps []stream.TopicPartition, _ bool) {
	for _, tp := range tps {
		if w.started[tp] {
			w.owned.Add(-1)
		}
		delete(w.started, tp)
	}
}
