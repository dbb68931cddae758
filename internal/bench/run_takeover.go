package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// takeoverCache is the cache of the node that takes over: all that is not
// persisted has to stay in it.
const takeoverCache = 640 << 20

// takeover measures how soon a node serves partitions whose instances are not
// persisted, and how it serves the others meanwhile: players, of which there
// are none, are read from the moment at which their partitions are taken over.
func (r *runner) takeover(ctx context.Context, kind, bootstrap string) (err error) {
	cfg, err := r.nodeConfig(ctx, "takeover", kind, bootstrap, node.Roles{Processor: true})
	if err != nil {
		return err
	}
	cfg.CacheBytes = takeoverCache
	if err := r.writeChanges(ctx, cfg, r.o.Takeover, 1); err != nil {
		return err
	}
	client, err := newClient(ctx, cfg, r.logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.close()) }()
	others := startOthers(ctx, client)
	var ready nodeReady
	c, err := startChild("node", cfg, &ready)
	served, othersErr := others.end()
	if err = errors.Join(err, othersErr); err != nil {
		if c != nil {
			err = errors.Join(err, c.stop())
		}
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	u, err := c.usage()
	if err != nil {
		return err
	}
	if u.Processor.Instances < r.o.Takeover {
		return fmt.Errorf("%d instances were restored, not %d", u.Processor.Instances, r.o.Takeover)
	}
	r.result.Takeovers = append(r.result.Takeovers, takeoverCell{
		Broker: kind, Instances: r.o.Takeover, Seconds: ready.Settled.Seconds(), SinceFirst: ready.SinceFirst.Seconds(), Restores: ready.Restores,
		RSS: u.PeakRSSBytes, CPUSeconds: u.CPU.Seconds(), CacheBytes: cfg.CacheBytes, Others: served,
	})
	_, _ = fmt.Fprintf(os.Stderr, "%-10s takeover of %d instances  %.2f s, CPU %.2f s; others meanwhile %d reads, p99 %.1f ms, at most %.0f ms\n",
		kind, r.o.Takeover, ready.Settled.Seconds(), u.CPU.Seconds(), served.Ops, ms(served.P99), ms(served.Max))
	return nil
}

// others reads players from the moment at which all their partitions answer
// until it is told to end.
type others struct {
	stop chan struct{}
	done chan struct{}
	m    measured
	err  error
}

func startOthers(ctx context.Context, c *client) *others {
	o := &others{stop: make(chan struct{}), done: make(chan struct{})}
	const callers, players = 4, 100
	read := func(ctx context.Context, i int) error {
		_, err := c.game.ReadPlayer(ctx, &rpgv1.ReadPlayerRequest{Id: fmt.Sprintf("nobody-%d", i)})
		if e, ok := errors.AsType[*txn.Error](err); ok && e.Code == txn.CodeNotFound {
			return nil
		}
		return errors.Join(err, errors.New("a player that does not exist was not told so"))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		defer close(o.done)
		if o.err = all(ctx, players, players, read); o.err != nil {
			return
		}
		o.m, o.err = loadUntil(ctx, callers, o.stop, func(ctx context.Context, _ int, rnd *rand.Rand) error {
			return read(ctx, rnd.IntN(players))
		})
	}()
	go func() {
		<-o.stop
		t := time.AfterFunc(10*time.Second, func() { cancel(errors.New("reads of players do not end")) })
		<-o.done
		t.Stop()
		cancel(nil)
	}()
	return o
}

func (o *others) end() (measured, error) {
	close(o.stop)
	<-o.done
	return o.m, o.err
}
