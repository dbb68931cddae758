package edgecmd_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lab has what the rpg's service lacks.
const lab = `
syntax = "proto3";
package lab.v1;
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

enum Color { COLOR_UNSPECIFIED = 0; RED = 1; GREEN = 2; }
message Point { int32 x = 1; int32 y = 2; }
message Node { string name = 1; Node next = 2; }
message Thing {
  string id = 1;
  Color color = 2;
  repeated string tags = 3;
  repeated Point points = 4;
  map<string, string> labels = 5;
  map<int32, Point> spots = 6;
  double ratio = 7;
  float small = 8;
  bytes raw = 9;
  uint64 big = 10;
  bool on = 11;
  oneof choice { string left = 12; int32 right = 13; }
  google.protobuf.Timestamp at = 14;
  google.protobuf.Duration lasts = 15;
  google.protobuf.StringValue note = 16;
  optional int32 maybe = 17;
  Point place = 18;
  uint32 count = 19;
  repeated Color colors = 20;
}
message MakeThingRequest { Thing thing = 1; google.protobuf.FieldMask update_mask = 2; }
message NoFields {}
service Lab {
  rpc MakeThing(MakeThingRequest) returns (Thing);
  rpc Make(Node) returns (Node);
  rpc Ping(NoFields) returns (NoFields);
  rpc Watch(NoFields) returns (stream Thing);
}
`

func labService(t testing.TB) protoreflect.ServiceDescriptor {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"lab.proto": lab}),
	})}
	files, err := c.Compile(t.Context(), "lab.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0].Services().ByName("Lab")
}

func rpg() protoreflect.ServiceDescriptor {
	return rpgv1.File_rpg_v1_edge_proto.Services().ByName("RpgService")
}

// server answers every method of a service over a real connection and
// remembers what it was asked.
type server struct {
	addr   string
	answer func(method string, in proto.Message) (proto.Message, error)

	mu     sync.Mutex
	method string
	asked  string // the request as JSON, "" if none came
	header metadata.MD
}

func serve(t testing.TB, service protoreflect.ServiceDescriptor) *server {
	t.Helper()
	s := &server{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = listener.Addr().String()
	g := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		full, _ := grpc.MethodFromServerStream(stream)
		m := service.Methods().ByName(protoreflect.Name(full[strings.LastIndex(full, "/")+1:]))
		in := dynamicpb.NewMessage(m.Input())
		if err := stream.RecvMsg(in); err != nil {
			return err
		}
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(in)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.method, s.asked = full, strings.ReplaceAll(string(raw), " ", "")
		s.header, _ = metadata.FromIncomingContext(stream.Context())
		s.mu.Unlock()
		var out proto.Message = dynamicpb.NewMessage(m.Output())
		if s.answer != nil {
			if out, err = s.answer(string(m.Name()), in); err != nil {
				return err
			}
		}
		return stream.SendMsg(out)
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(listener)
	}()
	t.Cleanup(func() {
		g.Stop()
		<-done
	})
	return s
}

func (s *server) last() (method, asked string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	method, asked = s.method, s.asked
	s.method, s.asked = "", ""
	return method, asked
}

// outcome is what a user sees of a command.
type outcome struct {
	code     int
	out, err string
}

// command runs a program called my-app.
func command(ctx context.Context, service protoreflect.ServiceDescriptor, env map[string]string, args ...string) outcome {
	root := &cobra.Command{Use: "my-app", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(edgecmd.New(edgecmd.Config{App: "my-app", Service: service, Getenv: func(k string) string { return env[k] },
		Examples: map[string]string{"CreatePlayer": "username=brock01"}, OpenAPI: []byte(`{"paths":{"/x":{"post":{"operationId":"RpgService_CreatePlayer","summary":"Creates a player."}}}}`)}))
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	o := outcome{code: edgecmd.CodeOf(err), out: out.String()}
	if err != nil {
		o.err = err.Error()
	}
	return o
}

// run runs a command against the server.
func (s *server) run(t testing.TB, service protoreflect.ServiceDescriptor, args ...string) outcome {
	t.Helper()
	return command(t.Context(), service, map[string]string{"MY_APP_EDGE": s.addr}, append([]string{"edge"}, args...)...)
}

func protoName(s string) protoreflect.Name { return protoreflect.Name(s) }
