package edgecmd

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

// Exit codes of a program that runs these commands.
const (
	// ExitOther is for failures that are nobody's refusal, e.g. an internal
	// error of the server.
	ExitOther = 1
	// ExitUsage: the command line is wrong; nothing was sent.
	ExitUsage = 2
	// ExitRefused: the server said no.
	ExitRefused = 3
	// ExitUnavailable: the server cannot be reached, is overloaded or did not
	// answer in time. Trying again may help.
	ExitUnavailable = 4
)

// ExitError is an error that knows the exit code of the program.
type ExitError struct {
	Code int
	Err  error
}

// Error returns the text of Err.
func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }

func usagef(format string, args ...any) error {
	return &ExitError{Code: ExitUsage, Err: fmt.Errorf(format, args...)}
}

// exitCode maps what a server answered.
func exitCode(s *status.Status) int {
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded:
		return ExitUnavailable
	case codes.ResourceExhausted:
		for _, d := range s.Details() {
			if _, ok := d.(*errdetails.RetryInfo); ok {
				return ExitUnavailable
			}
		}
		return ExitRefused
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange,
		codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented:
		return ExitRefused
	default:
		return ExitOther
	}
}

// statusError is a refusal as the user sees it.
type statusError struct {
	status *status.Status
	asJSON bool
	hint   string
}

// GRPCStatus lets status.FromError see what the server said.
func (e *statusError) GRPCStatus() *status.Status { return e.status }

func (e *statusError) Error() string {
	if e.asJSON {
		if text, err := protojson.Marshal(e.status.Proto()); err == nil {
			return string(compact(text))
		}
	}
	var b strings.Builder
	name := codeName(e.status.Code())
	fmt.Fprintf(&b, "%s: %s", name, printable(e.status.Message()))
	for _, d := range e.status.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok {
			continue
		}
		if r := info.GetReason(); r != "" && r != name {
			fmt.Fprintf(&b, "\n  reason: %s", printable(r))
		}
		for _, k := range slices.Sorted(maps.Keys(info.GetMetadata())) {
			fmt.Fprintf(&b, "\n  %s: %s", printable(k), printable(info.GetMetadata()[k]))
		}
	}
	if e.hint != "" {
		b.WriteString("\n" + e.hint)
	}
	return b.String()
}

// planOf returns the plan that an edge was asked for, which comes as an error.
func planOf(err error) (string, bool) {
	e, ok := errors.AsType[*statusError](err)
	if !ok {
		return "", false
	}
	for _, d := range e.status.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() == "EXPLAINED" {
			return printableLines(e.status.Message()), true
		}
	}
	return "", false
}

// printableLines makes every line safe for a terminal.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if indent := len(l) - len(strings.TrimLeft(l, " ")); l != "" {
			lines[i] = l[:indent] + visible(l[indent:])
		}
	}
	return strings.Join(lines, "\n")
}

// codeName returns a code in the form of documents and of errors in JSON, e.g.
// NOT_FOUND.
func codeName(c codes.Code) string {
	if c == codes.Canceled {
		return "CANCELLED"
	}
	var b strings.Builder
	for i, r := range c.String() {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}
