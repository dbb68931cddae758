package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// database takes PostgreSQL away in every way, and lets others lock it. What is
// cached goes on meanwhile.
func database(t *testing.T) {
	s := devpostgres.Own(t)
	a := newArena(t, broker(t), s.DSN())
	proxy, through := a.throughPostgres()
	edge := a.launch("edge", edger)
	a.launch("processor", processor, through).await()
	a.launch("storage", storer, through).await()
	l := newLoad(t, *seed, edge)
	l.create()
	l.start()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	// other does something as somebody else who uses the database.
	other := func(sql ...string) (*pgx.Conn, pgx.Tx) {
		t.Helper()
		conn, err := pgx.Connect(ctx, a.directDSN)
		must(err)
		tx, err := conn.Begin(ctx)
		must(err)
		for _, q := range sql {
			_, err := tx.Exec(ctx, q)
			must(err)
		}
		return conn, tx
	}
	for _, f := range []struct {
		name  string
		begin func() (end func())
	}{
		{"shut down", func() func() { must(s.Shutdown()); return func() { must(s.Restart(ctx)) } }},
		{"killed", func() func() { must(s.Kill()); return func() { must(s.Restart(ctx)) } }},
		{"frozen", func() func() { must(s.Pause()); return func() { must(s.Resume()) } }},
		{"slow, 300 ms each way", func() func() { proxy.link.slow(300 * time.Millisecond); return proxy.link.heal }},
		{"a table locked by others", func() func() {
			conn, tx := other("LOCK TABLE chaos_left IN ACCESS EXCLUSIVE MODE")
			return func() { must(errors.Join(tx.Rollback(ctx), conn.Close(ctx))) }
		}},
		{"deadlocks with others", func() func() {
			stop, done := make(chan struct{}), make(chan int)
			go func() {
				met := 0
				for {
					select {
					case <-stop:
						done <- met
						return
					default:
					}
					met += deadlock(ctx, a.directDSN)
				}
			}()
			return func() {
				close(stop)
				met := <-done
				eventually(t, "there are deadlocks", func() error {
					var n int
					conn, err := pgx.Connect(ctx, a.directDSN)
					if err != nil {
						return err
					}
					defer func() { _ = conn.Close(ctx) }()
					err = conn.QueryRow(ctx, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&n)
					if err == nil && n == 0 {
						err = errors.New("none")
					}
					if err == nil {
						t.Logf("%d deadlocks, in %d of which the other side was refused", n, met)
					}
					return err
				})
			}
		}},
	} {
		end := f.begin()
		began := time.Now()
		l.succeed(50)
		went := time.Since(began)
		if wait := 3*time.Second - went; wait > 0 {
			<-time.After(wait)
		}
		end()
		began = time.Now()
		rows(a, 15)
		t.Logf("%s: 50 operations succeeded in %v; after the end the rows went on within %v", f.name,
			went.Round(10*time.Millisecond), time.Since(began).Round(10*time.Millisecond))
	}
	l.stop()
	l.verify(a, 300, edge)
}

// deadlock takes locks in the order that the writer does not, and returns 1 if
// this side was refused for it.
func deadlock(ctx context.Context, dsn string) int {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0
	}
	defer func() { _ = conn.Close(ctx) }()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err = tx.Exec(ctx, "SELECT id FROM chaos_left FOR UPDATE"); err == nil {
		_, err = tx.Exec(ctx, "SELECT pg_sleep(0.2)")
	}
	if err == nil {
		_, err = tx.Exec(ctx, "SELECT concern FROM rkcy_watermark FOR UPDATE")
	}
	if err != nil && strings.Contains(err.Error(), "40P01") {
		return 1
	}
	return 0
}

