// Package stream is the only place that knows librdkafka. It offers what the
// platform needs of Kafka: an idempotent Producer, a Transactor that turns a
// batch of records and offsets into one Kafka transaction, a consumer Group
// whose partitions start paused, a Reader that reads a partition to its true
// end, and an Admin.
//
//	records, err := group.Poll(ctx, 1000, 50*time.Millisecond)
//	...
//	last, err := transactor.Commit(ctx, output, group, offsets)
//	if err != nil {
//		// Aborted, or nobody knows: drop what the batch did in memory, and
//		// restore from the log.
//	}
//
// A Transactor's producer goes through these states:
//
//	fresh ─ begin ─► open ─ commit ─► fresh
//	  ▲                │ abort, disconnect, slow commit, any doubt
//	  └── renewed ◄────┘ closed, made anew, InitTransactions raises the epoch
//
// The package imports pkg/txn for its error type only. It must not know what
// is in the records.
package stream
