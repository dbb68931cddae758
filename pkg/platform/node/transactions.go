package node

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	adminv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/admin/v1"
)

// transactions implements adminv1.TransactionServiceServer. The inspector is
// there once the node has started.
type transactions struct {
	adminv1.UnimplementedTransactionServiceServer
	inspector atomic.Pointer[inspect.Inspector]
}

func (t *transactions) service() edge.Service {
	return edge.Service{
		Register: func(r grpc.ServiceRegistrar) { adminv1.RegisterTransactionServiceServer(r, t) },
		Gateway:  adminv1.RegisterTransactionServiceHandler,
		OpenAPI:  adminv1.OpenAPI,
	}
}

type look = func(*inspect.Inspector, context.Context, txn.ID) (*adminv1.TransactionStatus, error)

func (t *transactions) do(ctx context.Context, id string, what look) (*adminv1.TransactionStatus, error) {
	parsed, err := txn.ParseID(id)
	if err != nil {
		return nil, err
	}
	i := t.inspector.Load()
	if i == nil {
		return nil, errStarting()
	}
	return what(i, ctx, parsed)
}

func errStarting() error {
	return txn.Errorf(txn.CodeUnavailable, "the edge is starting; nothing was submitted, try again")
}

// GetTransaction implements adminv1.TransactionServiceServer.
func (t *transactions) GetTransaction(ctx context.Context, in *adminv1.GetTransactionRequest) (*adminv1.TransactionStatus, error) {
	return t.do(ctx, in.GetId(), (*inspect.Inspector).Status)
}

// WaitTransaction implements adminv1.TransactionServiceServer.
func (t *transactions) WaitTransaction(ctx context.Context, in *adminv1.WaitTransactionRequest) (*adminv1.TransactionStatus, error) {
	return t.do(ctx, in.GetId(), (*inspect.Inspector).Wait)
}

// CancelTransaction implements adminv1.TransactionServiceServer.
func (t *transactions) CancelTransaction(ctx context.Context, in *adminv1.CancelTransactionRequest) (*adminv1.TransactionStatus, error) {
	return t.do(ctx, in.GetId(), (*inspect.Inspector).Cancel)
}

// RetryTransaction implements adminv1.TransactionServiceServer.
func (t *transactions) RetryTransaction(ctx context.Context, in *adminv1.RetryTransactionRequest) (*adminv1.TransactionStatus, error) {
	return t.do(ctx, in.GetId(), (*inspect.Inspector).Retry)
}
