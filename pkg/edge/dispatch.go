package edge

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rocketcycle/rocketcycle/pkg/edge/frame"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// maxRequestID is the longest request id, in bytes.
const maxRequestID = 128

// longestTimeout is what a longer one becomes.
const longestTimeout = 24 * time.Hour

// origin is what is known of the connection that envelopes came on. Who the
// client is follows from it alone.
type origin struct {
	protocol string // for the log
	codec    frame.Codec
	header   metadata.MD
	peer     net.Addr // nil: the context knows
}

// httpOrigin takes from a request what holds for all envelopes that it brings.
func httpOrigin(protocol string, codec frame.Codec, r *http.Request) origin {
	o := origin{protocol: protocol, codec: codec, header: metadata.MD{}}
	if auth := r.Header.Values("Authorization"); len(auth) > 0 {
		o.header.Set("authorization", auth...)
	}
	for name, key := range forwarded {
		if v := r.Header.Values(name); len(v) > 0 && key != IdempotencyKey { // that is an item's own
			o.header.Set(key, v...)
		}
	}
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		o.peer = net.TCPAddrFromAddrPort(addr)
	}
	return o
}

// dispatch runs the request of an envelope: the same handling as on gRPC and
// HTTP, without a connection between. The caller has taken a slot. There is
// always an answer.
func (s *Server) dispatch(ctx context.Context, o origin, e *edgev1.Envelope) (answer *edgev1.Answer) {
	start, stream := time.Now(), &headerStream{method: "/" + strings.TrimPrefix(e.GetMethod(), "/")}
	code := codes.OK
	defer func() {
		if p := recover(); p != nil { // of the encoding; the method has its own
			st := s.panicked(ctx, stream.method, p)
			code, answer = st.Code(), failed(e.GetRequestId(), st)
		}
		s.logCall(ctx, o.protocol, stream.method, code, start)
	}()
	if o.peer != nil {
		ctx = peer.NewContext(ctx, &peer.Peer{Addr: o.peer})
	}
	body, st := s.call(ctx, o, e, stream)
	if st != nil {
		code = st.Code()
		answer = failed(e.GetRequestId(), st)
	} else {
		answer = &edgev1.Answer{RequestId: e.GetRequestId(), Outcome: &edgev1.Answer_Body{Body: body}}
	}
	answer.Headers = stream.told()
	return answer
}

func (s *Server) call(ctx context.Context, o origin, e *edgev1.Envelope, stream *headerStream) ([]byte, *status.Status) {
	m, st := s.methods.find(e.GetMethod())
	if st != nil {
		return nil, st
	}
	if st := checkRequestID(e.GetRequestId()); st != nil {
		return nil, st
	}
	md, st := headersOf(o, e)
	if st != nil {
		return nil, st
	}
	timeout, st := timeoutOf(e.GetTimeout(), s.cfg.DefaultTimeout)
	if st != nil {
		return nil, st
	}
	md.Set(timeoutKey, timeout.String())
	ctx = metadata.NewIncomingContext(grpc.NewContextWithServerTransportStream(ctx, stream), md)
	out, err := m.handler(m.impl, ctx, func(v any) error { return s.decodeBody(o.codec, e.GetBody(), v) }, nil)
	if err != nil {
		return nil, StatusOf(err)
	}
	message, ok := out.(proto.Message)
	if !ok {
		return nil, newStatus(codes.Internal, "", nil, "internal error")
	}
	body, err := s.encodeBody(o.codec, message)
	if err != nil {
		s.cfg.Logger.ErrorContext(ctx, "an answer cannot be encoded", "method", stream.method, "error", err)
		return nil, newStatus(codes.Internal, "", nil, "internal error")
	}
	return body, nil
}

// decodeBody is what gRPC's codec is to its own requests.
func (s *Server) decodeBody(codec frame.Codec, body []byte, v any) error {
	r, ok := v.(*request)
	if !ok {
		return newStatus(codes.Internal, "", nil, "internal error").Err()
	}
	m, ok := r.target.(proto.Message)
	if !ok {
		return newStatus(codes.Internal, "", nil, "internal error").Err()
	}
	if codec == frame.Proto {
		if err := proto.Unmarshal(body, m); err != nil {
			r.fault = explain(mem.BufferSlice{mem.SliceBuffer(body)}, m, err).Err()
		}
		return nil
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil // an empty message
	}
	if err := s.codec.Unmarshal(body, m); err != nil {
		r.fault = newStatus(codes.InvalidArgument, "", nil, "%s", err).Err()
	}
	return nil
}

func (s *Server) encodeBody(codec frame.Codec, m proto.Message) ([]byte, error) {
	if codec == frame.JSON {
		return s.codec.Marshal(m)
	}
	return proto.Marshal(m)
}

func checkRequestID(id string) *status.Status {
	if len(id) > maxRequestID {
		return newStatus(codes.InvalidArgument, "", nil, "request_id is longer than %d bytes", maxRequestID)
	}
	return nil
}

// headersOf returns the metadata of a request: the connection's, and what the
// envelope may add to it.
func headersOf(o origin, e *edgev1.Envelope) (metadata.MD, *status.Status) {
	md := o.header.Copy()
	if md == nil {
		md = metadata.MD{}
	}
	for name, value := range e.GetHeaders() {
		key, ok := forwarded[http.CanonicalHeaderKey(name)]
		switch {
		case !ok:
			return nil, newStatus(codes.InvalidArgument, "", nil, "the header %q cannot be set by an envelope", name)
		case key == IdempotencyKey:
			return nil, newStatus(codes.InvalidArgument, "", nil, "the header %q is the field idempotency_key of an envelope", name)
		case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
			return nil, newStatus(codes.InvalidArgument, "", nil, "the header %q is not printable ASCII", name)
		}
		md.Set(key, value)
	}
	if key := e.GetIdempotencyKey(); key != "" {
		md.Set(IdempotencyKey, key)
	}
	return md, nil
}

func timeoutOf(d *durationpb.Duration, missing time.Duration) (time.Duration, *status.Status) {
	if d == nil {
		return missing, nil
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() <= 0 {
		return 0, newStatus(codes.InvalidArgument, "", nil, "timeout is not valid; it is more than 0")
	}
	return min(d.AsDuration(), longestTimeout), nil
}

func failed(id string, st *status.Status) *edgev1.Answer {
	st = complete(st)
	return &edgev1.Answer{RequestId: id, Outcome: &edgev1.Answer_Error{Error: st.Proto()}}
}

// headerStream collects what a method tells its client beside the answer.
type headerStream struct {
	method string

	mu     sync.Mutex
	header metadata.MD
}

var _ grpc.ServerTransportStream = (*headerStream)(nil)

// Method implements grpc.ServerTransportStream.
func (h *headerStream) Method() string { return h.method }

// SetHeader implements grpc.ServerTransportStream.
func (h *headerStream) SetHeader(md metadata.MD) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.header = metadata.Join(h.header, md)
	return nil
}

// SendHeader implements grpc.ServerTransportStream.
func (h *headerStream) SendHeader(md metadata.MD) error { return h.SetHeader(md) }

// SetTrailer implements grpc.ServerTransportStream.
func (h *headerStream) SetTrailer(metadata.MD) error { return nil }

// told returns what clients may know, or nil.
func (h *headerStream) told() (out map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, name := range returned {
		if v := h.header.Get(key); len(v) > 0 {
			if out == nil {
				out = map[string]string{}
			}
			out[strings.ToLower(name)] = v[0]
		}
	}
	return out
}
