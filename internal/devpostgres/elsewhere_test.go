package devpostgres

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Root's home is closed to the user that PostgreSQL runs as, and a stranger may
// well start there.
func TestDataOutOfReachIsKeptElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has another user run PostgreSQL; nothing is tested here")
	}
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	elsewhere, err := os.MkdirTemp("", "rkcy-elsewhere-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(elsewhere) })
	if err := os.Chmod(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	told := ""
	cfg := Config{DataDir: filepath.Join(closed, "postgres"), Progress: func(text string) { told += text }}
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "cannot pass through") {
		t.Fatalf("without another folder: %v", err)
	}
	cfg.Elsewhere = elsewhere
	for _, statement := range []string{"CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)"} {
		s, err := Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(t.Context(), s.DSN())
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Exec(t.Context(), statement)
		_ = conn.Close(t.Context())
		if stopped := s.Stop(); err != nil || stopped != nil {
			t.Fatalf("%s: %v, %v", statement, err, stopped)
		}
	}
	if !strings.Contains(told, elsewhere) {
		t.Errorf("nobody was told where the data is: %q", told)
	}
}
