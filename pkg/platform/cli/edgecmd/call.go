package edgecmd

import (
	"context"
	"fmt"
	"math"
	"net"

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
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return "", usagef("%s: %q is not an address; write it as host:port", from, addr)
	}
	return addr, nil
}

// call sends the request and waits for the answer.
func call(ctx context.Context, addr string, m protoreflect.MethodDescriptor, request proto.Message, opts *options, cfg Config) (proto.Message, error) {
	if opts.timeout <= 0 {
		return nil, usagef("--timeout: %v is not allowed; it is more than 0", opts.timeout)
	}
	conn, err := grpc.NewClient(addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent(cfg.App+"-edge"),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return nil, usagef("edge %q: %w", addr, err)
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
		st := status.Convert(err)
		e := &statusError{status: st, asJSON: opts.json}
		if st.Code() == codes.Unavailable && len(st.Details()) == 0 {
			e.hint = fmt.Sprintf("Is an edge serving gRPC at %s? Another address is given by --edge or %s.", addr, cfg.env())
		}
		return nil, &ExitError{Code: exitCode(st), Err: e}
	}
	return answer, nil
}
