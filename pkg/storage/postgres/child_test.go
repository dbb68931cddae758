package postgres

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/storagetest"
)

// worded returns an instance with n words, told in order, too.
func worded(k storagetest.Kind, id string, n int, double float64) proto.Message {
	m := k.Thing(id, map[string]any{"order": int32(n), "double": double}) //nolint:gosec // small
	words := m.ProtoReflect().Mutable(m.ProtoReflect().Descriptor().Fields().ByName("words")).List()
	for i := range n {
		words.Append(protoreflect.ValueOfString(fmt.Sprint("word ", i)))
	}
	return m
}

func query[T any](t *testing.T, target *Target, sql string) (out T) {
	t.Helper()
	if err := target.pool.QueryRow(t.Context(), sql).Scan(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Rows of child tables that stay as they are are not written again, and none
// stays without its instance.
func TestChildRows(t *testing.T) {
	k := storagetest.NewKind()
	target := ready(t, []storage.Mapping{k.OwnMapping("own", "own")})
	apply := func(from int64, m proto.Message, version uint64) {
		t.Helper()
		if err := target.Apply(t.Context(), batch("own", from, storagetest.Put(m, version))); err != nil {
			t.Fatal(err)
		}
	}
	const rows = `SELECT string_agg(format('%s %s %s', "order", word, xmin), ',' ORDER BY "order") FROM own_word`
	apply(0, worded(k, "a", 3, 1), 1)
	before := query[string](t, target, rows)
	apply(1, worded(k, "a", 3, 2), 2)
	if now := query[string](t, target, rows); now != before {
		t.Errorf("rows were written again:\n%s\n%s", before, now)
	}
	apply(2, worded(k, "a", 2, 2), 3)
	if now := query[string](t, target, rows); !strings.HasPrefix(before, now+",") {
		t.Errorf("got\n%s\nof\n%s", now, before)
	}
	if err := target.Apply(t.Context(), batch("own", 3, storagetest.Delete("a"))); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, target, "SELECT count(*)::int FROM own_word"); n != 0 {
		t.Errorf("%d rows of nobody", n)
	}
}

// A foreign key of a child table is met by the order in which rows are written.
func TestChildForeignKey(t *testing.T) {
	k := storagetest.NewKind()
	target := ready(t, []storage.Mapping{k.OwnMapping("own", "own")})
	if _, err := target.pool.Exec(t.Context(), `ALTER TABLE own_word ADD FOREIGN KEY (thing_id) REFERENCES own (id)`); err != nil {
		t.Fatal(err)
	}
	for i, changes := range [][2]proto.Message{{worded(k, "a", 2, 0), worded(k, "b", 3, 0)}, {worded(k, "a", 1, 0), worded(k, "c", 3, 0)}} {
		put := batch("own", int64(4*i), storagetest.Put(changes[0], 1), storagetest.Put(changes[1], 1), storagetest.Delete("b"), storagetest.Delete("nobody"))
		if err := target.Apply(t.Context(), put); err != nil {
			t.Fatal(err)
		}
	}
	if n := query[int](t, target, "SELECT count(*)::int FROM own_word"); n != 4 {
		t.Errorf("%d words, want 4", n)
	}
}

// A read beside a writer sees an instance and its rows of the same version.
func TestChildSnapshot(t *testing.T) {
	k := storagetest.NewKind()
	target := ready(t, []storage.Mapping{k.OwnMapping("own", "own")})
	done := make(chan struct{})
	var wg sync.WaitGroup
	desc := k.New().ProtoReflect().Descriptor().Fields()
	reads := make([]int, 3)
	for i := range reads {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got, err := target.Load(t.Context(), "own", []string{"a"})
				if err != nil {
					t.Error(err)
					return
				}
				m := k.New()
				if err := proto.Unmarshal(got["a"].GetValue(), m); err != nil {
					t.Error(err)
					return
				}
				words, want := m.ProtoReflect().Get(desc.ByName("words")).List().Len(), m.ProtoReflect().Get(desc.ByName("order")).Int()
				if int64(words) != want {
					t.Errorf("%d words where %d belong to the instance", words, want)
					return
				}
				reads[i]++
			}
		})
	}
	for n := range 300 {
		if err := target.Apply(t.Context(), batch("own", int64(n), storagetest.Put(worded(k, "a", n%7, 0), uint64(n+1)))); err != nil { //nolint:gosec // small
			t.Error(err)
			break
		}
	}
	close(done)
	wg.Wait()
	if reads[0]+reads[1]+reads[2] < 50 {
		t.Errorf("only %v reads", reads)
	}
}

func TestChildSchema(t *testing.T) {
	k := storagetest.NewKind()
	m := k.OwnMapping("own", "own")
	const want = `CREATE TABLE own_word (
    thing_id text    NOT NULL,
    "order"  integer NOT NULL,
    word     text    NOT NULL,
    PRIMARY KEY (thing_id, "order")
);
CREATE INDEX ON own_word USING hash (word);
CREATE TABLE own_part (
    part     bytea NOT NULL,
    name     text  NOT NULL,
    thing_id text  NOT NULL,
    PRIMARY KEY (thing_id, name)
);
CREATE TABLE own_note (
    thing_id text PRIMARY KEY,
    note     text
);
`
	if got := Schema(m); !strings.HasSuffix(got, want) {
		t.Errorf("got:\n%s", got)
	}
	dsn := devpostgres.Test(t).NewDatabase(t)
	target := readyAt(t, Config{DSN: dsn, Mappings: []storage.Mapping{m}})
	if err := target.CheckSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	execute(t, dsn, `ALTER TABLE own_word DROP CONSTRAINT own_word_pkey; CREATE UNIQUE INDEX ON own_word ("order", thing_id, word);
		ALTER TABLE own_part DROP CONSTRAINT own_part_pkey; CREATE UNIQUE INDEX ON own_part (name, thing_id);
		ALTER TABLE own_word ALTER word TYPE integer USING 0; DROP TABLE own_note`)
	err := target.CheckSchema(t.Context())
	for _, want := range []string{"table own_word: column order, thing_id is not the primary key", "column word is integer, want text", "table own_note of own is missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if err != nil && strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("other faults too: %v", err)
	}
	// Names that others have.
	other := k.OwnMapping("other", "own_word")
	other.Children[0].Table = watermarkTable
	err = Config{DSN: dsn, Mappings: []storage.Mapping{m, other}}.WithDefaults().Validate()
	for _, want := range []string{"share the table own_word", watermarkTable + " is the platform's"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}