// diskFull fills the file system of the database, a small one in memory, and
// makes room again.
func diskFull(t *testing.T) {
	dir, err := os.MkdirTemp("", "rkcy-chaos-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=160m,mode=755"); err != nil {
		t.Skipf("a file system cannot be mounted (%v), which needs root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s, err := devpostgres.Start(t.Context(), devpostgres.Config{DataDir: filepath.Join(dir, "pg")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	a := newArena(t, broker(t), s.DSN())
	edge := a.launch("edge", edger)
	a.launch("processor", processor).await()
	storage := a.launch("storage", storer).await()
	l := newLoad(t, *seed, edge)
	l.create()
	l.start()
	l.succeed(50)
	filler := filepath.Join(dir, "filler")
	if n := fill(t, filler); n < 1<<20 {
		t.Fatalf("%d bytes were free", n)
	}
	bulk := make(chan error, 1)
	go func() { bulk <- more(a, edge, 40, 100<<10) }() // rows that need new blocks
	eventually(t, "the writer meets a full disk", func() error {
		if !storage.says("storage is held up") {
			return errors.New("it says nothing")
		}
		return nil
	})
	l.succeed(50)
	if err := <-bulk; err != nil {
		t.Error(err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, "the database is up", func() error {
		conn, err := pgx.Connect(t.Context(), a.directDSN)
		if err != nil {
			_ = s.Restart(t.Context()) // a full disk may have ended it
			return err
		}
		return conn.Close(t.Context())
	})
	rows(a, 15)
	t.Logf("50 operations succeeded on the full disk; after room was made the rows went on within %v", time.Since(began).Round(10*time.Millisecond))
	l.stop()
	l.verify(a, 100, edge)
}

// fill writes until there is no room, and returns how much it wrote.
func fill(t *testing.T, file string) int {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	block, n := make([]byte, 64<<10), 0
	for {
		m, err := f.Write(block)
		n += m
		switch {
		case errors.Is(err, syscall.ENOSPC) && len(block) > 512:
			block = block[:512]
		case errors.Is(err, syscall.ENOSPC):
			return n
		case err != nil:
			t.Fatal(err)
		}
	}
}

// more creates n further lists of some size, one after the other. Those that
// are acknowledged are in the feed, which must be what the database has.
func more(a *arena, edge *process, n, size int) error {
	for i := range n {
		if err := bulky(a.t.Context(), edge, i, size); err != nil && status.Code(err) != codes.ResourceExhausted {
			return fmt.Errorf("list %d: %w", i, err)
		}
	}
	return nil
}

// bulky creates a list whose first entry is long, and does not compress to
// nothing.
func bulky(ctx context.Context, edge *process, i, size int) error {
	rng := source(uint64(100 + i))
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "0:%d ", rng.Int64N(1<<40))
	}
	_, err := call(ctx, edge.connect(), []step{{
		Concern: list, Key: fmt.Sprintf("bulk%d", i), Command: txn.CommandCreate, Entry: strings.TrimSpace(b.String()),
	}})
	return err
}

// memory: the database is away for longer than the processor's cache lasts. New
// writes are shed with the right code, and what was accepted is kept.
func memory(t *testing.T) {
	s := devpostgres.Own(t)
	a := newArena(t, broker(t), s.DSN())
	edge := a.launch("edge", edger)
	a.launch("processor", processor, func(s *site) { s.CacheBytes = 4 << 20 }).await()
	a.launch("storage", storer).await()
	l := newLoad(t, *seed, edge)
	l.create()
	l.start()
	l.succeed(50)
	const bulks = 12
	for i := range bulks {
		if _, err := call(t.Context(), edge.connect(), []step{{
			Concern: list, Key: fmt.Sprintf("bulk%d", i), Command: txn.CommandCreate, Entry: firstEntry(list),
		}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	accepted, shed := 0, 0
	for i := range 8 * bulks { // each list grows to 800 KiB
		o, err := l.do(clients, edge.connect(), []step{{
			Concern: list, Key: fmt.Sprintf("bulk%d", i%bulks), Command: commandEnter, Entry: strings.Repeat("0", 100<<10),
		}})
		switch code := status.Code(o.err); {
		case err != nil:
			t.Fatal(err)
		case code == codes.OK && shed == 0:
			accepted++
		case code == codes.ResourceExhausted:
			shed++
		case code != codes.OK:
			t.Fatalf("entry %d: %v", i, o.err)
		}
	}
	if shed == 0 || accepted < 10 {
		t.Errorf("with a cache of 4 MiB %d entries of 100 KiB were accepted, and %d refused", accepted, shed)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	rows(a, 5)
	t.Logf("%d entries of 100 KiB accepted, then %d shed; after the end the rows went on within %v", accepted, shed, time.Since(began).Round(10*time.Millisecond))
	l.succeed(50)
	l.stop()
	l.verify(a, 60, edge)
}
