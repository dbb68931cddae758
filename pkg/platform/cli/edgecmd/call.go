package edgecmd

import (
	"context"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// address says where the edge is: flag, variable, default.
func address(cfg Config, opts *options) (string, error) {
	from, addr := "--edge", opts.addr
	if addr == "" {
		from, addr = cfg.env(), cfg.Getenv(cfg.env())
	}
	if addr == "" {
		return cfg.DefaultAddr, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || strings.ContainsFunc(host, notInHost) {
		return "", usagef("%s: %q is not an address; write it as host:port", from, addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", usagef("%s: %q has no port from 1 to 65535; write it as host:port", from, addr)
	}
	return addr, nil
}

func notInHost(r rune) bool {
	return strings.ContainsRune("/?#@,\"'\\", r) || unicode.IsSpace(r) || !unicode.IsPrint(r)
}

// call sends the request and waits for the answer. Outgoing metadata in ctx
// goes along.
func call(ctx context.Context, addr string, m protoreflect.MethodDescriptor, request proto.Message, opts *options, cfg Config) (proto.Message, error) {
	if opts.timeout <= 0 {
		return nil, usagef("--timeout: %v is not allowed; it is more than 0", opts.timeout)
	}
	conn, err := dial(addr, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, opts.timeout)
	defer cancel()
	answer := dynamicpb.NewMessage(m.Output())
	name := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
	if err := conn.Invoke(ctx, name, request, answer); err != nil {
		return nil, callError(err, addr, opts, cfg)
	}
	return answer, nil
}

func dial(addr string, cfg Config) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("dns:///"+addr, // a host that is called like a scheme is still a host
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent(cfg.App+"-edge"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, usagef("edge %q: %w", addr, err)
	}
	return conn, nil
}

func callError(err error, addr string, opts *options, cfg Config) error {
	st := status.Convert(err)
	e := &statusError{status: st, asJSON: opts.json}
	switch own := len(st.Details()) == 0; { // what an edge says has details
	case own && st.Code() == codes.Unavailable:
		e.hint = fmt.Sprintf("Is an edge serving gRPC at %s? Another address is given by --edge or %s.", addr, cfg.env())
	case own && st.Code() == codes.DeadlineExceeded:
		e.hint = fmt.Sprintf("%s did not answer within %v. Whether the request took effect is not known.", addr, opts.timeout)
	}
	return &ExitError{Code: exitCode(st), Err: e}
}
