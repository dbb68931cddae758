package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// The README's first screen: a player is created on the command line, answered,
// and in the database.

func TestEmbeddedFirstScreen(t *testing.T) {
	t.Parallel()
	firstScreen(t, newEmbedded(t))
}

func TestServersFirstScreen(t *testing.T) {
	t.Parallel()
	firstScreen(t, newServers(t))
}

func firstScreen(t *testing.T, s *system) {
	p := s.start()
	made := rpg(t, nil, "edge", "create", "player", "username=brock01", "--edge", p.at.GRPC).want(t, 0)
	lines := strings.Split(made.stdout, "\n")
	id, found := strings.CutPrefix(lines[0], "id:        ")
	if !found || id == "" {
		t.Fatalf("the answer does not begin with an id: %q", made.stdout)
	}
	if want := "id:        " + id + "\nusername:  brock01\nactive:    false\nlimits_id: \"\"\n"; made.stdout != want {
		t.Errorf("the answer is\n%swant\n%s", made.stdout, want)
	}
	rpg(t, []string{"RPG_EDGE=" + p.at.GRPC}, "edge", "read", "player", "id="+id).want(t, 0, "brock01")
	eventually(t, "the row", func() error {
		name, err := value[string](s, "SELECT username FROM player WHERE id = $1", id)
		if err == nil && name != "brock01" {
			t.Fatalf("the row has username %q", name)
		}
		return err
	})
	ready := "ready http=" + p.at.HTTP + " grpc=" + p.at.GRPC + " kafka=" + p.at.Kafka + " postgres="
	if n := strings.Count(p.log(), ready); n != 1 {
		t.Errorf("%d lines begin with %q, want 1", n, ready)
	}
	if password := between(p.at.Postgres, ":", "@"); password == "" || strings.Contains(p.log(), password) {
		t.Error("the database's password is in the log")
	}
	if info, err := os.Stat(p.readyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the ready file, which has a password, has mode %v (%v)", info.Mode(), err)
	}
	p.stop()
}

// between returns the password of a DSN.
func between(dsn, from, to string) string {
	_, rest, _ := strings.Cut(dsn, "://")
	_, rest, _ = strings.Cut(rest, from)
	text, _, _ := strings.Cut(rest, to)
	return text
}

// The whole of the game on the command line.
func TestServersCommandLine(t *testing.T) {
	t.Parallel()
	s := newServers(t)
	seeds := filepath.Join(t.TempDir(), "seeds")
	if err := os.WriteFile(seeds, []byte(`# three players
{"rpc":"CreatePlayer","request":{"player":{"id":"p1","username":"anna"}}}
{"rpc":"CreatePlayer","request":{"player":{"id":"p2","username":"bert"}}}
{"rpc":"CreatePlayer","request":{"player":{"id":"p3","username":"carl"}}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := s.start("--seed-file", seeds)
	edge := func(args ...string) result {
		return rpg(t, []string{"RPG_EDGE=" + p.at.GRPC}, append([]string{"edge"}, args...)...)
	}
	edge("read", "player", "id=p2").want(t, 0, "bert")
	edge("update", "player", "id=p1", "active=true").want(t, 0, "active:    true", "anna")
	edge("create", "character", "id=c1", "player_id=p1", "fullname=Anna the Able", "currency.gold=10").want(t, 0, "gold:")
	edge("create", "character", "id=c2", "player_id=p2", "fullname=Bert", "currency.faction_0=5").want(t, 0)
	edge("fund", "character", "id=c1", "gold=100").want(t, 0, "110")
	edge("trade", "lhs=c1", "lhs.gold=30", "rhs=c2", "rhs.faction_0=3").want(t, 0, "80", "30")
	edge("trade", "lhs=c1", "lhs.gold=81", "rhs=c2").want(t, 3, "FAILED_PRECONDITION", "c1", "80 gold, not 81")
	edge("read", "character", "id=c2", "--json").want(t, 0, `"gold": "30"`, `"faction_0": "2"`)
	edge("delete", "player", "id=p3").want(t, 0, "carl")
	edge("read", "player", "id=p3").want(t, 3, "NOT_FOUND", "p3")
	eventually(t, "the row is gone", func() error {
		n, err := value[int](s, "SELECT count(*) FROM player WHERE id = 'p3'")
		if err == nil && n != 0 {
			err = fmt.Errorf("%d rows", n)
		}
		return err
	})
	// What exists is left alone when the file is used again; what was deleted
	// is made again.
	p.stop()
	p = s.start("--seed-file", seeds)
	edge("read", "player", "id=p1").want(t, 0, "active:     true")
	edge("read", "player", "id=p3").want(t, 0, "carl")
	p.stop()
	edge("read", "player", "id=p1").want(t, 4, "UNAVAILABLE", p.at.GRPC, "--edge")
}

// create makes a player in revision "first".
func create(t testing.TB, c rpgv1.RpgServiceClient, id string) {
	t.Helper()
	if _, err := c.CreatePlayer(t.Context(), player(id)); err != nil {
		t.Fatalf("create player %s: %v", id, err)
	}
}

func player(id string) *rpgv1.CreatePlayerRequest {
	return &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: id, Username: "name of " + id, LimitsId: "first"}}
}

// revise changes a player. The field that tells the revisions apart is one that
// nothing depends on.
func revise(t testing.TB, c rpgv1.RpgServiceClient, id, revision string) {
	t.Helper()
	if _, err := c.UpdatePlayer(t.Context(), &rpgv1.UpdatePlayerRequest{Player: &rpgv1.Player{Id: id, LimitsId: revision}}); err != nil {
		t.Fatalf("update player %s: %v", id, err)
	}
}

// revision reads which one a player is in.
func revision(t testing.TB, c rpgv1.RpgServiceClient, id string) string {
	t.Helper()
	p, err := c.ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{Id: id})
	if err != nil {
		t.Fatalf("read player %s: %v", id, err)
	}
	if p.GetUsername() != "name of "+id {
		t.Errorf("player %s is called %q", id, p.GetUsername())
	}
	return p.GetLimitsId()
}

// awaitPlayer waits until a row is as it must be.
func (s *system) awaitPlayer(id, revision string, version int64) {
	s.t.Helper()
	eventually(s.t, "row of "+id, func() error {
		got, err := value[string](s, "SELECT limits_id || ' ' || rkcy_version FROM player WHERE id = $1", id)
		if want := fmt.Sprint(revision, " ", version); err == nil && got != want {
			err = fmt.Errorf("is %q, want %q", got, want)
		}
		return err
	})
}
