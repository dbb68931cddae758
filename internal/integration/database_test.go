package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
)

// The database goes away and comes back: what is cached answers meanwhile, and
// every row appears.

func TestServersDatabaseShutdown(t *testing.T) {
	t.Parallel()
	databaseAway(t, (*devpostgres.Server).Shutdown)
}

func TestServersDatabaseKill(t *testing.T) {
	t.Parallel()
	databaseAway(t, (*devpostgres.Server).Kill)
}

func databaseAway(t *testing.T, away func(*devpostgres.Server) error) {
	s := newServersOwnDatabase(t)
	p := s.start()
	c := p.client()
	const n = 50
	id := func(i int) string { return fmt.Sprintf("p%02d", i) }
	for i := range n {
		create(t, c, id(i))
	}
	for i := range n {
		s.awaitPlayer(id(i), "first", 1)
	}
	if err := away(s.database); err != nil {
		t.Fatal(err)
	}
	// Cached: reads and writes go on as if nothing had happened.
	for i := range n {
		revise(t, c, id(i), "second")
		revise(t, c, id(i), "third")
		if got := revision(t, c, id(i)); got != "third" {
			t.Fatalf("%s is %q", id(i), got)
		}
	}
	// Not cached: refused, soon, and for what it is.
	refused := func(err error) {
		t.Helper()
		if code := status.Code(err); code != codes.Unavailable {
			t.Errorf("code %v, want %v: %v", code, codes.Unavailable, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := c.ReadPlayer(ctx, &rpgv1.ReadPlayerRequest{Id: "stranger"})
	refused(err)
	_, err = c.CreatePlayer(ctx, player("newcomer"))
	refused(err)
	rpg(t, nil, "edge", "read", "player", "id=stranger", "--edge", p.at.GRPC).want(t, 4, "UNAVAILABLE")
	if got := revision(t, c, id(0)); got != "third" {
		t.Fatalf("after that, %s is %q", id(0), got)
	}

	if err := s.database.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		s.awaitPlayer(id(i), "third", 3)
	}
	eventually(t, "what was refused works again", func() error {
		_, err := c.CreatePlayer(t.Context(), player("newcomer"))
		return err
	})
	s.awaitPlayer("newcomer", "first", 1)
	total, err := value[int](s, "SELECT count(*) FROM player")
	if err != nil || total != n+1 {
		t.Errorf("%d rows, want %d (%v)", total, n+1, err)
	}
	p.stop()
}

// The process dies while the database is away: what was acknowledged is in the
// log only, and must be found again there.
func TestServersKillWhileDatabaseAway(t *testing.T) {
	t.Parallel()
	s := newServersOwnDatabase(t)
	p := s.start()
	create(t, p.client(), "p1")
	s.awaitPlayer("p1", "first", 1)
	if err := s.database.Shutdown(); err != nil {
		t.Fatal(err)
	}
	revise(t, p.client(), "p1", "second")
	p.kill()

	p = s.start() // the database is still away
	if got := revision(t, p.client(), "p1"); got != "second" {
		t.Fatalf("after the restart p1 is %q", got)
	}
	revise(t, p.client(), "p1", "third")
	if err := s.database.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaitPlayer("p1", "third", 3)
	p.stop()
}

// A process starts although the database is away, and works once it is up.
func TestServersDatabaseDownAtStart(t *testing.T) {
	t.Parallel()
	s := newServersOwnDatabase(t)
	if err := s.database.Shutdown(); err != nil {
		t.Fatal(err)
	}
	p := s.start()
	_, err := p.client().CreatePlayer(t.Context(), player("p1"))
	if status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want %v", err, codes.Unavailable)
	}
	if err := s.database.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the player is created", func() error {
		_, err := p.client().CreatePlayer(t.Context(), player("p1"))
		return err
	})
	s.awaitPlayer("p1", "first", 1)
	p.stop()
}
