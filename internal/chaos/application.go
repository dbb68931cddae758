package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing/fstest"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// The Concerns. Amounts move from left to right and back.
const (
	left    = "left"
	right   = "right"
	list    = "list"
	counter = "counter"
)

var concerns = [...]string{left, right, list, counter}

// The commands.
const (
	commandEnter = "Enter" // adds an entry; refused if it makes an account negative
	commandLook  = "Look"  // returns all entries
	commandPanic = "Panic"
	commandBlock = "Block"
	commandHuge  = "Huge" // returns more than a record may have
)

// purse is the first entry of every account.
const purse = 1000

// instance is what every Concern has: a message that happens to have a key and
// a list of texts. These are entries: operation, colon, amount.
type instance = rkcyv1.UpdatePayload

func newInstance() *instance    { return &instance{} }
func newMessage() proto.Message { return newInstance() }

// entry is one change of an instance by an operation.
type entry struct{ op, amount int64 }

func (e entry) String() string {
	return strconv.FormatInt(e.op, 10) + ":" + strconv.FormatInt(e.amount, 10)
}

// entries decodes an instance, and adds up what it has.
func entries(m *instance) (list []entry, sum int64, err error) {
	for _, text := range m.GetPaths() {
		op, amount, _ := strings.Cut(text, ":")
		var e entry
		if e.op, err = strconv.ParseInt(op, 10, 64); err == nil {
			e.amount, err = strconv.ParseInt(amount, 10, 64)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("entry %q: %w", text, err)
		}
		list, sum = append(list, e), sum+e.amount
	}
	return list, sum, nil
}

func definition(name string) concern.Definition {
	command := func(name string, readOnly bool, run func(at, in *instance) (*instance, error)) concern.Command {
		return concern.Command{
			Name: name, ReadOnly: readOnly, NewPayload: newMessage, NewResult: newMessage,
			Run: func(_ concern.Context, at, in proto.Message) (proto.Message, error) {
				return run(at.(*instance), in.(*instance))
			},
		}
	}
	return concern.Definition{
		Name: name, New: newMessage, KeyOf: func(m proto.Message) string { return string(m.(*instance).GetValue()) },
		Commands: []concern.Command{
			command(commandEnter, false, func(at, in *instance) (*instance, error) {
				next := &instance{Paths: append(at.GetPaths(), in.GetPaths()...)}
				_, sum, err := entries(next)
				if err != nil {
					return nil, txn.Errorf(txn.CodeInvalidArgument, "%w", err)
				}
				if sum < 0 {
					return nil, txn.Errorf(txn.CodeFailedPrecondition, "%s would have %d", at.GetValue(), sum)
				}
				at.Paths = next.Paths
				return &instance{}, nil
			}),
			command(commandLook, true, func(at, _ *instance) (*instance, error) {
				return &instance{Paths: at.GetPaths()}, nil
			}),
			command(commandPanic, false, func(*instance, *instance) (*instance, error) { panic("on purpose") }),
			command(commandBlock, false, func(*instance, *instance) (*instance, error) { select {} }),
			command(commandHuge, false, func(*instance, *instance) (*instance, error) {
				return &instance{Value: make([]byte, 5<<20)}, nil
			}),
		},
	}
}

// step is one step of a request.
type step struct {
	Concern string `json:"concern"`
	Key     string `json:"key"`
	// Command is one of ours, or txn.CommandCreate.
	Command string `json:"command"`
	// Entry is what Enter adds and Create begins with.
	Entry string `json:"entry,omitempty"`
}

func (s step) typed() txn.TypedStep[*instance] {
	access := rkcyv1.Access_ACCESS_WRITE
	if s.Command == commandLook {
		access = rkcyv1.Access_ACCESS_READ
	}
	payload := newInstance()
	if s.Command == txn.CommandCreate {
		payload.Value = []byte(s.Key)
	}
	if s.Entry != "" {
		payload.Paths = []string{s.Entry}
	}
	return txn.NewStep(s.Concern, s.Key, s.Command, access, proto.Message(payload), newInstance)
}

