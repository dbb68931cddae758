package txn

import "context"

// Router says where the instances of a Concern live. It is implemented by
// pkg/platform. Safe for concurrent use.
type Router interface {
	// Route returns the process topic of a Concern and the partition of a key
	// in it. An unknown Concern is an Error with CodeUnimplemented.
	Route(concern, key string) (topic string, partition int32, err error)
	// IdempotencyHome returns the Concern whose partitions remember idempotency
	// keys, those of all requests: one key has one home, whatever it is used for.
	// It is the same as long as the platform exists.
	IdempotencyHome() string
}

// Sender appends one record to the log and waits until the brokers have it.
// It is implemented by pkg/stream. Safe for concurrent use.
type Sender interface {
	// Send returns nil once every in-sync replica has the record. An Error
	// whose details do not say OutcomeUnknown means that it was not written.
	Send(ctx context.Context, topic string, partition int32, key, value []byte) error
}
