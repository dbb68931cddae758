package node_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketcycle/rocketcycle/examples/rpg/db"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
)

// dump returns everything that the storage workers have written to a database.
func dump(t *testing.T, dsn string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var out strings.Builder
	for _, table := range []string{"player", "player_username", `"character"`, "character_item", "(SELECT concern, partition, next_offset FROM rkcy_watermark)"} {
		rows, err := conn.Query(ctx, "SELECT t::text FROM "+table+" AS t ORDER BY 1")
		if err != nil {
			return "", err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "%s\n%s\n", table, strings.Join(lines, "\n"))
	}
	return out.String(), nil
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Two databases get the same, each at its own pace: the one that is away holds
// up neither the other nor the processors, and catches up exactly. What is not
// cached is read from the primary.
func TestTwoTargets(t *testing.T) {
	servers := map[string]*devpostgres.Server{"main": devpostgres.Own(t), "copy": devpostgres.Own(t)}
	w := newWorld(t)
	dsn := map[string]string{}
	w.cfg.Storage.Targets = nil
	// The order in the file means nothing.
	for _, name := range []string{"copy", "main"} {
		dsn[name] = servers[name].NewDatabase(t)
		if _, err := postgres.Migrate(t.Context(), dsn[name], db.Migrations(), nil); err != nil {
			t.Fatal(err)
		}
		role := platform.RoleSecondary
		if name == "main" {
			role = platform.RolePrimary
		}
		w.cfg.Storage.Targets = append(w.cfg.Storage.Targets, platform.Target{Name: name, Type: platform.TypePostgres, Role: role, DSN: dsn[name]})
		// A row that never was in the log, and tells where it was read.
		conn, err := pgx.Connect(t.Context(), dsn[name])
		if err != nil {
			t.Fatal(err)
		}
		if name == "main" {
			_, err = conn.Exec(t.Context(), `INSERT INTO player (id, username, active, limits_id, rkcy_version, rkcy_time) VALUES ('only-here', 'primary', true, '', 1, 'epoch')`)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(t.Context())
	}
	n, _ := w.start(t, node.AllRoles())
	c := client(t, n)
	ctx := t.Context()
	if p, err := c.ReadPlayer(ctx, &rpgv1.ReadPlayerRequest{Id: "only-here"}); err != nil || p.GetUsername() != "primary" {
		t.Errorf("a miss: %v, %v", p, err)
	}
	const players, each = 5, 8
	for p := range players {
		id := fmt.Sprintf("p%d", p)
		if _, err := c.CreatePlayer(ctx, &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: id, Username: id}}); err != nil {
			t.Fatal(err)
		}
		for i := range each {
			if _, err := c.CreateCharacter(ctx, &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{
				Id: fmt.Sprintf("c%d", each*p+i), PlayerId: id, Fullname: "x", Currency: &rpgv1.Currency{}, Items: []*rpgv1.Item{{Id: "sword"}},
			}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	done := 0
	// work changes and deletes characters, all of which are cached.
	work := func() {
		t.Helper()
		for range 30 {
			_, err := c.FundCharacter(ctx, &rpgv1.FundCharacterRequest{
				Id: fmt.Sprintf("c%d", done%30), Currency: &rpgv1.Currency{Gold: 1}, Items: []*rpgv1.Item{{Id: fmt.Sprintf("mark-%d", done)}},
			})
			if err == nil && done%15 == 0 {
				_, err = c.DeleteCharacter(ctx, &rpgv1.DeleteCharacterRequest{Id: fmt.Sprintf("c%d", players*each-1-done/15)})
			}
			if err != nil {
				t.Fatal(err)
			}
			done++
		}
	}
	// has says whether a database has the latest change.
	has := func(name string) bool {
		text, err := dump(t, dsn[name])
		return err == nil && strings.Contains(text, fmt.Sprintf(",mark-%d,", done-1))
	}
	failing := func(name string) (failing bool) {
		for _, s := range n.StorageStatus() {
			failing = failing || s.Target == name && s.Failing != ""
		}
		return failing
	}
	same := func() bool {
		a, errA := dump(t, dsn["main"])
		b, errB := dump(t, dsn["copy"])
		return errA == nil && errB == nil && strings.Replace(a, "(only-here,primary,t,\"\",1,\"1970-01-01 00:00:00+00\",)\n", "", 1) == b
	}
	work()
	eventually(t, "both databases have the same", same)
	for _, name := range []string{"copy", "main"} {
		other := map[string]string{"copy": "main", "main": "copy"}[name]
		if err := servers[name].Kill(); err != nil {
			t.Fatal(err)
		}
		work()
		eventually(t, other+" goes on while "+name+" is away", func() bool { return has(other) })
		eventually(t, "the status tells of "+name, func() bool { return failing(name) })
		if failing(other) {
			t.Errorf("%s fails, too: %+v", other, n.StorageStatus())
		}
		work()
		if err := servers[name].Restart(ctx); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" has caught up", same)
		if !has(name) {
			t.Errorf("%s lacks the latest change", name)
		}
		eventually(t, "nothing fails any more", func() bool { return !failing(name) && !failing(other) })
	}
	if got := len(n.StorageStatus()); got != 2*3 {
		t.Errorf("%d storage workers, want one per Concern and target", got)
	}
}
