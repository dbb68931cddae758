package db_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/examples/rpg/db"
	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/examples/rpg/store"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestMain(m *testing.M) { os.Exit(devpostgres.Main(m)) }

func mappings() node.Application {
	return node.Application{Name: "rpg", Concerns: []node.Concern{
		{Definition: rpgv1.NewPlayer(logic.Player{}), Mapping: rpgv1.PlayerMapping()},
		{Definition: rpgv1.NewCharacter(logic.Character{}), Mapping: store.CharacterMapping()},
	}}
}

func open(t *testing.T, dsn string) *postgres.Target {
	t.Helper()
	target, err := postgres.Open(postgres.Config{DSN: dsn, Mappings: mappings().Mappings()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	return target
}

// The migrations make the tables that the mappings need.
func TestMigrationsFitMappings(t *testing.T) {
	dsn := devpostgres.Test(t).NewDatabase(t)
	if _, err := postgres.Migrate(t.Context(), dsn, db.Migrations(), nil); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dsn).CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
}

// until returns the migrations up to one, so that there is data from before the
// next.
func until(t *testing.T, last string) fs.FS {
	t.Helper()
	out := fstest.MapFS{}
	names, err := fs.Glob(db.Migrations(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.SplitN(name, "_", 2)[0] <= last {
			raw, err := fs.ReadFile(db.Migrations(), name)
			if err != nil {
				t.Fatal(err)
			}
			out[name] = &fstest.MapFile{Data: raw}
		}
	}
	return out
}

// Players from before there were relations know their characters, and their
// names are taken.
func TestRelationsOfExistingRows(t *testing.T) {
	dsn := devpostgres.Test(t).NewDatabase(t)
	if _, err := postgres.Migrate(t.Context(), dsn, until(t, "00001"), nil); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	const now = ", 3, now())"
	exec("INSERT INTO player VALUES ('p1', 'anna', true, ''" + now)
	exec("INSERT INTO player VALUES ('p2', 'bert', true, ''" + now)
	want := []*rpgv1.Character{
		{Id: "B", Fullname: "Capital", Active: true},
		{Id: "a", Fullname: "Ünï " + strings.Repeat("é", 48)},
		{Id: "b", Fullname: strings.Repeat("x", 100), Active: true},
		{Id: "c" + strings.Repeat("k", 511), Fullname: "Long key", Active: true},
	}
	for i := range 20 {
		want = append(want, &rpgv1.Character{Id: fmt.Sprintf("d%03d", i), Fullname: fmt.Sprint("number ", i), Active: i%2 == 0})
	}
	for i, c := range slices.Backward(want) {
		exec("INSERT INTO character VALUES ($1, 'p1', $2, $3, '{}', '[]', $4, now())", c.GetId(), c.GetFullname(), c.GetActive(), i+1)
	}
	exec("INSERT INTO character VALUES ('orphan', 'nobody', 'Orphan', true, '{}', '[]'" + now)

	if _, err := postgres.Migrate(t.Context(), dsn, db.Migrations(), nil); err != nil {
		t.Fatal(err)
	}
	target := open(t, dsn)
	if err := target.CheckSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	players, err := target.Load(t.Context(), rpgv1.PlayerConcern, []string{"p1", "p2"})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(players["p2"].GetRelated()); n != 0 {
		t.Errorf("p2 knows %d characters", n)
	}
	// As a processor would have written it.
	var related []*rkcyv1.RelatedInstance
	relation := rpgv1.NewCharacter(logic.Character{}).Relations[0]
	for _, c := range want {
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(relation.Copy(c))
		if err != nil {
			t.Fatal(err)
		}
		related = append(related, &rkcyv1.RelatedInstance{Concern: rpgv1.CharacterConcern, Key: c.GetId(), Value: value})
	}
	if got, want := (&rkcyv1.Instance{Related: players["p1"].GetRelated()}), (&rkcyv1.Instance{Related: related}); !proto.Equal(got, want) {
		t.Errorf("p1 knows\n%v\nwant\n%v", got, want)
	}
	taken, err := target.Load(t.Context(), "player_username", []string{"anna", "bert", "carl"})
	if err != nil || len(taken) != 2 {
		t.Fatalf("%d names are taken, %v", len(taken), err)
	}
	e := &rkcyv1.UniqueEntry{}
	if err := proto.Unmarshal(taken["bert"].GetValue(), e); err != nil || e.GetOwner() != "p2" || taken["bert"].GetVersion() != 1 {
		t.Errorf("bert is taken by %v, %v", e, err)
	}
}
