package edge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// ErrorDomain is the domain of every google.rpc.ErrorInfo.
const ErrorDomain = "rocketcycle"

// Reasons in a google.rpc.ErrorInfo that are not the name of a txn.Code.
const (
	// ReasonTooLarge: the request exceeds MaxRequestBytes. Trying again is
	// pointless.
	ReasonTooLarge = "REQUEST_TOO_LARGE"
	// ReasonOverloaded: MaxInFlight is reached. Nothing was done.
	ReasonOverloaded = "TOO_MANY_IN_FLIGHT"
	// ReasonExplained: the message is the plan that was asked for. Nothing was
	// done.
	ReasonExplained = "EXPLAINED"
)

// retryDelay is what clients are told to wait before they try again.
const retryDelay = time.Second

// GRPCCode maps a code of the platform to gRPC's. A code that is not known
// becomes Internal.
func GRPCCode(c txn.Code) codes.Code {
	switch c {
	case txn.CodeInvalidArgument:
		return codes.InvalidArgument
	case txn.CodeNotFound:
		return codes.NotFound
	case txn.CodeAlreadyExists:
		return codes.AlreadyExists
	case txn.CodeFailedPrecondition:
		return codes.FailedPrecondition
	case txn.CodeResourceExhausted:
		return codes.ResourceExhausted
	case txn.CodeUnavailable:
		return codes.Unavailable
	case txn.CodeUnimplemented:
		return codes.Unimplemented
	case txn.CodeDeadlineExceeded:
		return codes.DeadlineExceeded
	case txn.CodeInternal:
		return codes.Internal
	case txn.CodeDataLoss:
		return codes.DataLoss
	case txn.CodeAborted:
		return codes.Aborted
	case txn.CodeCancelled:
		return codes.Canceled
	case txn.CodePermissionDenied:
		return codes.PermissionDenied
	case txn.CodeUnauthenticated:
		return codes.Unauthenticated
	default:
		return codes.Internal
	}
}

// TxnCode maps a gRPC code to the platform's; 0 for OK.
func TxnCode(c codes.Code) txn.Code {
	switch c {
	case codes.OK:
		return 0
	case codes.InvalidArgument, codes.OutOfRange:
		return txn.CodeInvalidArgument
	case codes.NotFound:
		return txn.CodeNotFound
	case codes.AlreadyExists:
		return txn.CodeAlreadyExists
	case codes.FailedPrecondition:
		return txn.CodeFailedPrecondition
	case codes.ResourceExhausted:
		return txn.CodeResourceExhausted
	case codes.Unavailable:
		return txn.CodeUnavailable
	case codes.Unimplemented:
		return txn.CodeUnimplemented
	case codes.DeadlineExceeded:
		return txn.CodeDeadlineExceeded
	case codes.DataLoss:
		return txn.CodeDataLoss
	case codes.Aborted:
		return txn.CodeAborted
	case codes.Canceled:
		return txn.CodeCancelled
	case codes.PermissionDenied:
		return txn.CodePermissionDenied
	case codes.Unauthenticated:
		return txn.CodeUnauthenticated
	case codes.Internal, codes.Unknown:
		return txn.CodeInternal
	default:
		return txn.CodeInternal
	}
}

// httpCode maps a status to HTTP. It is never a 2xx or 3xx.
func httpCode(s *status.Status) int {
	if reasonOf(s) == ReasonTooLarge {
		return http.StatusRequestEntityTooLarge
	}
	switch s.Code() {
	case codes.InvalidArgument, codes.OutOfRange, codes.FailedPrecondition:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Canceled:
		return 499 // nobody reads it; the code that proxies log
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case codes.OK, codes.Unknown, codes.Internal, codes.DataLoss:
		return http.StatusInternalServerError
	default:
		return http.StatusInternalServerError
	}
}

// StatusOf returns the gRPC status of whatever a service returned: that of a
// txn.Error or a gRPC status in its chain, or of a context that ended. Any
// other error is a mistake of the service: it becomes Internal, and its text,
// which may tell more than a client should know, is left out.
func StatusOf(err error) *status.Status {
	if err == nil {
		return status.New(codes.OK, "")
	}
	if e, ok := errors.AsType[*txn.Error](err); ok {
		reason := txn.CodeName(e.Code)
		if e.Details[txn.DetailPlan] != "" {
			reason = ReasonExplained
		}
		s := newStatus(GRPCCode(e.Code), reason, e.Details, "%s", e.Message)
		if again(e) {
			return retriable(s)
		}
		return s
	}
	if s, ok := errors.AsType[grpcStatus](err); ok && s.GRPCStatus().Code() != codes.OK {
		return complete(s.GRPCStatus())
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return newStatus(codes.DeadlineExceeded, "", nil, "the deadline passed")
	case errors.Is(err, context.Canceled):
		return newStatus(codes.Canceled, "", nil, "the caller stopped waiting")
	}
	return newStatus(codes.Internal, "", nil, "internal error")
}

// again tells whether trying again is safe and may help.
func again(e *txn.Error) bool {
	switch e.Code {
	case txn.CodeUnavailable:
		return e.Details[txn.DetailOutcome] != txn.OutcomeUnknown
	case txn.CodeResourceExhausted:
		return e.Details[txn.DetailLimitBytes] == "" // what is too large stays so
	default:
		return false
	}
}

type grpcStatus interface {
	error
	GRPCStatus() *status.Status
}

// newStatus makes a status with an ErrorInfo. An empty reason is the code's
// name.
func newStatus(c codes.Code, reason string, details map[string]string, format string, args ...any) *status.Status {
	if reason == "" {
		reason = txn.CodeName(TxnCode(c))
	}
	info := &errdetails.ErrorInfo{Reason: reason, Domain: ErrorDomain, Metadata: validText(details)}
	return withDetail(status.New(c, strings.ToValidUTF8(fmt.Sprintf(format, args...), "\uFFFD")), info)
}

// complete gives a status that was made elsewhere an ErrorInfo, unless it has
// one.
func complete(s *status.Status) *status.Status {
	if s.Code() == codes.OK || reasonOf(s) != "" {
		return s
	}
	p := s.Proto()
	p.Message = strings.ToValidUTF8(tidy(p.GetMessage()), "\uFFFD")
	return withDetail(status.FromProto(p), &errdetails.ErrorInfo{Reason: txn.CodeName(TxnCode(s.Code())), Domain: ErrorDomain})
}

func validText(details map[string]string) map[string]string {
	out := maps.Clone(details)
	for k, v := range out {
		out[k] = strings.ToValidUTF8(v, "\uFFFD")
	}
	return out
}

func withDetail(s *status.Status, detail protoadapt.MessageV1) *status.Status {
	if with, err := s.WithDetails(detail); err == nil {
		return with
	}
	return s
}

func retriable(s *status.Status) *status.Status {
	return withDetail(s, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryDelay)})
}

// reasonOf returns the reason in the status' ErrorInfo, or "".
func reasonOf(s *status.Status) string {
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// retryAfter returns how long a client should wait, in whole seconds; 0 if
// the status does not say that trying again may help.
func retryAfter(s *status.Status) int {
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return max(1, int((info.GetRetryDelay().AsDuration()+time.Second-1)/time.Second)) // rounded up
		}
	}
	return 0
}
