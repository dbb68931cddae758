package devpostgres

import (
	"os"
	"path/filepath"
	"testing"
)

// What was unpacked for one user can be read and run by every other, and
// nothing outside the folder changes.
func TestOpenUp(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	bin := filepath.Join(dir, "home", "bin")
	for _, err := range []error{
		os.MkdirAll(bin, 0o700),
		os.WriteFile(filepath.Join(bin, "postgres"), nil, 0o700), //nolint:gosec // a program
		os.WriteFile(filepath.Join(bin, "sample.conf"), nil, 0o600),
		os.WriteFile(outside, nil, 0o600),
		os.Symlink(outside, filepath.Join(bin, "link")),
		openUp(filepath.Join(dir, "home")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]os.FileMode{
		filepath.Join(dir, "home"): 0o755, bin: 0o755, filepath.Join(bin, "postgres"): 0o755,
		filepath.Join(bin, "sample.conf"): 0o644, outside: 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v (%v), want %v", path, info.Mode().Perm(), err, want)
		}
	}
}
