package edge

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
)

// codec is gRPC's own, except that a request which cannot be decoded is the
// client's fault, not an internal error. gRPC answers for itself when a codec
// fails, so the codec must not: the failure is left in the request.
type codec struct{ encoding.CodecV2 }

// request is what our registrar asks gRPC to decode into.
type request struct {
	target any
	fault  error
}

func newCodec() codec { return codec{encoding.GetCodecV2(protocodec.Name)} }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ours := v.(*request)
	if !ours {
		return c.CodecV2.Unmarshal(data, v)
	}
	if err := c.CodecV2.Unmarshal(data, r.target); err != nil {
		r.fault = explain(data, r.target, err).Err()
	}
	return nil
}

func explain(data mem.BufferSlice, v any, err error) *status.Status {
	m, ok := v.(proto.Message)
	if !ok {
		return newStatus(codes.InvalidArgument, "", nil, "the request cannot be decoded: %v", err)
	}
	// The fast decoder of generated messages does not say where it failed; the
	// reflective one does.
	if slow := proto.Unmarshal(data.Materialize(), dynamicpb.NewMessage(m.ProtoReflect().Descriptor())); slow != nil {
		err = slow
	}
	return newStatus(codes.InvalidArgument, "", nil, "not a valid %s: %s", m.ProtoReflect().Descriptor().FullName(), tidy(err.Error()))
}

// decoding makes a decode function tell the client's faults from ours.
func decoding(decode func(any) error) func(any) error {
	return func(v any) error {
		r := &request{target: v}
		if err := decode(r); err != nil {
			return err
		}
		return r.fault
	}
}
