package edge

import (
	"context"
	"crypto/sha256"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Names of metadata; on HTTP, headers of the same names.
const (
	// IdempotencyKey is given by a client: a request that is repeated with the
	// same key takes effect once, and is answered with the same result.
	IdempotencyKey = "idempotency-key"
	// TxnIDKey tells the id of the transaction that a request became.
	TxnIDKey = "rkcy-txn-id"
	// ReplayedKey is "true" on an answer that an earlier request had made.
	ReplayedKey = "idempotent-replayed"
	// ExplainKey, given by a client as "true", asks for the plan of the
	// transaction instead of its execution. The plan comes as the message of a
	// status ABORTED whose reason is ReasonExplained.
	ExplainKey = "rkcy-explain"
)

// seenRequest takes the fingerprint of the request that a method is called
// with, as it came: a handler may fill in what the client left out.
type seenRequest struct {
	method      string
	decode      func(any) error
	idempotent  bool
	fingerprint []byte
}

func (r *seenRequest) into(v any) error {
	if err := r.decode(v); err != nil || !r.idempotent {
		return err
	}
	h := sha256.New()
	h.Write([]byte(r.method))
	h.Write([]byte{0})
	if m, ok := v.(proto.Message); ok {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			return err
		}
		h.Write(raw)
	}
	r.fingerprint = h.Sum(nil)
	return nil
}

// withIdempotency takes the key out of the metadata of a request.
func withIdempotency(ctx context.Context, r *seenRequest) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if on := md.Get(ExplainKey); len(on) == 1 && on[0] == "true" {
		ctx = txn.WithExplain(ctx)
	}
	switch keys := md.Get(IdempotencyKey); len(keys) {
	case 0:
		return ctx, nil
	case 1:
		r.idempotent = true
		return txn.WithIdempotency(ctx, keys[0], func() []byte { return r.fingerprint })
	default:
		return nil, txn.Errorf(txn.CodeInvalidArgument, "%s is given %d times", IdempotencyKey, len(keys))
	}
}

// Runner makes the transactions that handlers run tell their ids to clients.
type Runner struct{ txn.Runner }

// Run implements txn.Runner.
func (r Runner) Run(ctx context.Context, b *txn.Builder) (*txn.Result, error) {
	result, err := r.Runner.Run(ctx, b)
	if err != nil {
		return nil, err
	}
	md := metadata.Pairs(TxnIDKey, result.ID.String())
	if result.Repeated {
		md.Set(ReplayedKey, "true")
	}
	// Outside of a request there is nobody to tell.
	_ = grpc.SetHeader(ctx, md)
	return result, nil
}
