package devpostgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// envParent makes the test binary a process that starts a server, says so, and
// waits to be killed.
const envParent = "DEVPOSTGRES_PARENT_OF"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envParent); dir != "" {
		s, err := Start(context.Background(), Config{DataDir: dir})
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		fmt.Println("ready", s.process.pid())
		select {}
	}
	os.Exit(Main(m))
}

// dataDir returns a folder that the server's user can reach, unlike
// t.TempDir's when the test runs as root.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "devpostgres-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "pg")
}

func query[T any](t *testing.T, dsn, sql string) (out T, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return out, err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, sql).Scan(&out)
	return out, err
}

func exec1(t *testing.T, dsn, sql string) {
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

func TestTemporaryServer(t *testing.T) {
	s, err := Start(t.Context(), Config{Database: "or\"der"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := query[string](t, s.DSN(), "SELECT current_database() || ' ' || current_setting('server_encoding') || ' ' || current_setting('listen_addresses')")
	if err != nil || got != "or\"der UTF8 127.0.0.1" {
		t.Errorf("got %q, %v", got, err)
	}
	withoutPassword := strings.Replace(s.DSN(), s.password, "guess", 1)
	if _, err := query[int](t, withoutPassword, "SELECT 1"); err == nil || !strings.Contains(err.Error(), "28P01") {
		t.Errorf("a wrong password gave %v", err)
	}
	dir := s.dir
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

func TestDataStays(t *testing.T) {
	dir := dataDir(t)
	for run := range 3 {
		s, err := Start(t.Context(), Config{DataDir: dir, Database: "app"})
		if err != nil {
			t.Fatal(err)
		}
		exec1(t, s.DSN(), "CREATE TABLE IF NOT EXISTS runs (n int)")
		exec1(t, s.DSN(), "INSERT INTO runs VALUES (1)")
		if n, err := query[int](t, s.DSN(), "SELECT count(*) FROM runs"); err != nil || n != run+1 {
			t.Errorf("run %d: %d rows, %v", run, n, err)
		}
		if fsync, err := query[string](t, s.DSN(), "SHOW fsync"); err != nil || fsync != "on" {
			t.Errorf("fsync is %q, %v", fsync, err)
		}
		info, err := os.Stat(filepath.Join(dir, "password"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("password file: %v, %v", info, err)
		}
		if run == 1 {
			err = s.Kill()
			if err == nil {
				err = s.Stop()
			}
		} else {
			err = s.Stop()
		}
		if err != nil {
			t.Error(err)
		}
	}
}

func TestInUse(t *testing.T) {
	dir := dataDir(t)
	s, err := Start(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }()
	if _, err := Start(t.Context(), Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second server on the folder gave %v", err)
	}
	if _, err := query[int](t, s.DSN(), "SELECT 1"); err != nil {
		t.Errorf("the first server after that: %v", err)
	}
	// A server that somebody started by hand: nobody holds the lock.
	if err := s.lock.Close(); err != nil {
		t.Fatal(err)
	}
	s.lock = nil
	if _, err := Start(t.Context(), Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second server without the lock gave %v", err)
	}
	if _, err := query[int](t, s.DSN(), "SELECT 1"); err != nil {
		t.Errorf("the first server after that: %v", err)
	}
}

func TestKillAndRestart(t *testing.T) {
	s := Own(t)
	exec1(t, s.DSN(), "CREATE TABLE t (n int)")
	addr := s.Addr()
	for range 3 {
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := query[int](t, s.DSN(), "SELECT 1"); err == nil {
			t.Fatal("a killed server answers")
		}
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.Addr() != addr {
			t.Errorf("address %s became %s", addr, s.Addr())
		}
		if n, err := query[int](t, s.DSN(), "SELECT count(*) FROM t"); err != nil || n != 0 {
			t.Errorf("%d, %v", n, err)
		}
	}
}

func TestPause(t *testing.T) {
	s := Own(t)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if conn, err := pgx.Connect(ctx, s.DSN()); err == nil {
		_ = conn.Close(ctx)
		t.Error("a paused server answers")
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := query[int](t, s.DSN(), "SELECT 1"); err != nil {
		t.Error(err)
	}
	// Stopping a paused server ends too.
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
}

// parent starts a process that starts a server on the folder.
func parent(t *testing.T, dir string) (cmd *exec.Cmd, server int) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "-test.run=^$") //nolint:gosec,noctx // ourselves
	cmd.Env = append(os.Environ(), envParent+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := fmt.Fscanf(out, "ready %d\n", &server); err != nil {
		t.Fatalf("the process that starts a server: %v", err)
	}
	return cmd, server
}

func TestParentKilled(t *testing.T) {
	dir := dataDir(t)
	var last int
	for range 2 {
		cmd, server := parent(t, dir)
		last = server
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		// At once: the old server is still shutting down.
	}
	s, err := Start(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := query[int](t, s.DSN(), "SELECT 1"); err != nil {
		t.Error(err)
	}
	if !zombie(last) && serves(last, s.dataDir()) {
		t.Errorf("server %d is still there", last)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

// A machine that loses power leaves a postmaster.pid whose number soon belongs
// to another process.
func TestStalePidFile(t *testing.T) {
	dir := dataDir(t)
	s, err := Start(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(s.dataDir(), "postmaster.pid")
	text, err := os.ReadFile(pidFile) //nolint:gosec // a test
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Kill(), s.Stop()); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "600")
	other.SysProcAttr = &syscall.SysProcAttr{}
	if s.owner != nil { // PostgreSQL looks at processes of its own user only
		other.SysProcAttr.Credential = &syscall.Credential{Uid: s.owner.uid, Gid: s.owner.gid}
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	_, rest, _ := strings.Cut(string(text), "\n")
	if err := os.WriteFile(pidFile, []byte(fmt.Sprintf("%d\n%s", other.Process.Pid, rest)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.owner.own(pidFile); err != nil {
		t.Fatal(err)
	}
	s, err = Start(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func TestInterruptedInit(t *testing.T) {
	dir := dataDir(t)
	left := filepath.Join(dir, "init-1234", "base")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a folder with other things in it gave %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Stop() }()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", left, err)
	}
}

func TestOtherVersion(t *testing.T) {
	dir := dataDir(t)
	s, err := Start(t.Context(), Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "pg_upgrade") {
		t.Errorf("got %v", err)
	}
}

func TestUnreachableFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: the server runs as this user, so every folder can be reached")
		return
	}
	dir := dataDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{DataDir: filepath.Join(dir, "pg")})
	if err == nil || !strings.Contains(err.Error(), "chmod o+x "+dir) {
		t.Errorf("got %v", err)
	}
}

func TestBadAddress(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "example.org:5432", "nonsense"} {
		if _, err := Start(t.Context(), Config{Addr: addr}); err == nil {
			t.Errorf("%s was taken", addr)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := Start(t.Context(), Config{Addr: l.Addr().String()}); !errors.Is(err, errPortTaken) {
		t.Errorf("a port that is taken gave %v", err)
	}
}

func BenchmarkStart(b *testing.B) {
	b.Run("temporary", func(b *testing.B) {
		for b.Loop() {
			s, err := Start(b.Context(), Config{})
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := s.Stop(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("again", func(b *testing.B) {
		s, err := Start(b.Context(), Config{})
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = s.Stop() }()
		for b.Loop() {
			b.StopTimer()
			if err := s.Shutdown(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			if err := s.Restart(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	var g errgroup.Group
	for range 3 {
		g.Go(func() error {
			s, err := Start(t.Context(), Config{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			return s.Stop()
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func TestNewDatabase(t *testing.T) {
	var first, second string
	t.Run("inner", func(t *testing.T) {
		first, second = Test(t).NewDatabase(t), Test(t).NewDatabase(t)
		exec1(t, first, "CREATE TABLE t (n int)")
		if there, err := query[bool](t, second, "SELECT to_regclass('t') IS NOT NULL"); err != nil || there {
			t.Errorf("databases are not apart: %v, %v", there, err)
		}
	})
	if _, err := query[int](t, first, "SELECT 1"); err == nil || !strings.Contains(err.Error(), "3D000") {
		t.Errorf("the database is still there: %v", err)
	}
}
