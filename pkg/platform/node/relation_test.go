package node_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform/configset"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

func newPlayer(id, username string) *rpgv1.CreatePlayerRequest {
	return &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: id, Username: username}}
}

func newCharacter(id, player string) *rpgv1.CreateCharacterRequest {
	return &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{Id: id, PlayerId: player, Fullname: "name of " + id}}
}

// detail returns what the answer to a request that was refused says of itself.
func detail(err error, name string) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetMetadata()[name]
		}
	}
	return ""
}

// rows waits until a query of the database gives what is wanted, as text.
func (w *world) rows(t *testing.T, want, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.cfg.Storage.Targets[0].DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for {
		rows, err := conn.Query(ctx, sql)
		if err != nil {
			t.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		got := strings.Join(list, " ")
		if err == nil && got == want {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s gave %q, %v; want %q", sql, got, err, want)
		}
	}
}

// Of two players that want one name at two edges, one gets it, and nothing is
// left of the other; a name is free again once its player has another one or is
// gone. All of it also holds for processors that know of nothing but the log.
func TestUniqueUsernames(t *testing.T) {
	w := newWorld(t)
	one, stopOne := w.start(t, node.AllRoles())
	two, stopTwo := w.start(t, node.AllRoles())
	clients := []rpgv1.RpgServiceClient{client(t, one), client(t, two)}
	const rounds = 10
	var players, names []string
	for round := range rounds {
		name := fmt.Sprintf("name%02d", round)
		errs := make([]error, len(clients))
		var g sync.WaitGroup
		for i, c := range clients {
			g.Go(func() { _, errs[i] = c.CreatePlayer(t.Context(), newPlayer(fmt.Sprintf("p%02d-%d", round, i), name)) })
		}
		g.Wait()
		won := 0
		if errs[0] != nil {
			won = 1
		}
		if errs[won] != nil || status.Code(errs[1-won]) != codes.AlreadyExists {
			t.Fatalf("round %d: %v, %v; want one of the two to be refused", round, errs[0], errs[1])
		}
		if c := detail(errs[1-won], "constraint"); c != "player_username" {
			t.Errorf("the constraint is called %q: %v", c, errs[1-won])
		}
		for _, c := range clients {
			if _, err := c.ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{Id: fmt.Sprintf("p%02d-%d", round, 1-won)}); status.Code(err) != codes.NotFound {
				t.Errorf("who lost the name is there: %v", err)
			}
		}
		players, names = append(players, fmt.Sprintf("p%02d-%d", round, won)), append(names, name)
	}
	w.rows(t, strings.Join(players, " "), "SELECT id FROM player ORDER BY id")
	w.rows(t, strings.Join(names, " "), "SELECT value FROM player_username ORDER BY value")
	w.rows(t, strings.Join(players, " "), "SELECT owner FROM player_username ORDER BY value")

	check := func(c rpgv1.RpgServiceClient) {
		t.Helper()
		if _, err := c.CreatePlayer(t.Context(), newPlayer("q", names[0])); status.Code(err) != codes.AlreadyExists {
			t.Fatalf("a name that is taken: %v", err)
		}
		// A name that was given up is free; one that was taken instead is not.
		if _, err := c.UpdatePlayer(t.Context(), &rpgv1.UpdatePlayerRequest{Player: &rpgv1.Player{Id: players[0], Username: "other"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreatePlayer(t.Context(), newPlayer("q", names[0])); err != nil {
			t.Fatalf("a name that was given up: %v", err)
		}
		if _, err := c.UpdatePlayer(t.Context(), &rpgv1.UpdatePlayerRequest{Player: &rpgv1.Player{Id: "q", Username: "other"}}); status.Code(err) != codes.AlreadyExists {
			t.Fatalf("a name that is taken: %v", err)
		}
		if _, err := c.DeletePlayer(t.Context(), &rpgv1.DeletePlayerRequest{Id: "q"}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.UpdatePlayer(t.Context(), &rpgv1.UpdatePlayerRequest{Player: &rpgv1.Player{Id: players[0], Username: names[0]}}); err != nil {
			t.Fatalf("the name of who is gone: %v", err)
		}
	}
	check(clients[1])
	stopOne()
	stopTwo()
	again, _ := w.start(t, node.AllRoles())
	check(client(t, again))
	w.rows(t, strings.Join(players, " "), "SELECT id FROM player ORDER BY id")
	w.rows(t, strings.Join(players, " "), "SELECT owner FROM player_username ORDER BY value")
}

// seen returns what a player knows of its characters: id, name, whether it is
// active.
func seen(t *testing.T, c rpgv1.RpgServiceClient, player string) string {
	t.Helper()
	p, err := c.ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{Id: player})
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, s := range p.GetCharacters() {
		text = append(text, fmt.Sprintf("%s:%s:%v", s.GetId(), s.GetFullname(), s.GetActive()))
	}
	return strings.Join(text, ", ")
}

func TestPlayersKnowTheirCharacters(t *testing.T) {
	w := newWorld(t)
	limits := rpgv1.NewLimitsConfig(logic.ValidateLimits)
	app := application()
	app.ConfigConcerns = []concern.ConfigDefinition{limits}
	one, stopOne := w.startApplication(t, app, node.AllRoles())
	two, stopTwo := w.startApplication(t, app, node.AllRoles())
	a, b := client(t, one), client(t, two)
	refused := func(err error, code codes.Code, words ...string) {
		t.Helper()
		if status.Code(err) != code {
			t.Fatalf("%v; want %v", err, code)
		}
		for _, word := range words {
			if !strings.Contains(status.Convert(err).Message(), word) {
				t.Errorf("the answer lacks %q: %v", word, err)
			}
		}
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := a.CreateCharacter(t.Context(), newCharacter("c0", "nobody"))
	refused(err, codes.FailedPrecondition, `player "nobody" does not exist`)
	if field := detail(err, "field"); field != "player_id" {
		t.Errorf("the field is %q", field)
	}
	_, err = a.ReadCharacter(t.Context(), &rpgv1.ReadCharacterRequest{Id: "c0"})
	refused(err, codes.NotFound)
	must(a.CreatePlayer(t.Context(), newPlayer("p1", "anna")))
	must(a.CreatePlayer(t.Context(), newPlayer("p2", "bert")))

	// More than the limit at the same time, at both edges.
	made := make([]error, 2*logic.DefaultMaxCharacters)
	var g sync.WaitGroup
	for i := range made {
		g.Go(func() {
			_, made[i] = []rpgv1.RpgServiceClient{a, b}[i%2].CreateCharacter(t.Context(), newCharacter(fmt.Sprintf("c%02d", i), "p1"))
		})
	}
	g.Wait()
	var want []string
	for i, err := range made {
		if err == nil {
			want = append(want, fmt.Sprintf("c%02d:name of c%02d:false", i, i))
		} else {
			refused(err, codes.FailedPrecondition, "max_characters_per_player is 10")
		}
	}
	if len(want) != logic.DefaultMaxCharacters {
		t.Fatalf("%d characters were made, the limit is %d", len(want), logic.DefaultMaxCharacters)
	}
	for _, c := range []rpgv1.RpgServiceClient{a, b} {
		if got := seen(t, c, "p1"); got != strings.Join(want, ", ") {
			t.Errorf("the player knows %q, want %q", got, want)
		}
	}
	first, _, _ := strings.Cut(want[0], ":")
	second, _, _ := strings.Cut(want[1], ":")
	// One that exists is told to, although the limit is reached.
	_, err = a.CreateCharacter(t.Context(), newCharacter(first, "p1"))
	refused(err, codes.AlreadyExists, first)

	must(a.UpdateCharacter(t.Context(), &rpgv1.UpdateCharacterRequest{Character: &rpgv1.Character{Id: first, Fullname: "Anna", Active: true, PlayerId: "p1"}}))
	if got := seen(t, b, "p1"); !strings.HasPrefix(got, first+":Anna:true, ") {
		t.Errorf("the player knows %q", got)
	}
	// A character moves to a player that exists and has room.
	move := func(c rpgv1.RpgServiceClient, id, player string) error {
		_, err := c.UpdateCharacter(t.Context(), &rpgv1.UpdateCharacterRequest{Character: &rpgv1.Character{Id: id, PlayerId: player}})
		return err
	}
	refused(move(a, first, "nobody"), codes.FailedPrecondition, `player "nobody" does not exist`)
	refused(move(a, "nothing", "p2"), codes.NotFound, "nothing")
	must(nil, move(a, first, "p2"))
	if got := seen(t, b, "p2"); got != first+":Anna:true" {
		t.Errorf("the new player knows %q", got)
	}
	if got := seen(t, b, "p1"); got != strings.Join(want[1:], ", ") {
		t.Errorf("the old player knows %q", got)
	}
	_, err = b.DeletePlayer(t.Context(), &rpgv1.DeletePlayerRequest{Id: "p2"})
	refused(err, codes.FailedPrecondition, "p2")

	// Limits that are published hold from then on.
	r, err := configset.PrepareReplace(t.Context(), w.stream, w.cfg.Names(), configset.Definition(limits), []proto.Message{
		&rpgv1.Limits{Id: logic.DefaultLimits, MaxCharactersPerPlayer: 1}, &rpgv1.Limits{Id: "two", MaxCharactersPerPlayer: 2},
	})
	must(r, err)
	v, err := r.Apply(t.Context(), "test")
	must(v, err)
	for _, n := range []*node.Node{one, two} {
		for deadline := time.Now().Add(30 * time.Second); n.ConfigVersion() < v.GetVersion(); <-time.After(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the limits do not arrive")
			}
		}
	}
	refused(move(a, second, "p2"), codes.FailedPrecondition, "max_characters_per_player is 1")
	must(a.UpdatePlayer(t.Context(), &rpgv1.UpdatePlayerRequest{Player: &rpgv1.Player{Id: "p2", LimitsId: "two"}}))
	must(nil, move(a, second, "p2"))
	refused(move(a, strings.SplitN(want[2], ":", 2)[0], "p2"), codes.FailedPrecondition, "max_characters_per_player is 2")

	// Others find the same, in the log and in the database.
	w.rows(t, "p1 p2", "SELECT id FROM player WHERE rkcy_related IS NOT NULL ORDER BY id")
	stopOne()
	stopTwo()
	again, _ := w.startApplication(t, app, node.AllRoles())
	c := client(t, again)
	two2 := first + ":Anna:true, " + want[1]
	if want[1] < first { // never: they are in order
		t.Fatal("the characters are in disorder")
	}
	if got := seen(t, c, "p2"); got != two2 {
		t.Errorf("after a restart p2 knows %q, want %q", got, two2)
	}
	if got := seen(t, c, "p1"); got != strings.Join(want[2:], ", ") {
		t.Errorf("after a restart p1 knows %q", got)
	}
	for _, id := range []string{first, second} {
		must(c.DeleteCharacter(t.Context(), &rpgv1.DeleteCharacterRequest{Id: id}))
	}
	if got := seen(t, c, "p2"); got != "" {
		t.Errorf("p2 knows %q, which is gone", got)
	}
	must(c.DeletePlayer(t.Context(), &rpgv1.DeletePlayerRequest{Id: "p2"}))
	_, err = c.CreateCharacter(t.Context(), newCharacter("c99", "p2"))
	refused(err, codes.FailedPrecondition, `player "p2" does not exist`)
	w.rows(t, "p1", "SELECT id FROM player ORDER BY id")
}
