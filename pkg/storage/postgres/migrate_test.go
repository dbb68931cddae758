package postgres

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/storagetest"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestMigrate(t *testing.T) {
	dsn := devpostgres.Test(t).NewDatabase(t)
	app := fstest.MapFS{
		"00001_a.sql": file("-- +goose Up\nCREATE TABLE a (n int);\n"),
		"00002_b.sql": file("-- +goose Up\nCREATE TABLE b (n int);\nCREATE TABLE c (n int);\n"),
		"README.md":   file("not a migration"),
	}
	all := []string{"00001_watermark.sql", "00001_a.sql", "00002_b.sql"}
	check := func(what string, want []string, do func() ([]string, error)) {
		t.Helper()
		if got, err := do(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v; want %q", what, got, err, want)
		}
	}
	pending := func() ([]string, error) { return Pending(t.Context(), dsn, app) }
	migrate := func() ([]string, error) { return Migrate(t.Context(), dsn, app, nil) }
	check("pending", all, pending)
	check("pending again: looking changes nothing", all, pending)
	check("migrate", all, migrate)
	check("pending after", nil, pending)
	check("migrate again", nil, migrate)
	app["00003_d.sql"] = file("-- +goose Up\nCREATE TABLE d (n int);\n")
	check("one more is pending", []string{"00003_d.sql"}, pending)
	check("one more", []string{"00003_d.sql"}, migrate)
	// What fails is named, and undone; what came before stays.
	app["00004_e.sql"] = file("-- +goose Up\nCREATE TABLE e (n int);\n")
	app["00005_f.sql"] = file("-- +goose Up\nCREATE TABLE f (n int);\nCREATE TABEL g (n int);\n")
	applied, err := migrate()
	if err == nil || !strings.Contains(err.Error(), "00005_f.sql") || !slices.Equal(applied, []string{"00004_e.sql"}) {
		t.Errorf("got %q, %v", applied, err)
	}
	check("the one that failed", []string{"00005_f.sql"}, pending)
	app["00005_f.sql"] = file("-- +goose Up\nCREATE TABLE f (n int);\n")
	check("repaired", []string{"00005_f.sql"}, migrate)
	// No migrations of one's own.
	for _, none := range []fs.FS{nil, fstest.MapFS{}} {
		check("none", nil, func() ([]string, error) { return Migrate(t.Context(), dsn, none, nil) })
		check("none", nil, func() ([]string, error) { return Pending(t.Context(), dsn, none) })
	}
}

func TestMigrateAtOnce(t *testing.T) {
	dsn := devpostgres.Test(t).NewDatabase(t)
	app := fstest.MapFS{
		"00001_a.sql": file("-- +goose Up\nCREATE TABLE a (n int);\n"),
		// Waits for every transaction that is under way.
		"00002_b.sql": file("-- +goose NO TRANSACTION\n-- +goose Up\nCREATE INDEX CONCURRENTLY by_n ON a (n);\n"),
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ran := make([][]string, 6)
	var g errgroup.Group
	for i := range ran {
		g.Go(func() (err error) {
			ran[i], err = Migrate(ctx, dsn, app, nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := slices.Concat(ran...); len(got) != 3 {
		t.Errorf("ran %q, want each of three once", ran)
	}
}

func TestMigrateWaitsNoLongerThanAsked(t *testing.T) {
	dsn := devpostgres.Test(t).NewDatabase(t)
	holder := open(t, Config{DSN: dsn})
	conn, err := holder.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock($1)", int64(migrationLock)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Migrate(ctx, dsn, nil, nil); err == nil {
		t.Error("migrations ran beside others")
	}
}

func TestSchema(t *testing.T) {
	const want = `CREATE TABLE "user" (
    id           text             PRIMARY KEY,
    "user"       text             NOT NULL,
    flag         boolean          NOT NULL,
    "order"      integer          NOT NULL,
    big          bigint           NOT NULL,
    unsigned     bigint           NOT NULL,
    huge         text             NOT NULL,
    real         real             NOT NULL,
    double       double precision NOT NULL,
    raw          bytea            NOT NULL,
    color        integer          NOT NULL,
    part         jsonb,
    words        jsonb            NOT NULL,
    parts        jsonb            NOT NULL,
    maybe_text   text,
    maybe_flag   boolean,
    maybe_int    integer,
    maybe_big    bigint,
    maybe_real   real,
    maybe_double double precision,
    maybe_raw    bytea,
    "left"       text,
    "right"      jsonb,
    rkcy_version bigint           NOT NULL,
    rkcy_time    timestamptz      NOT NULL
);
CREATE INDEX ON "user" USING hash ("user");
CREATE INDEX ON "user" USING btree (big);
CREATE INDEX ON "user" USING hash (raw);
CREATE INDEX ON "user" USING gin (part jsonb_path_ops);
`
	if got := Schema(storagetest.NewKind().Mapping("second", "user")); got != want {
		t.Errorf("got:\n%s", got)
	}
}

func TestCheckSchema(t *testing.T) {
	k := storagetest.NewKind()
	mappings := append(storagetest.Mappings(k), k.Mapping("third", "third"))
	dsn := devpostgres.Test(t).NewDatabase(t)
	target := open(t, Config{DSN: dsn, Mappings: mappings})
	err := target.CheckSchema(t.Context())
	for _, want := range []string{"rkcy_watermark is missing", "table first of first is missing", "table user of second is missing", migrateHint} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if _, err := Migrate(t.Context(), dsn, migrations(mappings), nil); err != nil {
		t.Fatal(err)
	}
	if err := target.CheckSchema(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What does no harm.
	execute(t, dsn, `ALTER TABLE third ALTER COLUMN "order" TYPE bigint, ALTER COLUMN "user" TYPE varchar, ADD note text,
		ADD counter int NOT NULL DEFAULT 1, ADD doubled bigint NOT NULL GENERATED ALWAYS AS (big * 2) STORED`)
	if err := target.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
	if err := target.Apply(t.Context(), batch("third", 0, storagetest.Put(k.Thing("a", map[string]any{"order": int32(7)}), 1))); err != nil {
		t.Error(err)
	}
	if got, err := target.Load(t.Context(), "third", []string{"a"}); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	// Each fault is named, in one error.
	execute(t, dsn, `
		ALTER TABLE first DROP COLUMN words;
		ALTER TABLE first ALTER COLUMN part SET NOT NULL;
		ALTER TABLE first DROP CONSTRAINT first_pkey;
		ALTER TABLE first ADD surprise text NOT NULL;
		ALTER TABLE "user" DROP COLUMN rkcy_version;
		ALTER TABLE "user" ALTER COLUMN big TYPE integer;
		ALTER TABLE "user" ALTER COLUMN "user" TYPE varchar(3);
		DROP TABLE third`)
	err = target.CheckSchema(t.Context())
	for _, want := range []string{
		"table first: column words jsonb is missing", "table first: column part is NOT NULL", "table first: column id is not the primary key",
		"table first: column surprise is NOT NULL without a default", "table user: column rkcy_version bigint is missing",
		"table user: column big is integer, want bigint", "table user: column user is character varying(3), want text",
		"table third of third is missing",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if err != nil && strings.Count(err.Error(), "\n") != 8 {
		t.Errorf("other faults too: %v", err)
	}
}

var _ storage.Target = (*Target)(nil)
