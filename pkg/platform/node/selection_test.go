package node_test

import (
	"slices"
	"strings"
	"testing"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// A node may serve some of the Concerns: a transaction passes through processes
// of which each knows only its own, and their group gives out every partition.
func TestConcernsApart(t *testing.T) {
	w := newWorld(t)
	start := func(roles node.Roles, concerns ...string) (*node.Node, func()) {
		n, stop, err := w.startConfig(t, node.Config{Application: application(), Platform: w.cfg, Roles: roles, Concerns: concerns})
		if err != nil {
			t.Fatal(err)
		}
		return n, stop
	}
	players, stopPlayers := start(node.Roles{Processor: true}, "player")
	characters, stopCharacters := start(node.Roles{Processor: true}, "character")
	writers, stopWriters := start(node.Roles{Storage: true}, "player")
	n, stopEdge := start(node.Roles{Edge: true})
	c := client(t, n)
	if _, err := c.CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "p", Username: "anna"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateCharacter(t.Context(), &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{Id: "c", PlayerId: "p", Fullname: "c"}}); err != nil {
		t.Fatal(err)
	}
	// Players have two partitions, and so has the index of their names.
	for name, n := range map[string]struct {
		node *node.Node
		want int
	}{"players": {players, 4}, "characters": {characters, 2}} {
		if s, ok := n.node.ProcessorStatus(); !ok || s.Partitions != n.want {
			t.Errorf("the processor of %s has %d partitions, want %d", name, s.Partitions, n.want)
		}
	}
	var served []string
	for _, s := range writers.StorageStatus() {
		served = append(served, s.Concern)
	}
	if !slices.Equal(served, []string{"player", "player_username"}) {
		t.Errorf("the storage workers serve %q", served)
	}
	admin, err := stream.NewAdmin(w.stream)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	group := w.cfg.Names().ProcessGroup()
	groups, err := admin.DescribeGroups(t.Context(), []string{group})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range groups[group].Members {
		if !strings.HasPrefix(m.ClientID, "game@") {
			t.Errorf("a member says that it is %q", m.ClientID)
		}
	}
	if n := len(groups[group].Members); n != 2 {
		t.Errorf("%d members, want 2", n)
	}
	stopEdge()
	stopPlayers()
	stopCharacters()
	stopWriters()
}

// A node needs the servers of its roles only.
func TestServersOfRoles(t *testing.T) {
	cfg := node.Config{Application: application(), Roles: node.Roles{Edge: true}, Platform: application().Complete(platform.Config{
		Name: "game", Kafka: platform.Kafka{Bootstrap: "127.0.0.1:1"},
		Concerns: []platform.Concern{{Name: "player"}, {Name: "character"}},
		Storage:  platform.Storage{Targets: []platform.Target{{Name: "main", Role: "primary"}, {Name: "other", Role: "secondary", DSN: "postgres://a@b/c"}}},
	}).WithDefaults()}
	if err := cfg.WithDefaults().Validate(); err != nil {
		t.Errorf("an edge: %v", err)
	}
	cfg.Roles = node.Roles{Storage: true}
	cfg.Targets = []string{"other"}
	if err := cfg.WithDefaults().Validate(); err != nil {
		t.Errorf("a storage worker of a target with an address: %v", err)
	}
	cfg.Targets = nil
	if err := cfg.WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), "storage.targets[0].dsn") {
		t.Errorf("a storage worker of all targets: %v", err)
	}
	cfg.Roles, cfg.Concerns, cfg.Targets = node.Roles{Processor: true}, []string{"playr"}, []string{"mian"}
	err := cfg.WithDefaults().Validate()
	for _, want := range []string{"storage.targets[0].dsn", `"playr"`, `did you mean "player"`, `"mian"`, "main, other"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}
