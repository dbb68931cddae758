package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/storagetest"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestMain(m *testing.M) { os.Exit(devpostgres.Main(m)) }

// migrations returns those that make the tables of the mappings.
func migrations(mappings []storage.Mapping) fstest.MapFS {
	var text strings.Builder
	text.WriteString("-- +goose Up\n")
	for _, m := range mappings {
		text.WriteString(Schema(m))
	}
	return fstest.MapFS{"00001_tables.sql": {Data: []byte(text.String())}}
}

func open(t *testing.T, cfg Config) *Target {
	t.Helper()
	target, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	return target
}

// ready returns a target with tables, on a database of its own.
func ready(t *testing.T, mappings []storage.Mapping) *Target {
	t.Helper()
	return readyAt(t, Config{DSN: devpostgres.Test(t).NewDatabase(t), Mappings: mappings})
}

func readyAt(t *testing.T, cfg Config) *Target {
	t.Helper()
	if _, err := Migrate(t.Context(), cfg.DSN, migrations(cfg.Mappings), nil); err != nil {
		t.Fatal(err)
	}
	return open(t, cfg)
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func batch(concern string, from int64, changes ...*rkcyv1.Change) []storage.Batch {
	return []storage.Batch{{
		Partition: storage.Partition{Concern: concern, Generation: 1}, From: from, Next: from + int64(len(changes)), Changes: changes,
	}}
}

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T, mappings []storage.Mapping) storagetest.Target {
		target := ready(t, mappings)
		if err := target.CheckSchema(t.Context()); err != nil {
			t.Fatal(err)
		}
		return target
	})
}

func TestNoGoroutineStays(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	target, err := Open(Config{DSN: devpostgres.Test(t).DSN()})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	target.Close()
	// The server itself, if this test is the first, has a goroutine.
	goleak.VerifyNone(t, ignore, goleak.IgnoreAnyFunction("os/exec.(*Cmd).Wait"))
}

// The columns that every table has besides those of its mapping.
func TestVersionAndTime(t *testing.T) {
	k := storagetest.NewKind()
	target := ready(t, storagetest.Mappings(k))
	if err := target.Apply(t.Context(), batch(storagetest.First, 0, storagetest.Put(k.Thing("a", nil), 7))); err != nil {
		t.Fatal(err)
	}
	var version int64
	var at time.Time
	var null bool
	err := target.pool.QueryRow(t.Context(), "SELECT rkcy_version, rkcy_time, part IS NULL AND maybe_raw IS NULL AND words = '[]' FROM first").Scan(&version, &at, &null)
	if err != nil || version != 7 || at.UnixMilli() != 1_700_000_000_000 || !null {
		t.Errorf("version %d, time %v, null %v, %v", version, at, null, err)
	}
}

// A row that the database refuses holds up nothing but its own transaction, is
// permanent, and says which constraint it is.
func TestRefusedRow(t *testing.T) {
	k := storagetest.NewKind()
	target := ready(t, storagetest.Mappings(k))
	if _, err := target.pool.Exec(t.Context(), `ALTER TABLE first ADD CONSTRAINT decent CHECK ("user" <> 'rude')`); err != nil {
		t.Fatal(err)
	}
	rude := storagetest.Put(k.Thing("b", map[string]any{"user": "rude"}), 1)
	err := target.Apply(t.Context(), batch(storagetest.First, 0, storagetest.Put(k.Thing("a", nil), 1), rude))
	if !errors.Is(err, storage.ErrPermanent) || !strings.Contains(err.Error(), "decent") || !strings.Contains(err.Error(), "first") {
		t.Errorf("got %v", err)
	}
	if got, err := target.Load(t.Context(), storagetest.First, []string{"a", "b"}); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if err := target.Apply(t.Context(), batch(storagetest.First, 0, storagetest.Put(k.Thing("a", nil), 1))); err != nil {
		t.Error(err)
	}
}

func TestLoad(t *testing.T) {
	k := storagetest.NewKind()
	target := ready(t, storagetest.Mappings(k))
	for _, keys := range [][]string{nil, {"missing"}, {"", "nul\x00", "broken\xff"}, make([]string, 5000)} {
		if got, err := target.Load(t.Context(), storagetest.First, keys); err != nil || len(got) != 0 {
			t.Errorf("%d keys: got %v, %v", len(keys), got, err)
		}
	}
	if _, err := target.Load(t.Context(), "unknown", []string{"a"}); txn.CodeOf(err) != txn.CodeUnimplemented {
		t.Errorf("an unknown Concern gave %v", err)
	}
	// What is not fit to be read.
	if err := target.Apply(t.Context(), batch(storagetest.First, 0, storagetest.Put(k.Thing("a", nil), 1))); err != nil {
		t.Fatal(err)
	}
	if _, err := target.pool.Exec(t.Context(), `UPDATE first SET words = '{"no":"list"}'`); err != nil {
		t.Fatal(err)
	}
	_, err := target.Load(t.Context(), storagetest.First, []string{"a"})
	if e := txn.AsError(err); e == nil || e.Code != txn.CodeInternal || e.Details[txn.DetailKey] != "a" || !strings.Contains(e.Message, "words") {
		t.Errorf("got %v", err)
	}
	// A migration under way: the plan of the prepared statement no longer fits.
	if _, err := target.pool.Exec(t.Context(), `UPDATE first SET words = '[]'; ALTER TABLE first ALTER COLUMN "order" TYPE bigint`); err != nil {
		t.Fatal(err)
	}
	if got, err := target.Load(t.Context(), storagetest.First, []string{"a"}); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := target.pool.Exec(t.Context(), `DROP TABLE first`); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Load(t.Context(), storagetest.First, []string{"a"}); txn.CodeOf(err) != txn.CodeInternal || !strings.Contains(err.Error(), migrateHint) {
		t.Errorf("got %v", err)
	}
}