// service is the edge of the application: one method that runs any steps. A
// request is the JSON of a []step, an answer that of a [][]string, the entries
// that each step returned.
type service struct{ runner txn.Runner }

const (
	serviceName = "rkcy.chaos.Ledger"
	method      = "/" + serviceName + "/Run"
	protoFile   = "rkcy/chaos/ledger.proto"
)

func (s service) run(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	var steps []step
	if err := json.Unmarshal(in.GetValue(), &steps); err != nil {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "%w", err)
	}
	b := txn.New()
	handles := make([]*txn.Handle[*instance], len(steps))
	for i, s := range steps {
		handles[i] = txn.Add(b, s.typed())
	}
	result, err := s.runner.Run(ctx, b)
	if err != nil {
		return nil, err
	}
	answer := make([][]string, len(steps))
	for i, h := range handles {
		m, err := h.Result(result)
		if err != nil {
			return nil, err
		}
		answer[i] = m.GetPaths()
	}
	out, err := json.Marshal(answer)
	return wrapperspb.Bytes(out), err
}

// describe makes the service known to the process, as generated code would.
func describe() error {
	bytesValue := proto.String(".google.protobuf.BytesValue")
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String(protoFile), Package: proto.String("rkcy.chaos"), Syntax: proto.String("proto3"),
		Dependency: []string{"google/protobuf/wrappers.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name:   proto.String("Ledger"),
			Method: []*descriptorpb.MethodDescriptorProto{{Name: proto.String("Run"), InputType: bytesValue, OutputType: bytesValue}},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return err
	}
	return protoregistry.GlobalFiles.RegisterFile(file)
}

func services(runner txn.Runner) []edge.Service {
	desc := grpc.ServiceDesc{ServiceName: serviceName, HandlerType: (*any)(nil), Metadata: protoFile, Methods: []grpc.MethodDesc{{
		MethodName: "Run",
		Handler: func(srv any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
			in := &wrapperspb.BytesValue{}
			if err := decode(in); err != nil {
				return nil, err
			}
			call := func(ctx context.Context, in any) (any, error) {
				return srv.(service).run(ctx, in.(*wrapperspb.BytesValue))
			}
			if chain == nil {
				return call(ctx, in)
			}
			return chain(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: method}, call)
		},
	}}}
	return []edge.Service{{Register: func(r grpc.ServiceRegistrar) { r.RegisterService(&desc, service{runner}) }}}
}

func table(concern string) string { return "chaos_" + concern }

func mapping(name string) storage.Mapping {
	return storage.Mapping{
		Concern: name, Table: table(name), New: newMessage,
		Columns: []storage.Column{{Name: "id", Type: "text", Key: true}, {Name: "entries", Type: "text", NotNull: true}},
		Encode: func(m proto.Message) ([]any, error) {
			i := m.(*instance)
			return []any{string(i.GetValue()), strings.Join(i.GetPaths(), " ")}, nil
		},
		Decode: func(v []any) (proto.Message, error) {
			id, _ := v[0].(string)
			text, ok := v[1].(string)
			if !ok {
				return nil, fmt.Errorf("entries are a %T", v[1])
			}
			return &instance{Value: []byte(id), Paths: strings.Fields(text)}, nil
		},
	}
}

func application() node.Application {
	sql := "-- +goose Up\n"
	app := node.Application{Name: "chaos", Services: services}
	for _, c := range concerns {
		app.Concerns = append(app.Concerns, node.Concern{Definition: definition(c), Mapping: mapping(c)})
		sql += fmt.Sprintf("CREATE TABLE %s (id text PRIMARY KEY, entries text NOT NULL, rkcy_version bigint NOT NULL, rkcy_time timestamptz NOT NULL);\n", table(c))
	}
	app.Migrations = fstest.MapFS{"00001_tables.sql": &fstest.MapFile{Data: []byte(sql)}}
	return app
}
