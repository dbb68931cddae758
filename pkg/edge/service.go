package edge

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// registrar puts the server's own handling around every method of a service,
// before the request is decoded.
type registrar struct {
	server *Server
	target grpc.ServiceRegistrar
	// gateway: requests come from our own HTTP side.
	gateway bool
}

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	internal, err := internalMethods(desc)
	if err != nil {
		r.server.faults = append(r.server.faults, err)
		return
	}
	wrapped := *desc
	wrapped.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		full := fullName(desc, m.MethodName)
		wrapped.Methods[i] = grpc.MethodDesc{
			MethodName: m.MethodName,
			Handler: func(srv any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
				if internal[m.MethodName] {
					return r.unary(ctx, full, refuseInternal(full))
				}
				return r.unary(ctx, full, func(ctx context.Context) (any, error) {
					seen := &seenRequest{method: full, decode: decoding(decode)}
					ctx, err := withIdempotency(ctx, seen)
					if err != nil {
						return nil, err
					}
					return m.Handler(srv, ctx, seen.into, chain)
				})
			},
		}
	}
	wrapped.Streams = make([]grpc.StreamDesc, len(desc.Streams))
	for i, m := range desc.Streams {
		full := fullName(desc, m.StreamName)
		wrapped.Streams[i] = m
		wrapped.Streams[i].Handler = func(srv any, stream grpc.ServerStream) error {
			call := func(ctx context.Context) (any, error) {
				return nil, m.Handler(srv, decodingStream{contextStream{stream, ctx}})
			}
			if internal[m.StreamName] {
				call = refuseInternal(full)
			}
			_, err := r.handle(stream.Context(), full, call)
			return err
		}
	}
	r.target.RegisterService(&wrapped, impl)
	if r.gateway {
		r.server.methods.add(&wrapped, impl, internal)
	}
	r.server.named(desc.ServiceName)
}

func (r registrar) unary(ctx context.Context, method string, call func(context.Context) (any, error)) (any, error) {
	ctx, cancel, err := r.deadline(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return r.handle(ctx, method, call)
}

// handle gives a request its slot, runs it and turns the error into a status.
func (r registrar) handle(ctx context.Context, method string, call func(context.Context) (any, error)) (out any, err error) {
	s, start := r.server, time.Now()
	ctx, end := s.tell.begin(ctx, method)
	defer func() { end(err) }()
	if !r.gateway {
		defer func() { s.logCall(ctx, "grpc", method, status.Code(err), start) }()
		if !s.limit.take() {
			return nil, s.limit.refusal().Err()
		}
		defer s.limit.give()
	}
	s.limit.enter()
	defer s.limit.leave()
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, s.panicked(ctx, method, p).Err()
		}
	}()
	if out, err = call(ctx); err == nil {
		if m, ok := out.(proto.Message); !ok || m.ProtoReflect().IsValid() {
			return out, nil
		}
		err = errors.New("the method returned neither an answer nor an error")
	}
	st := StatusOf(err)
	if st.Code() == codes.Internal {
		s.cfg.Logger.ErrorContext(ctx, "request failed", "method", method, "error", err)
	}
	return nil, st.Err()
}

// timeoutKey is the metadata by which the gateway tells a request's deadline,
// as a time.Duration. It is honoured on the in-process connection only.
const timeoutKey = "rkcy-edge-timeout"

// deadline returns the context that a handler gets. A client that gives up at
// the same moment as the handler would never learn the transaction's id, so the
// handler gives up a little earlier.
func (r registrar) deadline(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if r.gateway {
		if md, ok := metadata.FromIncomingContext(ctx); ok && len(md.Get(timeoutKey)) == 1 {
			d, err := time.ParseDuration(md.Get(timeoutKey)[0])
			if err != nil {
				return nil, nil, newStatus(codes.Internal, "", nil, "time-out of the gateway: %v", err).Err()
			}
			ctx, cancel := context.WithTimeout(ctx, d)
			return ctx, cancel, nil
		}
	}
	if at, ok := ctx.Deadline(); ok {
		ctx, cancel := context.WithDeadline(ctx, at.Add(-min(time.Until(at)/20, 50*time.Millisecond)))
		return ctx, cancel, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.server.cfg.DefaultTimeout)
	return ctx, cancel, nil
}

type decodingStream struct{ grpc.ServerStream }

func (s decodingStream) RecvMsg(m any) error { return decoding(s.ServerStream.RecvMsg)(m) }

func (s *Server) panicked(ctx context.Context, what string, p any) *status.Status {
	s.cfg.Logger.ErrorContext(ctx, "panic", "method", what, "panic", p, "stack", string(debug.Stack()))
	return newStatus(codes.Internal, "", nil, "internal error")
}

func (s *Server) logCall(ctx context.Context, protocol, method string, code codes.Code, start time.Time) {
	if !s.cfg.Logger.Enabled(ctx, slog.LevelDebug) {
		return
	}
	from := ""
	if p, ok := peer.FromContext(ctx); ok {
		from = p.Addr.String()
	}
	s.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "request", slog.String("protocol", protocol), slog.String("method", method),
		slog.String("code", code.String()), slog.Duration("took", time.Since(start)), slog.String("peer", from))
}
