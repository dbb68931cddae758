// Package inspect looks into the log for what has become of a transaction, and
// appends what operators ask for: cancel, retry. It needs nothing but the id:
//
//	i := inspect.New(log, router)
//	status, err := i.Status(ctx, id)
//	status, err = i.Cancel(ctx, id) // how it ended: cancelled, or committed before
//
// A result is found in the response topic, where it is kept for an hour; an id
// has its time in it, so that the search begins there. A transaction without a
// result is looked for in the state topics, which tell what it holds and waits
// for. One that is between two partitions just then is not found.
//
// It also looks at the platform as a whole:
//
//	s, err := i.Platform(ctx, targets)            // who serves what, and how far behind
//	all, err := i.Waiting(ctx, types, filter)     // what holds and waits
//	err = i.Watch(ctx, cfg, func(e *Event) error) // every record, decoded
//
// The types of an application, which records have as bytes, come as Types.
//
// The package imports stream, txn and platform. It must not know processors:
// it reads what they have written.
package inspect
