package edge_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// want is the mapping as documented; the test below walks the enum, so that a
// new code cannot be forgotten.
var want = map[txn.Code]struct {
	grpc codes.Code
	http int
}{
	txn.CodeInvalidArgument:    {codes.InvalidArgument, 400},
	txn.CodeNotFound:           {codes.NotFound, 404},
	txn.CodeAlreadyExists:      {codes.AlreadyExists, 409},
	txn.CodeFailedPrecondition: {codes.FailedPrecondition, 400},
	txn.CodeResourceExhausted:  {codes.ResourceExhausted, 429},
	txn.CodeUnavailable:        {codes.Unavailable, 503},
	txn.CodeUnimplemented:      {codes.Unimplemented, 501},
	txn.CodeDeadlineExceeded:   {codes.DeadlineExceeded, 504},
	txn.CodeInternal:           {codes.Internal, 500},
	txn.CodeDataLoss:           {codes.DataLoss, 500},
	txn.CodeAborted:            {codes.Aborted, 409},
	txn.CodeCancelled:          {codes.Canceled, 499},
	txn.CodePermissionDenied:   {codes.PermissionDenied, 403},
	txn.CodeUnauthenticated:    {codes.Unauthenticated, 401},
}

func TestEveryCodeOnBothProtocols(t *testing.T) {
	f := &fake{read: func(_ context.Context, in *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) {
		code := txn.Code(rkcyv1.Code_value["CODE_"+in.GetId()])
		return nil, fmt.Errorf("read player: %w", txn.Errorf(code, "because of %s", in.GetId()).With("concern", "player"))
	}}
	s := start(t, edge.Config{}, f)
	client := s.client()
	for number, name := range rkcyv1.Code_name {
		code := txn.Code(number)
		if code == rkcyv1.Code_CODE_UNSPECIFIED {
			continue
		}
		w, ok := want[code]
		if !ok {
			t.Errorf("%s is not mapped", name)
			continue
		}
		name = txn.CodeName(code)
		_, err := client.ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{Id: name})
		st := status.Convert(err)
		if st.Code() != w.grpc || st.Message() != "because of "+name {
			t.Errorf("%s: gRPC says %v", name, err)
		}
		var info *errdetails.ErrorInfo
		for _, d := range st.Details() {
			if i, ok := d.(*errdetails.ErrorInfo); ok {
				info = i
			}
		}
		if info.GetReason() != name || info.GetDomain() != edge.ErrorDomain || info.GetMetadata()["concern"] != "player" {
			t.Errorf("%s: details %v", name, st.Details())
		}
		a := s.do(http.MethodGet, "/v1/players/"+name, "")
		if a.Code != w.http || a.Status.Code != int(w.grpc) || a.Status.Message != "because of "+name || a.reason() != name {
			t.Errorf("%s: HTTP says %d %s", name, a.Code, a.Body)
		}
		if back := edge.TxnCode(edge.GRPCCode(code)); back != code {
			t.Errorf("%s comes back as %v", name, back)
		}
	}
}

func TestStatusOf(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code codes.Code
		text string
	}{
		"nil":             {nil, codes.OK, ""},
		"a status":        {fmt.Errorf("x: %w", status.Error(codes.Aborted, "try again")), codes.Aborted, "try again"},
		"deadline":        {fmt.Errorf("x: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "deadline"},
		"cancelled":       {context.Canceled, codes.Canceled, "stopped waiting"},
		"anything else":   {errors.New("password is hunter2"), codes.Internal, "internal error"},
		"unknown code":    {&txn.Error{Code: 99, Message: "new"}, codes.Internal, "new"},
		"no code":         {&txn.Error{Message: "none"}, codes.Internal, "none"},
		"not UTF-8":       {txn.Errorf(txn.CodeNotFound, "no \xff").With("key", "\xff"), codes.NotFound, "no \uFFFD"},
		"status of value": {txn.Errorf(txn.CodeNotFound, "100%% gone"), codes.NotFound, "100% gone"},
	} {
		s := edge.StatusOf(c.err)
		if s.Code() != c.code || !strings.Contains(s.Message(), c.text) {
			t.Errorf("%s: %v", name, s)
		}
		if strings.Contains(s.Message(), "hunter2") {
			t.Errorf("%s: the cause is shown to the client", name)
		}
	}
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		if code := edge.TxnCode(c); (code == 0) != (c == codes.OK) {
			t.Errorf("%v maps to %v", c, code)
		}
	}
}

// Clients are told to come back only where that is safe and may help.
func TestRetryAfter(t *testing.T) {
	unknown := txn.Errorf(txn.CodeUnavailable, "the edge stops").With(txn.DetailOutcome, txn.OutcomeUnknown)
	var err error
	f := &fake{read: func(context.Context, *rpgv1.ReadPlayerRequest) (*rpgv1.Player, error) { return nil, err }}
	s := start(t, edge.Config{}, f)
	for _, c := range []struct {
		err   error
		retry string
	}{
		{txn.Errorf(txn.CodeUnavailable, "broker away"), "1"},
		{txn.Errorf(txn.CodeResourceExhausted, "full"), "1"},
		{txn.Errorf(txn.CodeResourceExhausted, "too large").With(txn.DetailLimitBytes, "4194304"), ""},
		{unknown, ""},
		{txn.Errorf(txn.CodeNotFound, "none"), ""},
		{retryIn(t, 1400*time.Millisecond), "2"}, // not too early
		{retryIn(t, 2*time.Second), "2"},
		{retryIn(t, time.Millisecond), "1"},
	} {
		err = c.err
		if a := s.do(http.MethodGet, "/v1/players/x", ""); a.Header.Get("Retry-After") != c.retry {
			t.Errorf("%v: Retry-After %q", c.err, a.Header.Get("Retry-After"))
		}
	}
}

// retryIn is what a service may say by itself.
func retryIn(t *testing.T, d time.Duration) error {
	s, err := status.New(codes.Unavailable, "later").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(d)})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}
