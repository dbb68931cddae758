package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// lateRunner is the runner that services are made with, before the client
// behind it exists.
type lateRunner struct {
	client atomic.Pointer[txn.Client]
}

// Run implements txn.Runner.
func (r *lateRunner) Run(ctx context.Context, b *txn.Builder) (*txn.Result, error) {
	c := r.client.Load()
	if c == nil {
		return nil, errStarting()
	}
	return c.Run(ctx, b)
}

func (n *Node) newEdge() (*edge.Server, error) {
	e := n.cfg.Platform.WithDefaults().Edge
	return edge.New(edge.Config{
		HTTPAddr: e.HTTP, GRPCAddr: e.GRPC,
		MaxRequestBytes: int(e.MaxRequestBytes), MaxInFlight: e.MaxInFlight,
		DefaultTimeout: time.Duration(e.DefaultTimeout), AllowedOrigins: e.AllowedOrigins,
		Logger:         n.cfg.Logger,
		TracerProvider: n.cfg.TracerProvider, MeterProvider: n.cfg.MeterProvider,
	}, append(n.cfg.Application.Services(edge.Runner{Runner: &n.runner}), n.transactions.service(), n.platform.service(),
		newReads(n.cfg.Application, &n.runner, &n.processors).service())...)
}

// runEdge serves until ctx ends and what was accepted is finished. The client
// and the reader of its answers live as long as core.
func (n *Node) runEdge(ctx, core context.Context, router *platform.Router, parts *sync.WaitGroup) error {
	slot := int32(n.presence.edge % uint64(router.Config().GetEdgeSlots())) //nolint:gosec // below the number of slots
	producer, err := stream.NewProducer(n.cfg.log())
	if err != nil {
		return fmt.Errorf("edge: %w", err)
	}
	defer producer.Close()
	g := &gate{Router: router, presence: n.presence, limit: n.cfg.Platform.WithDefaults().Edge.MaxInFlight}
	client, err := txn.NewClient(txn.ClientConfig{
		Router: g, Sender: producer, ReplyPartition: slot, EdgeID: n.presence.edge,
		DefaultTimeout: time.Duration(n.cfg.Platform.WithDefaults().Edge.DefaultTimeout), Logger: n.cfg.Logger,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	g.inFlight = client.InFlight

	n.server.SetServing(false)
	following := make(chan struct{})
	answers := answers{
		node: n, client: client, started: sync.OnceFunc(func() { close(following) }),
		at: stream.TopicPartition{Topic: router.Names().ResponseTopic(), Partition: slot},
	}
	parts.Go(func() { supervise(core, n.cfg.Logger, "answers", answers.follow) })

	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- n.server.Run(serving) }()
	select {
	case <-both(ctx, following, n.presence.announced):
		if ctx.Err() == nil {
			n.runner.client.Store(client)
			n.transactions.inspector.Store(inspect.New(n.cfg.log(), router))
			n.startPlatform(router)
		}
	case <-ctx.Done():
	case err := <-served:
		return err
	}
	parts.Go(func() { n.becomeReady(serving) })
	select {
	case err = <-served:
	case <-n.presence.fenced:
		stop()
		return errors.Join(errFenced(), <-served)
	}
	if err != nil {
		return err
	}
	if ctx.Err() == nil {
		return errors.New("the edge stopped by itself")
	}
	return nil
}

// both returns a channel that is closed once two others are, or ctx has ended.
func both(ctx context.Context, one, two <-chan struct{}) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, c := range []<-chan struct{}{one, two} {
			select {
			case <-c:
			case <-ctx.Done():
				return
			}
		}
	}()
	return done
}

// newEdgeID tells the answers to one edge from those to others.
func newEdgeID() uint64 {
	var seed [8]byte
	_, _ = rand.Read(seed[:]) // never fails, as documented
	return binary.BigEndian.Uint64(seed[:])
}

// answers follows the edge's partition of the response topic. After a failure
// it goes on where it was.
type answers struct {
	node    *Node
	client  *txn.Client
	at      stream.TopicPartition
	known   bool
	next    int64
	started func()
}

func (a *answers) follow(ctx context.Context) error {
	if !a.known {
		admin, err := stream.NewAdmin(a.node.cfg.log())
		if err != nil {
			return err
		}
		ends, err := admin.EndOffsets(ctx, []stream.TopicPartition{a.at})
		admin.Close()
		if err != nil {
			return err
		}
		a.known, a.next = true, ends[a.at]
	}
	reader, err := stream.NewReader(a.node.cfg.log())
	if err != nil {
		return err
	}
	defer reader.Close()
	return reader.Follow(ctx, a.at, a.next, a.started, func(r stream.Record) {
		a.next = r.Offset + 1
		if err := a.client.Deliver(r.Value); err != nil {
			a.node.cfg.Logger.Warn("a record of the response topic was skipped", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", err)
		}
	})
}
