package cli_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/examples/rpg/db"
	"github.com/rocketcycle/rocketcycle/examples/rpg/edge"
	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/examples/rpg/store"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// app is the application whose command line is tested.
func app() node.Application {
	return node.Application{
		Name: "game",
		Concerns: []node.Concern{
			{Definition: rpgv1.NewPlayer(logic.Player{}), Mapping: rpgv1.PlayerMapping()},
			{Definition: rpgv1.NewCharacter(logic.Character{}), Mapping: store.CharacterMapping()},
		},
		Services:   edge.Services,
		Service:    rpgv1.File_rpg_v1_edge_proto.Services().ByName("RpgService"),
		OpenAPI:    rpgv1.OpenAPI,
		Examples:   map[string]string{"CreatePlayer": "username=brock01"},
		Migrations: db.Migrations(),
	}
}

// quotas is an application with config Concerns, whose instances are borrowed
// from the platform.
func quotas(name string, concerns ...string) node.Application {
	a := app()
	a.Name = name
	for _, c := range concerns {
		a.ConfigConcerns = append(a.ConfigConcerns, concern.ConfigDefinition{
			Name: c, New: func() proto.Message { return new(rkcyv1.ConcernConfig) },
			KeyOf: func(m proto.Message) string { return m.(*rkcyv1.ConcernConfig).GetName() },
			Validate: func(m proto.Message) error {
				if n := m.(*rkcyv1.ConcernConfig).GetPartitions(); n < 0 {
					return txn.Errorf(txn.CodeInvalidArgument, "partitions is %d; a quota is at least 0", n)
				}
				return nil
			},
		})
	}
	return a
}

type tests struct{ *testing.M }

// Run implements testscript.TestingM.
func (t tests) Run() int { return devpostgres.Main(t.M) }

func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){
		"game":   func() { os.Exit(cli.Main(app())) },
		"quotas": func() { os.Exit(cli.Main(quotas("quotas", "quota"))) },
		"twins":  func() { os.Exit(cli.Main(quotas("twins", "quota", "limit"))) },
		"rkcy":   func() { os.Exit(cli.Tool()) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("NOBODY", silent(t))
			e.Setenv("PLATFORM", streamtest.Name("cli"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "broker": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Setenv("KAFKA", streamtest.Broker(t)) },
			"database": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Setenv("POSTGRES", devpostgres.Test(t).NewDatabase(t))
			},
			"sql": func(ts *testscript.TestScript, _ bool, args []string) {
				conn, err := pgx.Connect(t.Context(), ts.Getenv("POSTGRES"))
				ts.Check(err)
				defer func() { _ = conn.Close(context.Background()) }()
				_, err = conn.Exec(t.Context(), args[0])
				ts.Check(err)
			},
		},
	})
}

// silent returns an address where nobody listens.
func silent(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// exits runs a program and checks its exit code:
//
//	exits CODE PROGRAM [ARGUMENT…]
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARGUMENT…]")
	}
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func TestExitCode(t *testing.T) {
	wrapped := func(err error) error { return fmt.Errorf("somewhere: %w", err) }
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{txn.Errorf(txn.CodeInternal, "x"), 1},
		{txn.Errorf(txn.CodeDataLoss, "x"), 1},
		{txn.Errorf(txn.CodeInvalidArgument, "x"), 2},
		{txn.Errorf(txn.CodeNotFound, "x"), 3},
		{txn.Errorf(txn.CodeAlreadyExists, "x"), 3},
		{txn.Errorf(txn.CodeFailedPrecondition, "x"), 3},
		{txn.Errorf(txn.CodeAborted, "x"), 3},
		{txn.Errorf(txn.CodePermissionDenied, "x"), 3},
		{txn.Errorf(txn.CodeUnavailable, "x"), 4},
		{txn.Errorf(txn.CodeDeadlineExceeded, "x"), 4},
		{txn.Errorf(txn.CodeResourceExhausted, "x"), 4},
		{&edgecmd.ExitError{Code: 7, Err: errors.New("x")}, 7},
	} {
		if got := cli.ExitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
		if c.err != nil {
			if got := cli.ExitCode(wrapped(c.err)); got != c.want {
				t.Errorf("wrapped %v: %d, want %d", c.err, got, c.want)
			}
		}
	}
}
