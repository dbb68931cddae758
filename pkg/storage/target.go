package storage

import (
	"context"
	"errors"
	"fmt"

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

// ErrPermanent is in the chain of errors that trying again does not cure: a
// change that cannot be decoded, a row that the database refuses.
var ErrPermanent = errors.New("storage: trying again does not help")

// ChangeError says which change cannot be written. It is permanent.
type ChangeError struct {
	Partition Partition
	Key       string
	// Index of the change in its batch, whose offsets are From up to Next.
	Index      int
	From, Next int64
	Err        error
}

// Error implements error.
func (e *ChangeError) Error() string {
	return fmt.Sprintf("change of %s %q (generation %d, partition %d, number %d of the changes at %d to %d): %v",
		e.Partition.Concern, e.Key, e.Partition.Generation, e.Partition.Partition, e.Index, e.From, e.Next-1, e.Err)
}

// Unwrap returns the cause and ErrPermanent.
func (e *ChangeError) Unwrap() []error { return []error{e.Err, ErrPermanent} }

// Target is a database. Implementations are safe for concurrent use.
type Target interface {
	// Apply writes the changes and moves the watermarks in one transaction of
	// the database: all or nothing. ErrStale if a watermark is not at From;
	// ErrPermanent if trying again is of no use, as a *ChangeError where it is
	// known which change is to blame.
	Apply(ctx context.Context, batches []Batch) error
	// Watermarks returns the next offset to apply, 0 for partitions that were
	// never written.
	Watermarks(ctx context.Context, partitions []Partition) (map[Partition]int64, error)
}