func TestDatabaseAway(t *testing.T) {
	server := devpostgres.Own(t)
	k := storagetest.NewKind()
	target := readyAt(t, Config{
		DSN: server.NewDatabase(t), Mappings: storagetest.Mappings(k), LoadTimeout: 10 * time.Second, BreakerPause: time.Millisecond,
	})
	ctx := t.Context()
	put := func(n int) error {
		return target.Apply(ctx, batch(storagetest.First, int64(n), storagetest.Put(k.Thing(fmt.Sprint(n), nil), 1)))
	}
	if err := put(0); err != nil {
		t.Fatal(err)
	}
	for round := 1; round < 3; round++ {
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := put(round); err == nil || errors.Is(err, storage.ErrPermanent) || errors.Is(err, storage.ErrStale) {
			t.Errorf("got %v", err)
		}
		if _, err := target.Load(ctx, storagetest.First, []string{"0"}); txn.CodeOf(err) != txn.CodeUnavailable {
			t.Errorf("got %v", err)
		}
		if _, err := target.Watermarks(ctx, []storage.Partition{{Concern: storagetest.First, Generation: 1}}); err == nil {
			t.Error("there are watermarks without a database")
		}
		if err := target.Ping(ctx); err == nil {
			t.Error("the database answers, though killed")
		}
		if err := server.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		// The pool has nothing but connections that are dead; the same as a
		// writer does.
		for err := put(round); err != nil; err = put(round) {
			if errors.Is(err, storage.ErrPermanent) || errors.Is(err, storage.ErrStale) || ctx.Err() != nil {
				t.Fatal(err)
			}
		}
		var got map[string]*rkcyv1.Instance
		var err error
		for ok := false; !ok; ok = err == nil {
			if got, err = target.Load(ctx, storagetest.First, []string{"0", fmt.Sprint(round)}); err != nil && txn.CodeOf(err) != txn.CodeUnavailable {
				t.Fatal(err)
			}
		}
		if len(got) != 2 {
			t.Errorf("got %v", got)
		}
	}
}

