package sim

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// outcomeOf says what an answer means: refused only if it is certain that
// nothing happened and nothing will.
func outcomeOf(err error) outcome {
	if err == nil {
		return ok
	}
	s := status.Convert(err)
	said := false // the platform itself said something
	for _, d := range s.Details() {
		info, is := d.(*errdetails.ErrorInfo)
		if is && info.GetMetadata()[txn.DetailOutcome] == txn.OutcomeUnknown {
			return unknown
		}
		said = said || is
	}
	switch s.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.ResourceExhausted, codes.Aborted,
		codes.OutOfRange, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return refused
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		// From the client library they mean that nobody knows.
		if said {
			return refused
		}
		return unknown
	default:
		return unknown
	}
}
