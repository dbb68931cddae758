package txn

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// MaxIdempotencyKeyBytes is the longest idempotency key, in bytes.
const MaxIdempotencyKeyBytes = 256

// idempotency is what a context says of the request that it belongs to.
type idempotency struct {
	key         string
	fingerprint func() []byte
	runs        atomic.Uint32
}

type idempotencyInContext struct{}

// WithIdempotency makes the transactions that are run with the returned context
// the work of one request: a repeat of the request, with the same key and the
// same fingerprint, gets the results of the first one. fingerprint tells
// requests apart, and is asked for when a transaction is run; nil makes one of
// the transaction's steps. Repeats must run the same transactions in the same
// order.
func WithIdempotency(ctx context.Context, key string, fingerprint func() []byte) (context.Context, error) {
	switch {
	case key == "":
		return nil, Errorf(CodeInvalidArgument, "the idempotency key is empty")
	case len(key) > MaxIdempotencyKeyBytes:
		return nil, Errorf(CodeInvalidArgument, "the idempotency key has %d bytes; at most %d are allowed", len(key), MaxIdempotencyKeyBytes)
	case !utf8.ValidString(key):
		return nil, Errorf(CodeInvalidArgument, "the idempotency key is not valid UTF-8")
	}
	return context.WithValue(ctx, idempotencyInContext{}, &idempotency{key: key, fingerprint: fingerprint}), nil
}

// claimOf returns the entry that a transaction run with ctx makes or finds; nil
// if it is not idempotent. The second transaction of a request has a key of its
// own.
func claimOf(ctx context.Context, t *rkcyv1.Transaction) (*rkcyv1.Idempotency, error) {
	from, ok := ctx.Value(idempotencyInContext{}).(*idempotency)
	if !ok {
		return nil, nil //nolint:nilnil // not idempotent
	}
	key := from.key
	if n := from.runs.Add(1); n > 1 {
		key = fmt.Sprintf("%s#%d", key, n)
	}
	var fingerprint []byte
	if from.fingerprint != nil {
		fingerprint = from.fingerprint()
	} else {
		h := sha256.New()
		for _, s := range t.GetSteps() {
			raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
			if err != nil {
				return nil, err
			}
			h.Write(raw)
		}
		fingerprint = h.Sum(nil)
	}
	return &rkcyv1.Idempotency{Key: key, Fingerprint: fingerprint}, nil
}

// HomeKey returns what is hashed to find the home of an idempotency key.
func HomeKey(key string) string { return "idempotency:" + key }
