package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// writeChanges fills the storage topic of the characters as processors do: in
// Kafka transactions, count changes of each instance, one after the other.
func (r *runner) writeChanges(ctx context.Context, cfg nodeConfig, instances, count int) error {
	p := cfg.platform()
	topic := p.Names().StorageTopic(concernName)
	t, err := stream.NewTransactor(ctx, node.Stream(p, "bench", r.logger), "bench.changes."+cfg.Environment)
	if err != nil {
		return err
	}
	defer t.Close()
	rnd := r.rnd(1)
	id := txn.NewID()
	const batch = 5000
	records := make([]stream.Record, 0, batch)
	flush := func() error {
		if len(records) == 0 {
			return nil
		}
		_, err := t.Commit(ctx, records, nil, nil)
		records = records[:0]
		return err
	}
	for i := range instances {
		c := newCharacter(i, playerID(i))
		for version := range count {
			c.Currency.Gold = rnd.Int64N(startGold)
			value, err := proto.Marshal(c)
			if err != nil {
				return err
			}
			raw, err := proto.Marshal(&rkcyv1.Change{
				Key: c.GetId(), After: &rkcyv1.Instance{Value: value, Version: uint64(version) + 1}, TxnId: id[:], //nolint:gosec // small
				Attempt: 1, Visit: uint32(i*count + version), //nolint:gosec // differs, so that none is a repeat
			})
			if err != nil {
				return err
			}
			records = append(records, stream.Record{
				Topic: topic, Partition: stream.PartitionFor([]byte(c.GetId()), int32(cfg.Partitions)), Key: []byte(c.GetId()), Value: raw, //nolint:gosec // few
			})
		}
		if len(records) >= batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// storage measures the storage worker alone.
func (r *runner) storage(ctx context.Context, kind, bootstrap string) (err error) {
	cfg, err := r.nodeConfig(ctx, "storage", kind, bootstrap, node.Roles{Storage: true})
	if err != nil {
		return err
	}
	const perInstance = 2
	rows := r.o.Changes / perInstance
	if err := r.writeChanges(ctx, cfg, rows, perInstance); err != nil {
		return err
	}
	var ready storageReady
	c, err := startChild("storage", storageConfig{Node: cfg, Changes: uint64(rows * perInstance)}, &ready) //nolint:gosec // positive
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	s := storageCell{Broker: kind, Changes: rows * perInstance, Rows: rows, Seconds: ready.Took.Seconds(), Batches: ready.Batches}
	s.RowRate = float64(rows) / s.Seconds
	u, err := c.usage()
	if err != nil {
		return err
	}
	s.RSS, s.CPUPer = u.PeakRSSBytes, float64(u.CPU.Microseconds())/float64(rows)
	r.result.Storage = append(r.result.Storage, s)
	_, _ = fmt.Fprintf(os.Stderr, "%-10s storage worker alone  %8.0f rows/s\n", kind, s.RowRate)
	return nil
}
