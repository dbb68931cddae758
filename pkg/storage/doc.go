// Package storage carries committed changes from the storage topics into
// databases. A Mapping says how the instances of a Concern become rows, a
// Target is a database, and a Writer is the worker between them:
//
//	[storage topic] ► Writer: poll, batch ► Target.Apply: one database
//	transaction {rows, watermark} ► group offset
//
// The watermark of a partition, the offset up to which it has been applied, is
// changed by compare-and-set in the transaction that writes the rows. So a
// batch takes effect once, and a second writer is refused. The group offset is
// committed afterwards; it is the lower bound that processors go by.
//
// A Writer's partition goes through:
//
//	assigned ─► watermark read ─► running ─► revoked
//	                 ▲               │ ErrStale, another writer was here
//	                 └───────────────┘
//
// A change that the target refuses (ErrPermanent) or that cannot be decoded
// holds up its partition, loudly, and no other. Nothing is ever skipped.
//
// The package imports pkg/stream. It must not know which database is behind a
// Target, nor who produced the changes.
package storage
