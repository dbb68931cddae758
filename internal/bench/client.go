package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/rocketcycle/rocketcycle/examples/rpg/edge"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// client submits transactions from this process, as an edge does: the
// services of the example make them, a txn.Client sends them through a producer
// and gets the answers from the response topic.
type client struct {
	game     rpgv1.RpgServiceServer
	attempts atomic.Uint64
	txns     atomic.Uint64

	client   *txn.Client
	producer *stream.Producer
	reader   *stream.Reader
	stop     context.CancelFunc
	wg       sync.WaitGroup
	fault    error // of the reader; read after wg
}

func newClient(ctx context.Context, cfg nodeConfig, logger *slog.Logger) (*client, error) {
	p := cfg.platform()
	log := node.Stream(p, "bench", logger)
	version, err := platform.Current(ctx, log, p.Names())
	if err != nil {
		return nil, err
	}
	router := platform.NewRouter(version.GetConfig())
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	// The node's edge, if there is one, follows a slot of its own choice. It
	// drops what is not for it, should that be the same.
	slot := stream.TopicPartition{Topic: p.Names().ResponseTopic(), Partition: 0}

	c := &client{}
	if c.producer, err = stream.NewProducer(log); err != nil {
		return nil, err
	}
	if c.reader, err = stream.NewReader(log); err != nil {
		return nil, err
	}
	c.client, err = txn.NewClient(txn.ClientConfig{
		Router: router, Sender: c.producer, ReplyPartition: slot.Partition, EdgeID: binary.BigEndian.Uint64(id[:]), Logger: logger,
	})
	if err != nil {
		return nil, err
	}
	catcher := &serviceCatcher{}
	edge.Services(c)[0].Register(catcher)
	var ok bool
	if c.game, ok = catcher.service.(rpgv1.RpgServiceServer); !ok {
		return nil, fmt.Errorf("the example registers a %T", catcher.service)
	}
	follow, stop := context.WithCancel(ctx)
	c.stop = stop
	started := make(chan struct{})
	ended := make(chan struct{})
	c.wg.Go(func() {
		defer close(ended)
		c.fault = c.reader.Follow(follow, slot, stream.OffsetEnd, func() { close(started) }, func(r stream.Record) {
			if err := c.client.Deliver(r.Value); err != nil {
				logger.Error("response", "error", err)
			}
		})
	})
	select {
	case <-started:
		return c, nil
	case <-ended:
		return nil, errors.Join(errors.New("the answers cannot be followed"), c.fault)
	}
}

// Run implements txn.Runner.
func (c *client) Run(ctx context.Context, b *txn.Builder) (*txn.Result, error) {
	r, err := c.client.Run(ctx, b)
	if err == nil {
		c.attempts.Add(uint64(r.Attempts)) //nolint:gosec // positive
		c.txns.Add(1)
	}
	return r, err
}

func (c *client) close() error {
	c.client.Close()
	c.stop()
	c.wg.Wait()
	c.reader.Close()
	c.producer.Close()
	return c.fault
}

// serviceCatcher takes the place of a gRPC server, to call a service without
// one.
type serviceCatcher struct{ service any }

// RegisterService implements grpc.ServiceRegistrar.
func (s *serviceCatcher) RegisterService(_ *grpc.ServiceDesc, service any) { s.service = service }
