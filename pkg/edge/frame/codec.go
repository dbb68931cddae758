package frame

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// Subprotocols of a WebSocket.
const (
	SubprotocolJSON  = "rkcy.edge.v1.json"
	SubprotocolProto = "rkcy.edge.v1.proto"
)

// Codec is an encoding of frames. The zero value is Proto.
type Codec int

// The encodings.
const (
	Proto Codec = iota
	JSON
)

// Of returns the encoding that a subprotocol stands for.
func Of(subprotocol string) (Codec, bool) {
	switch subprotocol {
	case SubprotocolJSON:
		return JSON, true
	case SubprotocolProto:
		return Proto, true
	default:
		return 0, false
	}
}

// String returns the name of the subprotocol.
func (c Codec) String() string {
	if c == JSON {
		return SubprotocolJSON
	}
	return SubprotocolProto
}

// Batch reads a batch.
func (c Codec) Batch(data []byte) (*edgev1.BatchRequest, error) {
	out := &edgev1.BatchRequest{}
	if c == JSON {
		return out, batchFromJSON(data, out)
	}
	return out, fromProto(data, out)
}

// Client reads what a client sent. With an error the frame has no more than the
// request id of what could not be read, where there is one to be found.
func (c Codec) Client(data []byte) (*edgev1.ClientFrame, error) {
	out := &edgev1.ClientFrame{}
	read := fromProto
	if c == JSON {
		read = func(data []byte, _ proto.Message) error { return clientFromJSON(data, out) }
	}
	if err := read(data, out); err != nil {
		id := RequestID(out)
		if c == JSON && id == "" {
			id = idInJSON(data)
		}
		return &edgev1.ClientFrame{Kind: &edgev1.ClientFrame_Cancel{Cancel: &edgev1.Cancel{RequestId: id}}}, err
	}
	return out, nil
}

// RequestID returns the id of what is in a frame.
func RequestID(f *edgev1.ClientFrame) string {
	switch kind := f.GetKind().(type) {
	case *edgev1.ClientFrame_Request:
		return kind.Request.GetRequestId()
	case *edgev1.ClientFrame_Batch:
		return kind.Batch.GetRequestId()
	case *edgev1.ClientFrame_Cancel:
		return kind.Cancel.GetRequestId()
	default:
		return ""
	}
}

// Server reads what a server sent. It is for clients: fields that are newer than
// this program are passed over.
func (c Codec) Server(data []byte) (*edgev1.ServerFrame, error) {
	out := &edgev1.ServerFrame{}
	if c == JSON {
		return out, serverFromJSON(data, out)
	}
	return out, proto.Unmarshal(data, out)
}

// Marshal writes a ClientFrame, a ServerFrame, or what is in them. Bodies must
// be in the same encoding.
func (c Codec) Marshal(m proto.Message) ([]byte, error) {
	if c == JSON {
		return toJSON(m)
	}
	return proto.Marshal(m)
}

func fromProto(data []byte, m proto.Message) error {
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Errorf("not a valid %s", m.ProtoReflect().Descriptor().FullName())
	}
	return nil
}