// One read alone finds out that the database is back, with connections that
// died meanwhile.
func TestLoadAfterRestart(t *testing.T) {
	server := devpostgres.Own(t)
	k := storagetest.NewKind()
	target := readyAt(t, Config{DSN: server.NewDatabase(t), Mappings: storagetest.Mappings(k), LoadTimeout: time.Minute})
	var g errgroup.Group
	for range 20 { // so that the pool has several connections
		g.Go(func() error { _, err := target.Load(t.Context(), storagetest.First, []string{"0"}); return err })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := server.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Load(t.Context(), storagetest.First, []string{"0"}); err != nil {
		t.Error(err)
	}
}

// A database that takes connections and does not answer.
func TestBlackHole(t *testing.T) {
	server := devpostgres.Own(t)
	k := storagetest.NewKind()
	target := readyAt(t, Config{
		DSN: server.NewDatabase(t), Mappings: storagetest.Mappings(k), LoadTimeout: 200 * time.Millisecond, BreakerPause: time.Hour,
	})
	now := time.Now()
	target.breaker.now = func() time.Time { return now }
	load := func() error { _, err := target.Load(t.Context(), storagetest.First, []string{"a"}); return err }
	if err := load(); err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"in time", "does not answer", "does not answer"} {
		if err := load(); txn.CodeOf(err) != txn.CodeUnavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	now = now.Add(2 * time.Hour)
	if err := load(); err == nil || !strings.Contains(err.Error(), "in time") {
		t.Errorf("the probe gave %v", err)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := load(); err == nil {
		t.Error("a read before the pause was over")
	}
	target.cfg.LoadTimeout = time.Minute
	now = now.Add(2 * time.Hour)
	for range 2 {
		if err := load(); err != nil {
			t.Errorf("got %v", err)
		}
	}
}

func TestOpenWhileAway(t *testing.T) {
	server := devpostgres.Own(t)
	k := storagetest.NewKind()
	dsn := server.NewDatabase(t)
	if _, err := Migrate(t.Context(), dsn, migrations(storagetest.Mappings(k)), nil); err != nil {
		t.Fatal(err)
	}
	if err := server.Shutdown(); err != nil {
		t.Fatal(err)
	}
	target := open(t, Config{DSN: dsn, Mappings: storagetest.Mappings(k)})
	if err := target.CheckSchema(t.Context()); err == nil {
		t.Error("the schema was checked without a database")
	}
	if _, err := Migrate(t.Context(), dsn, nil, nil); err == nil {
		t.Error("migrations ran without a database")
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := target.CheckSchema(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBadConfig(t *testing.T) {
	const secret = "tr0ub4dor"
	k := storagetest.NewKind()
	good := "postgres://u:p@localhost/db"
	odd := k.Mapping("odd", "odd")
	odd.Columns[1].Type = "varchar(9)"
	for name, c := range map[string]struct {
		cfg  Config
		want []string
	}{
		"empty":        {Config{}, []string{"DSN is empty"}},
		"port":         {Config{DSN: "postgres://u:" + secret + "@localhost:port/db"}, []string{"port"}},
		"host":         {Config{DSN: "postgres://u:" + secret + "@[::1/db"}, []string{"IPv6"}},
		"escape":       {Config{DSN: "postgres://u:" + secret + "%zz@localhost/db"}, []string{"percent"}},
		"sslmode":      {Config{DSN: "postgres://u:" + secret + "@localhost/db?sslmode=perhaps"}, []string{"sslmode"}},
		"words":        {Config{DSN: "host=localhost password=" + secret + " sslmode=perhaps"}, []string{"sslmode"}},
		"quoted":       {Config{DSN: "host=localhost password='a b\\'" + secret + "' sslmode=perhaps"}, []string{"sslmode"}},
		"unterminated": {Config{DSN: "host=localhost password='a " + secret}, []string{"DSN"}},
		"nonsense":     {Config{DSN: "hello world"}, []string{"DSN"}},
		"in the query": {Config{DSN: "postgres://localhost:x/db?password=" + secret}, []string{"DSN"}},
		"at signs":     {Config{DSN: "postgres://u:p@" + secret + "@localhost:x/db"}, []string{"DSN"}},
		"limits":       {Config{DSN: good, MaxConns: -1}, []string{"negative"}},
		"twice": {Config{DSN: good, Mappings: []storage.Mapping{k.Mapping("a", "t"), k.Mapping("a", "t")}},
			[]string{"two mappings of a", "share the table t"}},
		"reserved": {Config{DSN: good, Mappings: []storage.Mapping{k.Mapping("a", watermarkTable)}}, []string{watermarkTable}},
		"type":     {Config{DSN: good, Mappings: []storage.Mapping{odd, {}}}, []string{"odd", "user", "varchar(9)", "function is missing"}},
	} {
		target, err := Open(c.cfg)
		if err == nil {
			target.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in: %v", name, w, err)
			}
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the password is in: %v", name, err)
		}
	}
}

func TestRedact(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://u:p@h:1/db":                "postgres://u:***@h:1/db",
		"postgres://u@h/db":                    "postgres://u@h/db",
		"postgres://u:a@b@h/db?sslpassword=xy": "postgres://u:***@h/db?sslpassword=***",
		"host=h password=p dbname=d":           "host=h password=*** dbname=d",
		"host=h password = 'p q' dbname=d":     "host=h password = *** dbname=d",
	} {
		if got := Redact(dsn); got != want {
			t.Errorf("%s became %s, want %s", dsn, got, want)
		}
	}
}

// Errors of the server do not show the values of rows.
func TestNoValuesInErrors(t *testing.T) {
	k := storagetest.NewKind()
	target := ready(t, storagetest.Mappings(k))
	if _, err := target.pool.Exec(t.Context(), `CREATE UNIQUE INDEX one_name ON first ("user")`); err != nil {
		t.Fatal(err)
	}
	private := map[string]any{"user": "private-matter"}
	err := target.Apply(t.Context(), batch(storagetest.First, 0, storagetest.Put(k.Thing("a", private), 1), storagetest.Put(k.Thing("b", private), 1)))
	if !errors.Is(err, storage.ErrPermanent) || !strings.Contains(err.Error(), "one_name") || strings.Contains(err.Error(), "private-matter") {
		t.Errorf("got %v", err)
	}
}

func BenchmarkApply(b *testing.B) {
	for _, rows := range []int{1, 100, 5000} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			k := storagetest.NewKind()
			mappings := storagetest.Mappings(k)
			dsn := devpostgres.Test(b).NewDatabase(b)
			if _, err := Migrate(b.Context(), dsn, migrations(mappings), nil); err != nil {
				b.Fatal(err)
			}
			target, err := Open(Config{DSN: dsn, Mappings: mappings})
			if err != nil {
				b.Fatal(err)
			}
			defer target.Close()
			var changes []*rkcyv1.Change
			for i := range rows {
				changes = append(changes, storagetest.Put(k.Thing(fmt.Sprint(i), map[string]any{"user": "name"}), 1))
			}
			from := int64(0)
			for b.Loop() {
				if err := target.Apply(b.Context(), batch(storagetest.First, from, changes...)); err != nil {
					b.Fatal(err)
				}
				from += int64(rows)
			}
			b.ReportMetric(float64(from)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
