package edge

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Services returns what an edge of the game serves.
func Services(runner txn.Runner) []edge.Service {
	return []edge.Service{{
		Register: func(r grpc.ServiceRegistrar) { rpgv1.RegisterRpgServiceServer(r, &service{runner: runner}) },
		Gateway:  rpgv1.RegisterRpgServiceHandler,
		OpenAPI:  rpgv1.OpenAPI,
	}}
}

// service implements rpgv1.RpgServiceServer. It is safe for concurrent use.
type service struct {
	rpgv1.UnimplementedRpgServiceServer
	runner txn.Runner
}

// one runs a transaction of a single step and returns its result.
func one[R proto.Message](ctx context.Context, s *service, step txn.TypedStep[R]) (none R, err error) {
	b := txn.New()
	h := txn.Add(b, step)
	result, err := s.runner.Run(ctx, b)
	if err != nil {
		return none, err
	}
	return h.Result(result)
}

// need refuses a request that lacks a field.
func need(field, value string) error {
	if value == "" {
		return txn.Errorf(txn.CodeInvalidArgument, "%s is missing", field).With(txn.DetailField, field)
	}
	return nil
}

// paths returns what an update changes: what the mask names, else every field
// that is set, but never the key.
func paths(in proto.Message, mask *fieldmaskpb.FieldMask) ([]string, error) {
	out := mask.GetPaths()
	if len(out) == 0 {
		in.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			if fd.Name() != "id" {
				out = append(out, string(fd.Name()))
			}
			return true
		})
	}
	for _, p := range out {
		if p == "id" {
			return nil, txn.Errorf(txn.CodeInvalidArgument, "the id cannot be changed").With(txn.DetailField, "update_mask")
		}
	}
	if len(out) == 0 {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "there is nothing to change: the request sets no field").With(txn.DetailField, "update_mask")
	}
	return out, nil
}
