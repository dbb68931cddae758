package txn

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Code says why a transaction was refused or failed.
type Code = rkcyv1.Code

// The codes, with their use. pkg/edge maps each to a gRPC code.
const (
	// CodeInvalidArgument: the request is malformed and will never succeed.
	CodeInvalidArgument = rkcyv1.Code_CODE_INVALID_ARGUMENT
	// CodeNotFound: the instance does not exist.
	CodeNotFound = rkcyv1.Code_CODE_NOT_FOUND
	// CodeAlreadyExists: an instance of that key, or a unique value, exists.
	CodeAlreadyExists = rkcyv1.Code_CODE_ALREADY_EXISTS
	// CodeFailedPrecondition: a business rule, foreign key or check refuses.
	CodeFailedPrecondition = rkcyv1.Code_CODE_FAILED_PRECONDITION
	// CodeResourceExhausted: a limit in flight, of memory or of size is reached.
	CodeResourceExhausted = rkcyv1.Code_CODE_RESOURCE_EXHAUSTED
	// CodeUnavailable: a broker or database is away; retrying may succeed.
	CodeUnavailable = rkcyv1.Code_CODE_UNAVAILABLE
	// CodeUnimplemented: no such Concern or command.
	CodeUnimplemented = rkcyv1.Code_CODE_UNIMPLEMENTED
	// CodeDeadlineExceeded: the deadline passed. From a processor the
	// transaction is aborted; from the client the outcome is unknown, and the
	// details say so.
	CodeDeadlineExceeded = rkcyv1.Code_CODE_DEADLINE_EXCEEDED
	// CodeInternal: a handler panicked or a record could not be decoded.
	CodeInternal = rkcyv1.Code_CODE_INTERNAL
	// CodeDataLoss: the log has a gap.
	CodeDataLoss = rkcyv1.Code_CODE_DATA_LOSS
	// CodeAborted: the transaction lost a conflict and may be tried again.
	CodeAborted = rkcyv1.Code_CODE_ABORTED
	// CodeCancelled: someone cancelled the transaction.
	CodeCancelled = rkcyv1.Code_CODE_CANCELLED
	// CodePermissionDenied: the caller may not do this.
	CodePermissionDenied = rkcyv1.Code_CODE_PERMISSION_DENIED
	// CodeUnauthenticated: the caller is not known.
	CodeUnauthenticated = rkcyv1.Code_CODE_UNAUTHENTICATED
)

// Keys of Error.Details that the platform itself sets.
const (
	// DetailTxnID is the transaction's id, as text.
	DetailTxnID = "txn_id"
	// DetailOutcome is OutcomeUnknown when nobody can say whether the
	// transaction took effect.
	DetailOutcome = "outcome"
	// OutcomeUnknown is the value of DetailOutcome.
	OutcomeUnknown = "unknown"
	// DetailConcern, DetailKey and DetailCommand name the step that failed.
	DetailConcern = "concern"
	DetailKey     = "key"
	DetailCommand = "command"
	// DetailField names the field of the request that is at fault.
	DetailField = "field"
	// DetailLimitBytes is the limit of a size that is exceeded, in bytes. With it
	// CodeResourceExhausted does not go away by trying again.
	DetailLimitBytes = "limit_bytes"
	// DetailConstraint names the constraint that refused.
	DetailConstraint = "constraint"
	// DetailSaga is SagaCompensated or SagaStuck, DetailRefusal why a
	// compensation is refused.
	DetailSaga    = "saga"
	DetailRefusal = "refusal"
)

// Error is the one error type of the platform: a code that a program can act
// upon, a message that says what to do, and details.
type Error struct {
	Code    Code
	Message string
	Details map[string]string
	cause   error
}

// Errorf makes an Error. %w keeps the cause for errors.Is and errors.As.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
}

// With returns a copy of the error that carries one more detail.
func (e *Error) With(key, value string) *Error {
	c := *e
	c.Details = maps.Clone(e.Details)
	if c.Details == nil {
		c.Details = map[string]string{}
	}
	c.Details[key] = value
	return &c
}

// Error returns "code: message (key=value ...)".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(CodeName(e.Code))
	b.WriteString(": ")
	b.WriteString(e.Message)
	if len(e.Details) > 0 {
		b.WriteString(" (")
		for i, k := range slices.Sorted(maps.Keys(e.Details)) {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(k + "=" + e.Details[k])
		}
		b.WriteByte(')')
	}
	return b.String()
}

// Unwrap returns the cause given to Errorf, if any.
func (e *Error) Unwrap() error { return e.cause }

// CodeName returns a code as clients see it, e.g. "NOT_FOUND".
func CodeName(c Code) string { return strings.TrimPrefix(c.String(), "CODE_") }

// CodeOf returns the code of the first Error in err's chain, CodeInternal for
// any other error and 0 for nil.
func CodeOf(err error) Code {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// AsError returns the first Error in err's chain; any other error becomes one
// with CodeInternal. nil stays nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: CodeInternal, Message: err.Error(), cause: err}
}

// Bounds of an error in a record, in bytes and details: a handler that puts a
// whole document into its message must not make a record that no broker takes.
const (
	maxErrorMessage = 8 << 10
	maxErrorDetail  = 1 << 10
	maxErrorDetails = 64
)

// ToProto returns the error as it travels in records: valid UTF-8, and cut
// where it is too long.
func (e *Error) ToProto() *rkcyv1.Error {
	p := &rkcyv1.Error{Code: e.Code, Message: cut(e.Message, maxErrorMessage)}
	for _, k := range slices.Sorted(maps.Keys(e.Details)) {
		if p.Details == nil {
			p.Details = map[string]string{}
		}
		if len(p.Details) == maxErrorDetails {
			break
		}
		p.Details[cut(k, maxErrorDetail)] = cut(e.Details[k], maxErrorDetail)
	}
	return p
}

// cut returns s as valid UTF-8 of at most n bytes and an ellipsis.
func cut(s string, n int) string {
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// FromProto returns the error that a record carried; nil for nil.
func FromProto(p *rkcyv1.Error) *Error {
	if p == nil {
		return nil
	}
	return &Error{Code: p.GetCode(), Message: p.GetMessage(), Details: p.GetDetails()}
}
