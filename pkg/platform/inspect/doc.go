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
// The package imports stream, txn and platform. It must not know processors:
// it reads what they have written.
package inspect
