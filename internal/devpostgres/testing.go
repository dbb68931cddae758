package devpostgres

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// EnvPostgres names a running server, as the URL of an account that may create
// databases, that tests use instead of one of their own.
const EnvPostgres = "RKCY_TEST_POSTGRES"

// shared is the one server of a test process.
var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// Main runs the tests of a package and stops the server that they shared:
//
//	func TestMain(m *testing.M) { os.Exit(devpostgres.Main(m)) }
//
// Without it the server ends with the process on Linux, and its folder is
// removed by the next temporary server.
func Main(m *testing.M) int {
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "devpostgres:", err)
			code = max(code, 1)
		}
	}
	return code
}

// Test returns the server that the tests of this process share. It must not be
// stopped by them. The test fails if there is no server to be had.
func Test(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() {
		if at := os.Getenv(EnvPostgres); at != "" {
			shared.server, shared.err = given(at)
			return
		}
		shared.server, shared.err = Start(context.Background(), Config{})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// Own returns a server of the test's own, to be stopped, killed and paused.
func Own(t testing.TB) *Server {
	t.Helper()
	s, err := Start(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// given returns a server that somebody else runs.
func given(dsn string) (*Server, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return nil, fmt.Errorf("%s is not postgres://user:password@host:port/name", EnvPostgres)
	}
	return &Server{given: u, addr: u.Host}, nil
}

// NewDatabase returns the DSN of a fresh, empty database that is dropped when
// the test ends.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text()[:12])
	if err := createDatabase(t.Context(), s.DSN(), name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.given == nil && s.running() == nil {
			return // stopped or killed by the test, and temporary
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := dropDatabase(ctx, s.DSN(), name); err != nil {
			t.Error(err)
		}
	})
	return s.DSNFor(name)
}

func dropDatabase(ctx context.Context, dsn, name string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}
