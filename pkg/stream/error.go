package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// class is what an error of a transactional call asks for.
type class int

const (
	// classFatal: discard the producer. Anything that is not known to be
	// milder counts as fatal.
	classFatal class = iota
	// classAbortable: abort the transaction, drop its effects in memory.
	classAbortable
	// classRetriable: make the same call again.
	classRetriable
)

func (c class) String() string { return [...]string{"fatal", "abortable", "retriable"}[c] }

// classify sorts errors of transactional calls as librdkafka documents them.
func classify(err error) class {
	e, ok := errors.AsType[kafka.Error](err)
	switch {
	case !ok || e.IsFatal():
		return classFatal
	case e.TxnRequiresAbort():
		return classAbortable
	case e.IsRetriable():
		return classRetriable
	}
	return classFatal
}

// AbortedError says that a Kafka transaction did not commit, or that nobody
// knows. Whoever built it drops what it did in memory and restores from the
// log.
type AbortedError struct {
	// Op is the call that failed.
	Op string
	// Class is "fatal", "abortable" or "retriable", the last when retries ran
	// out.
	Class string
	Err   error
}

// Error implements error.
func (e *AbortedError) Error() string {
	return fmt.Sprintf("kafka transaction: %s (%s): %v", e.Op, e.Class, e.Err)
}

// Unwrap returns the cause.
func (e *AbortedError) Unwrap() error { return e.Err }

// sendError turns the fate of a record into the platform's error.
func sendError(ctx context.Context, topic string, err error) error {
	unknown := func(e *txn.Error) error { return e.With(txn.DetailOutcome, txn.OutcomeUnknown) }
	if ctx.Err() != nil {
		return unknown(txn.Errorf(txn.CodeDeadlineExceeded, "the brokers did not acknowledge in time: %w", ctx.Err()))
	}
	e, ok := errors.AsType[kafka.Error](err)
	if !ok {
		return unknown(txn.Errorf(txn.CodeUnavailable, "write to %s: %w", topic, err))
	}
	switch e.Code() {
	case kafka.ErrMsgSizeTooLarge, kafka.ErrInvalidMsgSize, kafka.ErrInvalidRecord:
		return txn.Errorf(txn.CodeInvalidArgument, "the record is too large or not valid for %s: %w", topic, err)
	case kafka.ErrUnknownTopicOrPart, kafka.ErrUnknownTopic, kafka.ErrUnknownPartition:
		return txn.Errorf(txn.CodeUnavailable, "topic %s or its partition does not exist; has the platform been updated? %w", topic, err)
	case kafka.ErrQueueFull:
		return txn.Errorf(txn.CodeResourceExhausted, "too much is waiting to be sent to the brokers; try again later: %w", err)
	default:
		return unknown(txn.Errorf(txn.CodeUnavailable, "the brokers did not acknowledge: %w", err))
	}
}
