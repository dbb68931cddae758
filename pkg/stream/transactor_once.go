package stream

import (
	"context"
	"errors"
)

var errInDoubt = errors.New("the connection of the producer broke before it began")

// CommitOnce is Commit with the producer as it was initialized: it is never
// replaced by a new one. So what it writes comes before whatever another producer
// of the same id, initialized later, writes, or not at all; and what the caller
// has read since this one was initialized still holds. After an error nothing
// more can be committed.
func (t *Transactor) CommitOnce(
	ctx context.Context, records []Record, group *Group, offsets map[TopicPartition]int64,
) (map[TopicPartition]int64, error) {
	if t.p == nil || t.doubt.Load() {
		return nil, &AbortedError{Op: "begin", Class: classFatal.String(), Err: errInDoubt}
	}
	last, op, err := t.commit(ctx, records, group, offsets)
	if err == nil {
		return last, nil
	}
	if classify(err) != classFatal {
		abort, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.cfg.TransactionTimeout)
		if abortErr := t.call(abort, t.p.AbortTransaction); abortErr != nil {
			t.cfg.Logger.Debug("abort failed", "error", abortErr)
		}
		cancel()
	}
	t.discard()
	return nil, &AbortedError{Op: op, Class: classify(err).String(), Err: err}
}
