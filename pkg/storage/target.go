package storage

import (
	"context"
	"errors"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Partition names a storage partition independently of topic names.
type Partition struct {
	Concern    string
	Generation uint32
	Partition  int32
}

// Batch is a run of changes of one partition.
type Batch struct {
	Partition Partition
	// From is the watermark that the batch follows on, Next the one after it.
	From, Next int64
	// Changes in order of offset.
	Changes []*rkcyv1.Change
}

// ErrStale says that a watermark is not what the writer believed: another
// writer has been here. Read it again.
var ErrStale = errors.New("storage: another writer has moved the watermark")

// Target is a database. Implementations are safe for concurrent use.
type Target interface {
	// Apply writes the changes and moves the watermarks in one transaction of
	// the database: all or nothing. ErrStale if a watermark is not at From.
	Apply(ctx context.Context, batches []Batch) error
	// Watermarks returns the next offset to apply, 0 for partitions that were
	// never written.
	Watermarks(ctx context.Context, partitions []Partition) (map[Partition]int64, error)
}
