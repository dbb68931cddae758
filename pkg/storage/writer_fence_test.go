package storage_test

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/storagetest"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// unfenced is a target without the compare-and-set: it applies a batch wherever
// the watermark is.
type unfenced struct{ storagetest.Target }

func (u unfenced) Apply(ctx context.Context, batches []storage.Batch) error {
	moved := make([]storage.Batch, len(batches))
	for i, b := range batches {
		marks, err := u.Watermarks(ctx, []storage.Partition{b.Partition})
		if err != nil {
			return err
		}
		moved[i] = b
		moved[i].From = marks[b.Partition]
		moved[i].Next = moved[i].From + b.Next - b.From
	}
	return u.Target.Apply(ctx, moved)
}

// A writer of the past comes back with a batch that another has applied, and
// gone beyond. The compare-and-set refuses it; without, changes are applied
// twice, and rows go back to what they were.
func TestWriterOfThePast(t *testing.T) {
	kind := storagetest.NewKind()
	put := func(version uint64) *rkcyv1.Change {
		return storagetest.Put(kind.Thing("k", map[string]any{"user": fmt.Sprint(version)}), version)
	}
	partition := storage.Partition{Concern: storagetest.First, Generation: 1}
	batches := []storage.Batch{
		{Partition: partition, From: 0, Next: 1, Changes: []*rkcyv1.Change{put(1)}},
		{Partition: partition, From: 1, Next: 2, Changes: []*rkcyv1.Change{put(2)}},
		{Partition: partition, From: 2, Next: 3, Changes: []*rkcyv1.Change{put(3)}},
	}
	for name, open := range map[string]func() storagetest.Target{
		"memory":     func() storagetest.Target { return storagetest.NewMemory(storagetest.Mappings(kind)...) },
		"PostgreSQL": func() storagetest.Target { return database(&rig{T: t, kind: kind}, devpostgres.Test(t).NewDatabase(t)) },
	} {
		for _, off := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, switched off: %v", name, off), func(t *testing.T) {
				target := open()
				var writers storage.Target = target
				if off {
					writers = unfenced{target}
				}
				for _, b := range batches {
					if err := target.Apply(t.Context(), []storage.Batch{b}); err != nil {
						t.Fatal(err)
					}
				}
				for _, b := range batches[:2] { // the one of the past
					if err := writers.Apply(t.Context(), []storage.Batch{b}); (err == nil) != off {
						t.Errorf("the batch from %d: %v", b.From, err)
					}
				}
				got, err := target.Load(t.Context(), storagetest.First, []string{"k"})
				if err != nil {
					t.Fatal(err)
				}
				want := put(3)
				if off {
					want = put(2)
				}
				have := kind.New()
				if err := proto.Unmarshal(got["k"].GetValue(), have); err != nil {
					t.Fatal(err)
				}
				if got["k"].GetVersion() != want.GetAfter().GetVersion() {
					t.Errorf("the row is %v at version %d, want %d", have, got["k"].GetVersion(), want.GetAfter().GetVersion())
				}
				if m, ok := target.(*storagetest.Memory); ok && (len(m.Applied()) == len(batches)) == off {
					t.Errorf("%d changes were applied", len(m.Applied()))
				}
			})
		}
	}
}
