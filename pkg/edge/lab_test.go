package edge_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rocketcycle/rocketcycle/pkg/edge"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// lab has what the rpg's service lacks: methods that are internal, and streams.
const lab = `
syntax = "proto3";
package lab.edge.v1;
import "google/protobuf/wrappers.proto";
import "rkcy/edge/v1/options.proto";
service Lab {
  rpc Echo(google.protobuf.StringValue) returns (google.protobuf.StringValue);
  rpc Secret(google.protobuf.StringValue) returns (google.protobuf.StringValue) { option (rkcy.edge.v1.method).internal = true; }
  rpc Watch(google.protobuf.StringValue) returns (stream google.protobuf.StringValue);
  rpc SecretWatch(google.protobuf.StringValue) returns (stream google.protobuf.StringValue) { option (rkcy.edge.v1.method).internal = true; }
}
`

// registerLab makes the descriptor known, as generated code does when it is
// linked in.
var registerLab = sync.OnceValue(func() error {
	compiler := protocompile.Compiler{Resolver: protocompile.CompositeResolver{
		&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"lab/edge/v1/lab.proto": lab})},
		protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
			desc, err := protoregistry.GlobalFiles.FindFileByPath(path)
			return protocompile.SearchResult{Desc: desc}, err
		}),
	}}
	files, err := compiler.Compile(context.Background(), "lab/edge/v1/lab.proto")
	if err != nil {
		return err
	}
	raw, err := proto.Marshal(protodesc.ToFileDescriptorProto(files[0]))
	if err != nil {
		return err
	}
	file := &descriptorpb.FileDescriptorProto{}
	if err := proto.Unmarshal(raw, file); err != nil {
		return err
	}
	fd, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		return err
	}
	return protoregistry.GlobalFiles.RegisterFile(fd)
})

// labCalls is an implementation that counts what it is asked.
type labCalls struct {
	mu    sync.Mutex
	calls map[string]int
}

func (l *labCalls) called(method string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls = map[string]int{}
	}
	l.calls[method]++
}

func (l *labCalls) count(method string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[method]
}

// service is the lab with a gateway that has a path for every method, POST
// /v1/lab/{method}.
func (l *labCalls) service(t testing.TB) edge.Service {
	t.Helper()
	if err := registerLab(); err != nil {
		t.Fatal(err)
	}
	unary := func(name string) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := &wrapperspb.StringValue{}
			if err := decode(in); err != nil {
				return nil, err
			}
			l.called(name)
			return in, nil
		}}
	}
	streams := func(name string) grpc.StreamDesc {
		return grpc.StreamDesc{StreamName: name, ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			in := &wrapperspb.StringValue{}
			if err := stream.RecvMsg(in); err != nil {
				return err
			}
			l.called(name)
			return stream.SendMsg(in)
		}}
	}
	desc := &grpc.ServiceDesc{
		ServiceName: "lab.edge.v1.Lab",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{unary("Echo"), unary("Secret")},
		Streams:     []grpc.StreamDesc{streams("Watch"), streams("SecretWatch")},
		Metadata:    "lab/edge/v1/lab.proto",
	}
	return edge.Service{
		Register: func(r grpc.ServiceRegistrar) { r.RegisterService(desc, l) },
		Gateway: func(_ context.Context, mux *runtime.ServeMux, conn *grpc.ClientConn) error {
			return mux.HandlePath(http.MethodPost, "/v1/lab/{method}", func(w http.ResponseWriter, r *http.Request, path map[string]string) {
				_, marshaler := runtime.MarshalerForRequest(mux, r)
				ctx, err := runtime.AnnotateContext(r.Context(), mux, r, "/lab.edge.v1.Lab/"+path["method"])
				out := &wrapperspb.StringValue{}
				if err == nil {
					err = conn.Invoke(ctx, "/lab.edge.v1.Lab/"+path["method"], wrapperspb.String("x"), out)
				}
				if err != nil {
					runtime.HTTPError(r.Context(), mux, marshaler, w, r, err)
					return
				}
				runtime.ForwardResponseMessage(r.Context(), mux, marshaler, w, r, out)
			})
		},
	}
}

// A service whose .proto file is not linked in could not mark a method.
func TestServiceWithoutDescriptor(t *testing.T) {
	desc := &grpc.ServiceDesc{ServiceName: "no.such.Service", HandlerType: (*any)(nil)}
	_, err := edge.New(edge.Config{}, edge.Service{Register: func(r grpc.ServiceRegistrar) { r.RegisterService(desc, 0) }})
	if err == nil {
		t.Error("accepted")
	}
}

// The option is what the tests believe it to be.
func TestLabMarksItsMethods(t *testing.T) {
	if err := registerLab(); err != nil {
		t.Fatal(err)
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName("lab.edge.v1.Lab")
	if err != nil {
		t.Fatal(err)
	}
	methods := d.(protoreflect.ServiceDescriptor).Methods()
	for name, want := range map[protoreflect.Name]bool{"Echo": false, "Secret": true, "Watch": false, "SecretWatch": true} {
		if o := proto.GetExtension(methods.ByName(name).Options(), edgev1.E_Method).(*edgev1.MethodOptions); o.GetInternal() != want {
			t.Errorf("%s: internal is %v", name, o.GetInternal())
		}
	}
}
