package main

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// floor is the client of the floor's workers: the same producer and reader as
// the platform's edge has, and nothing else.
type floor struct {
	child      *child
	partitions int
	producer   *stream.Producer
	reader     *stream.Reader
	stop       context.CancelFunc
	wg         sync.WaitGroup
	fault      error

	next    atomic.Uint64
	mu      sync.Mutex
	waiting map[uint64]chan struct{}
}

func newFloor(ctx context.Context, bootstrap string, partitions, workers int) (*floor, error) {
	log := stream.Config{Bootstrap: bootstrap, ClientID: "bench"}
	admin, err := stream.NewAdmin(log)
	if err != nil {
		return nil, err
	}
	_, err = admin.EnsureTopics(ctx, []stream.TopicSpec{
		{Name: floorTopic, Partitions: partitions, Replication: 1}, {Name: floorResponses, Partitions: 1, Replication: 1},
	})
	admin.Close()
	if err != nil {
		return nil, err
	}
	f := &floor{partitions: partitions, waiting: map[uint64]chan struct{}{}}
	if f.child, err = startChild("floor", floorConfig{Bootstrap: bootstrap, Partitions: partitions, Workers: workers}, nil); err != nil {
		return nil, err
	}
	if f.producer, err = stream.NewProducer(log); err != nil {
		return nil, err
	}
	if f.reader, err = stream.NewReader(log); err != nil {
		return nil, err
	}
	follow, stop := context.WithCancel(ctx)
	f.stop = stop
	started, ended := make(chan struct{}), make(chan struct{})
	f.wg.Go(func() {
		defer close(ended)
		f.fault = f.reader.Follow(follow, stream.TopicPartition{Topic: floorResponses}, stream.OffsetEnd, func() { close(started) }, f.deliver)
	})
	select {
	case <-started:
		return f, nil
	case <-ended:
		return nil, errors.Join(errors.New("the answers of the floor cannot be followed"), f.fault)
	}
}

func (f *floor) deliver(r stream.Record) {
	id := binary.BigEndian.Uint64(r.Value[2:])
	f.mu.Lock()
	defer f.mu.Unlock()
	if done := f.waiting[id]; done != nil {
		close(done)
		delete(f.waiting, id)
	}
}

func (f *floor) op(ctx context.Context, _ int, rnd *rand.Rand) error {
	id := f.next.Add(1)
	value := make([]byte, floorBytes)
	value[0], value[1] = floorHops, byte(1+rnd.IntN(f.partitions-1)) //nolint:gosec // few
	binary.BigEndian.PutUint64(value[2:], id)
	done := make(chan struct{})
	f.mu.Lock()
	f.waiting[id] = done
	f.mu.Unlock()
	if err := f.producer.Send(ctx, floorTopic, int32(rnd.IntN(f.partitions)), value[2:10], value); err != nil { //nolint:gosec // few
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *floor) close() error {
	f.stop()
	f.wg.Wait()
	f.reader.Close()
	f.producer.Close()
	return errors.Join(f.fault, f.child.stop())
}
