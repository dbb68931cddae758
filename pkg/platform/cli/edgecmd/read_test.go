package edgecmd_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// reader answers reads of instances; one that is called "late" cannot be read.
type reader struct {
	edgev1.UnimplementedReadServiceServer
	asked *edgev1.ReadRequest
}

func (r *reader) Read(_ context.Context, in *edgev1.ReadRequest) (*edgev1.ReadResponse, error) {
	r.asked = in
	a := &edgev1.ReadAnswer{Key: in.GetKeys()[0]}
	switch a.GetKey() {
	case "late":
		a.Error = txn.Errorf(txn.CodeDeadlineExceeded, "not applied in time").ToProto()
	case "c1":
		var err error
		if a.Instance, err = anypb.New(&rpgv1.Character{Id: "c1", Fullname: "Brock"}); err != nil {
			return nil, err
		}
	}
	return &edgev1.ReadResponse{Answers: []*edgev1.ReadAnswer{a}}, nil
}

func TestReadWithConsistency(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, g, done := &reader{}, grpc.NewServer(), make(chan struct{})
	edgev1.RegisterReadServiceServer(g, r)
	go func() {
		defer close(done)
		_ = g.Serve(listener)
	}()
	t.Cleanup(func() { g.Stop(); <-done })
	run := func(args ...string) outcome {
		return command(t.Context(), rpg(), map[string]string{"MY_APP_EDGE": listener.Addr().String()}, append([]string{"edge", "read", "character"}, args...)...)
	}
	got := run("id=c1", "--consistency", "session", "--after", "one", "--after", "two")
	if got.code != 0 || !strings.Contains(got.out, "Brock") {
		t.Errorf("%+v", got)
	}
	if in := r.asked; in.GetConcern() != "character" || in.GetConsistency() != edgev1.Consistency_CONSISTENCY_SESSION || strings.Join(in.GetAfter(), " ") != "one two" {
		t.Errorf("asked for %v", in)
	}
	if got := run("id=c1", "--consistency", "eventual", "--json"); got.code != 0 || !strings.Contains(got.out, `"fullname"`) {
		t.Errorf("JSON: %+v", got)
	}
	for want, list := range map[int][][]string{
		edgecmd.ExitUsage: {
			{"id=c1", "--consistency", "sesion"}, {"id=c1", "--after", "one"}, {"id=c1", "--consistency", "eventual", "--after", "one"},
		},
		edgecmd.ExitRefused:     {{"id=nobody", "--consistency", "eventual"}},
		edgecmd.ExitUnavailable: {{"id=late", "--consistency", "session"}},
	} {
		for _, args := range list {
			if got := run(args...); got.code != want || got.err == "" {
				t.Errorf("%v: %+v, want code %d", args, got, want)
			}
		}
	}
	if got := run("id=c1", "--consistency", "sesion"); !strings.Contains(got.err, "session") {
		t.Errorf("no hint: %+v", got)
	}
}
