package cli_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

// Only a development platform that does not run is thrown away, and only by who says
// so. Nothing of it is left.
func TestReplace(t *testing.T) {
	s := newServers(t)
	s.want(t, 3, []string{"has no configuration"}, "platform", "replace", "--yes")
	s.want(t, 0, nil, "platform", "update")
	s.want(t, 0, nil, "db", "migrate")
	s.want(t, 3, []string{"is not marked as one for development"}, "platform", "replace", "--yes")
	s = s.rewrite(t, "kafka:", "development: true\nkafka:")
	// The file says so, but what runs does not.
	s.want(t, 3, []string{"is not marked as one for development"}, "platform", "replace", "--yes")
	s.want(t, 0, []string{"development: true instead of false"}, "platform", "update")
	n, stop := s.node(t, node.AllRoles())
	client := player(t, n)
	if _, err := client.CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "p1", Username: "anna"}}); err != nil {
		t.Fatal(err)
	}
	s.want(t, 3, []string{"run still: game@", "stop them first"}, "platform", "replace", "--yes")
	stop()

	ask := func(answer string) result {
		var out bytes.Buffer
		root := cli.New(clumsyApp())
		root.SetArgs([]string{"platform", "replace", "-f", s.file})
		root.SetIn(strings.NewReader(answer))
		root.SetOut(&out)
		err := root.ExecuteContext(t.Context())
		r := result{code: cli.ExitCode(err), out: out.String()}
		if err != nil {
			r.err = err.Error()
		}
		return r
	}
	if r := ask("yes\n"); r.code != 2 || !strings.Contains(r.err, "nothing was done") {
		t.Errorf("a wrong answer: %+v", r)
	}
	s.want(t, 0, []string{"version 2"}, "platform", "show")
	r := ask("")
	if r.code != 2 {
		t.Errorf("no answer: %+v", r)
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(r.out, "platform "), " in ")
	if r := ask(name + "\n"); r.code != 0 || !strings.Contains(r.out, "done: version 1") {
		t.Fatalf("replace: %+v", r)
	}
	s.want(t, 0, []string{"version 1"}, "platform", "show")
	n, _ = s.node(t, node.AllRoles())
	client = player(t, n)
	// Neither the row nor the unique name is there any more, and what is new is stored.
	if _, err := client.CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "p1", Username: "anna"}}); err != nil {
		t.Errorf("create again: %v", err)
	}
	s.want(t, 0, []string{"version 1", "anna"}, "instance", "show", "player", "p1")
}

// player returns a client of a node's edge.
func player(t *testing.T, n *node.Node) rpgv1.RpgServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(n.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return rpgv1.NewRpgServiceClient(conn)
}
