package store_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/examples/rpg/db"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/examples/rpg/store"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestMain(m *testing.M) { os.Exit(devpostgres.Main(m)) }

func target(t *testing.T, dsn string) *postgres.Target {
	t.Helper()
	target, err := postgres.Open(postgres.Config{DSN: dsn, Mappings: []storage.Mapping{store.CharacterMapping()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	return target
}

func hero(items ...string) *rpgv1.Character {
	c := &rpgv1.Character{Id: "c1", PlayerId: "p1", Fullname: "Anna", Active: true, Currency: &rpgv1.Currency{Gold: 7}}
	for _, id := range items {
		c.Items = append(c.Items, &rpgv1.Item{Id: id, Description: "the " + id})
	}
	return c
}

func read(t *testing.T, target *postgres.Target, id string) *rpgv1.Character {
	t.Helper()
	got, err := target.Load(t.Context(), rpgv1.CharacterConcern, []string{id})
	if err != nil {
		t.Fatal(err)
	}
	if got[id] == nil {
		return nil
	}
	c := &rpgv1.Character{}
	if err := proto.Unmarshal(got[id].GetValue(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func rows(t *testing.T, dsn string) (out []string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	found, err := conn.Query(t.Context(), "SELECT format('%s %s %s %s', character_id, position, id, description) FROM character_item ORDER BY character_id, position")
	if err != nil {
		t.Fatal(err)
	}
	if out, err = pgx.CollectRows(found, pgx.RowTo[string]); err != nil {
		t.Fatal(err)
	}
	return out
}

// What a character has is in character_item, in its order, and comes back.
func TestItems(t *testing.T) {
	dsn := devpostgres.Test(t).NewDatabase(t)
	if _, err := postgres.Migrate(t.Context(), dsn, db.Migrations(), nil); err != nil {
		t.Fatal(err)
	}
	target := target(t, dsn)
	if err := target.CheckSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := int64(0)
	put := func(c *rpgv1.Character) {
		t.Helper()
		change := &rkcyv1.Change{Key: "c1", After: &rkcyv1.Instance{}}
		if c != nil {
			value, err := proto.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			change.After = &rkcyv1.Instance{Value: value, Version: uint64(at + 1)} //nolint:gosec // small
		}
		err := target.Apply(t.Context(), []storage.Batch{{
			Partition: storage.Partition{Concern: rpgv1.CharacterConcern, Generation: 1}, From: at, Next: at + 1, Changes: []*rkcyv1.Change{change},
		}})
		if err != nil {
			t.Fatal(err)
		}
		at++
		if got := read(t, target, "c1"); !proto.Equal(got, c) && (c != nil || got != nil) {
			t.Errorf("got %v, want %v", got, c)
		}
	}
	put(hero("sword", "shield", "sword"))
	if got := fmt.Sprint(rows(t, dsn)); got != "[c1 0 sword the sword c1 1 shield the shield c1 2 sword the sword]" {
		t.Error(got)
	}
	put(hero("shield"))
	put(hero())
	empty := hero("")
	empty.Items[0].Description = ""
	put(empty)
	put(nil)
	if got := rows(t, dsn); len(got) != 0 {
		t.Error(got)
	}
	put(hero("sword"))
	// The message that was encoded is as it was.
	c := hero("sword")
	if _, err := store.CharacterMapping().Encode(c); err != nil || !proto.Equal(c, hero("sword")) {
		t.Errorf("%v, %v", c, err)
	}
}

// Items from before the table move into it.
func TestItemsOfExistingRows(t *testing.T) {
	dsn := devpostgres.Test(t).NewDatabase(t)
	before := fstest.MapFS{}
	names, err := fs.Glob(db.Migrations(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.SplitN(name, "_", 2)[0] < "00003" {
			raw, err := fs.ReadFile(db.Migrations(), name)
			if err != nil {
				t.Fatal(err)
			}
			before[name] = &fstest.MapFile{Data: raw}
		}
	}
	if _, err := postgres.Migrate(t.Context(), dsn, before, nil); err != nil {
		t.Fatal(err)
	}
	old, err := postgres.Open(postgres.Config{DSN: dsn, Mappings: []storage.Mapping{rpgv1.CharacterMapping()}})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	want := map[string]*rpgv1.Character{"c1": hero("sword", "it's \"\\", "sword"), "c2": hero(), "c3": hero("", "x")}
	want["c3"].Items[0].Description = ""
	var changes []*rkcyv1.Change
	for id, c := range want {
		c.Id = id
		value, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, &rkcyv1.Change{Key: id, After: &rkcyv1.Instance{Value: value, Version: 1}})
	}
	if err := old.Apply(t.Context(), []storage.Batch{{
		Partition: storage.Partition{Concern: rpgv1.CharacterConcern, Generation: 1}, Next: 3, Changes: changes,
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.Migrate(t.Context(), dsn, db.Migrations(), nil); err != nil {
		t.Fatal(err)
	}
	target := target(t, dsn)
	for id, c := range want {
		if got := read(t, target, id); !proto.Equal(got, c) {
			t.Errorf("got %v, want %v", got, c)
		}
	}
}
