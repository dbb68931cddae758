package node

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// readsAtOnce is how many reads of one call are in the log at once.
const readsAtOnce = 16

// reads implements edgev1.ReadServiceServer: from the processor of this node
// where it owns the instance and the caller does with less than a step through the
// log, else by such a step, which gives more than any caller can ask for.
type reads struct {
	edgev1.UnimplementedReadServiceServer
	// types are the full names of messages, by Concern.
	types      map[string]string
	runner     txn.Runner
	processors *processors
}

func newReads(app Application, runner txn.Runner, p *processors) *reads {
	r := &reads{types: map[string]string{}, runner: runner, processors: p}
	for _, c := range app.AllConcerns() {
		r.types[c.Definition.Name] = string(c.Definition.New().ProtoReflect().Descriptor().FullName())
	}
	return r
}

func (r *reads) service() edge.Service {
	return edge.Service{
		Register: func(s grpc.ServiceRegistrar) { edgev1.RegisterReadServiceServer(s, r) },
		Gateway:  edgev1.RegisterReadServiceHandler,
		OpenAPI:  edgev1.ReadOpenAPI,
	}
}

// Read implements edgev1.ReadServiceServer.
func (r *reads) Read(ctx context.Context, in *edgev1.ReadRequest) (*edgev1.ReadResponse, error) {
	session := in.GetConsistency() == edgev1.Consistency_CONSISTENCY_SESSION
	read := concern.Read{Concern: in.GetConcern(), Keys: in.GetKeys(), Session: session}
	switch {
	case r.types[in.GetConcern()] == "":
		return nil, txn.Errorf(txn.CodeUnimplemented, "there is no Concern %q", in.GetConcern())
	case len(in.GetKeys()) == 0 || len(in.GetKeys()) > concern.MaxReadKeys:
		return nil, txn.Errorf(txn.CodeInvalidArgument, "a read of %d keys; it is 1 to %d", len(in.GetKeys()), concern.MaxReadKeys)
	case edgev1.Consistency_name[int32(in.GetConsistency())] == "":
		return nil, txn.Errorf(txn.CodeInvalidArgument, "consistency %d is not known", in.GetConsistency())
	case len(in.GetAfter()) > 0 && !session:
		return nil, txn.Errorf(txn.CodeInvalidArgument, "after is for reads of consistency SESSION")
	case len(in.GetAfter()) > concern.MaxSession:
		return nil, txn.Errorf(txn.CodeInvalidArgument, "after names %d transactions; at most %d are allowed", len(in.GetAfter()), concern.MaxSession)
	}
	for _, text := range in.GetAfter() {
		id, err := txn.ParseID(text)
		if err != nil {
			return nil, txn.Errorf(txn.CodeInvalidArgument, "after: %w", err)
		}
		read.After = append(read.After, id)
	}
	out := &edgev1.ReadResponse{Answers: make([]*edgev1.ReadAnswer, len(in.GetKeys()))}
	for i, key := range in.GetKeys() {
		out.Answers[i] = &edgev1.ReadAnswer{Key: key, ThroughLog: true}
	}
	if session || in.GetConsistency() == edgev1.Consistency_CONSISTENCY_EVENTUAL {
		if err := r.direct(ctx, read, out); err != nil {
			return nil, err
		}
	}
	return out, r.throughLog(ctx, in.GetConcern(), out)
}

// direct answers what the processor of this node owns.
func (r *reads) direct(ctx context.Context, read concern.Read, out *edgev1.ReadResponse) error {
	p := r.processors.get()
	if p == nil || !p.Serves(read.Concern) {
		return nil
	}
	found, err := p.Read(ctx, read)
	if err != nil {
		return err
	}
	for i, f := range found {
		if e := txn.AsError(f.Err); f.Err != nil && e.Details[concern.DetailNotOwner] == "true" {
			continue
		}
		out.Answers[i].ThroughLog = false
		r.fill(out.Answers[i], read.Concern, f)
	}
	return nil
}

// throughLog answers the rest by reads through the log, each a transaction.
func (r *reads) throughLog(ctx context.Context, of string, out *edgev1.ReadResponse) error {
	var g errgroup.Group
	g.SetLimit(readsAtOnce)
	for _, a := range out.Answers {
		if !a.GetThroughLog() {
			continue
		}
		g.Go(func() error {
			b := txn.New()
			b.AddStep(txn.Step{
				Concern: of, Key: a.GetKey(), Command: txn.CommandRead, Access: rkcyv1.Access_ACCESS_READ, Payload: &rkcyv1.Empty{},
			})
			f := concern.Found{}
			result, err := r.runner.Run(ctx, b)
			switch {
			case err == nil:
				f.Instance = &rkcyv1.Instance{Value: result.Raw(0), Version: result.Version(0)}
			case txn.CodeOf(err) == txn.CodeNotFound:
			default:
				f.Err = fmt.Errorf("read: %w", err)
			}
			r.fill(a, of, f)
			return nil
		})
	}
	return g.Wait()
}

func (r *reads) fill(a *edgev1.ReadAnswer, of string, f concern.Found) {
	switch {
	case f.Err != nil:
		a.Error = txn.AsError(f.Err).ToProto()
	case f.Instance.GetVersion() > 0:
		a.Version = f.Instance.GetVersion()
		a.Instance = &anypb.Any{TypeUrl: "type.googleapis.com/" + r.types[of], Value: f.Instance.GetValue()}
	}
}
