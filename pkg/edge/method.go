package edge

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// ReasonInternal is the reason in the google.rpc.ErrorInfo of a method that is
// marked internal.
const ReasonInternal = "INTERNAL_METHOD"

// method is one that envelopes can name.
type method struct {
	impl    any
	handler grpc.MethodHandler // the server's own handling is around it; nil: a stream
	// internal: the handler refuses, and nobody is told the name.
	internal bool
}

// methodTable has every method that was registered, by full name with a slash
// before it. It is complete when New returns, and never changes after that.
type methodTable map[string]method

func (t methodTable) add(desc *grpc.ServiceDesc, impl any, internal map[string]bool) {
	for _, m := range desc.Methods {
		t[fullName(desc, m.MethodName)] = method{impl, m.Handler, internal[m.MethodName]}
	}
	for _, m := range desc.Streams {
		t[fullName(desc, m.StreamName)] = method{internal: internal[m.StreamName]}
	}
}

func fullName(desc *grpc.ServiceDesc, name string) string { return "/" + desc.ServiceName + "/" + name }

// find returns the method of an envelope.
func (t methodTable) find(name string) (method, *status.Status) {
	name = "/" + strings.TrimPrefix(name, "/")
	if name == edgev1.BatchService_Batch_FullMethodName {
		return method{}, newStatus(codes.InvalidArgument, "", nil, "a batch cannot be an item of a batch, or a request of a frame")
	}
	m, ok := t[name]
	switch {
	case !ok:
		return m, t.unknown(name)
	case m.handler == nil && m.internal:
		return m, internalStatus(name)
	case m.handler == nil:
		return m, newStatus(codes.Unimplemented, "", nil, "%s is a stream, which an envelope cannot carry; call it on gRPC", name[1:])
	}
	return m, nil
}

// unknown is the answer to a method that nobody registered.
func (t methodTable) unknown(name string) *status.Status {
	name = strings.TrimPrefix(name, "/")
	const longest = 200 // of a name that may be a slip
	switch {
	case name == "":
		return newStatus(codes.InvalidArgument, "", nil, "no method is named")
	case len(name) > longest:
		return newStatus(codes.Unimplemented, "", nil, "a name of %d bytes is not a method of this edge", len(name))
	}
	var names []string
	for _, n := range slices.Sorted(maps.Keys(t)) {
		if !t[n].internal {
			names = append(names, n[1:])
		}
	}
	return newStatus(codes.Unimplemented, "", nil, "%q is not a method of this edge%s", name, suggest.Hint(name, names))
}

// refuseUnknown answers gRPC calls of methods that nobody registered.
func (s *Server) refuseUnknown(_ any, stream grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(stream)
	return s.methods.unknown(name).Err()
}

// internalMethods returns which methods of a service are not for clients. A
// service without a descriptor could not say so, and is a fault.
func internalMethods(desc *grpc.ServiceDesc) (map[string]bool, error) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(desc.ServiceName))
	if err != nil {
		return nil, fmt.Errorf("service %s: its .proto file is not known to this program: %w", desc.ServiceName, err)
	}
	service, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is not a service", desc.ServiceName)
	}
	out := map[string]bool{}
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		options, _ := proto.GetExtension(m.Options(), edgev1.E_Method).(*edgev1.MethodOptions)
		out[string(m.Name())] = options.GetInternal()
	}
	return out, nil
}

// refuseInternal is what is called instead of an internal method.
func refuseInternal(method string) func(context.Context) (any, error) {
	return func(context.Context) (any, error) { return nil, internalStatus(method).Err() }
}

func internalStatus(method string) *status.Status {
	return newStatus(codes.PermissionDenied, ReasonInternal, nil, "%s is for the inside of the platform; no client may call it", method[1:])
}
