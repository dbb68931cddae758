package devpostgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	embedded "github.com/fergusstrange/embedded-postgres"
)

const (
	// oldest is the oldest major version that works.
	oldest = 15
	// fetched is the version that is fetched where none is installed.
	fetched = embedded.V18
	// EnvBinaries names the folder of the programs to use, before all others;
	// "fetch" uses fetched ones although some are installed.
	EnvBinaries = "RKCY_POSTGRES_BIN"
)

// binaries is a folder with initdb and postgres.
type binaries struct {
	dir   string
	major int
}

// findBinaries returns the newest programs that are installed, else fetches
// some.
func findBinaries(ctx context.Context, o *owner, progress func(string)) (binaries, error) {
	var candidates []string
	switch want := os.Getenv(EnvBinaries); want {
	case "fetch":
		return fetchBinaries(ctx, o, progress)
	case "":
		if path, err := exec.LookPath("postgres"); err == nil {
			// On Debian what is on the path is a link, initdb is behind it.
			if path, err = filepath.EvalSymlinks(path); err == nil {
				candidates = append(candidates, filepath.Dir(path))
			}
		}
		for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"} {
			found, err := filepath.Glob(pattern)
			if err != nil {
				return binaries{}, err
			}
			candidates = append(candidates, found...)
		}
	default:
		b, err := inspect(ctx, o, want)
		if err != nil {
			return b, fmt.Errorf("%s=%s: %w", EnvBinaries, want, err)
		}
		return b, nil
	}
	var best binaries
	for _, dir := range candidates {
		if b, err := inspect(ctx, o, dir); err == nil && b.major > best.major {
			best = b
		}
	}
	if best.major > 0 {
		return best, nil
	}
	return fetchBinaries(ctx, o, progress)
}

// inspect says what the programs in a folder are, or why they cannot be used.
func inspect(ctx context.Context, o *owner, dir string) (binaries, error) {
	for _, program := range []string{"postgres", "initdb"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil { //nolint:gosec // where the operator says
			return binaries{}, err
		}
	}
	if at := o.blockedAt(dir); at != "" {
		return binaries{}, fmt.Errorf("the user %s cannot pass through %s", o.name, at)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output() //nolint:gosec // as found
	if err != nil {
		return binaries{}, fmt.Errorf("%s/postgres --version: %w", dir, err)
	}
	major, err := majorOf(string(out))
	if err != nil {
		return binaries{}, err
	}
	if major < oldest {
		return binaries{}, fmt.Errorf("%s is version %d; want %d or newer", dir, major, oldest)
	}
	return binaries{dir, major}, nil
}

// majorOf reads "postgres (PostgreSQL) 15.18 (Debian …)".
func majorOf(text string) (int, error) {
	_, rest, ok := strings.Cut(text, "(PostgreSQL) ")
	if !ok {
		return 0, fmt.Errorf("%q has no version", text)
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	return strconv.Atoi(rest[:end])
}

// fetchBinaries returns the programs in the cache, after it has put them there.
func fetchBinaries(ctx context.Context, o *owner, progress func(string)) (binaries, error) {
	cache, err := cacheDir(o)
	if err != nil {
		return binaries{}, err
	}
	home := filepath.Join(cache, "postgres-"+string(fetched))
	if b, err := inspect(ctx, o, filepath.Join(home, "bin")); err == nil {
		return b, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // the owner reads it
		return binaries{}, err
	}
	// One process fetches, the others wait; a dead one does not hold the lock.
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // our own folder
	if err != nil {
		return binaries{}, err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { //nolint:gosec // a file descriptor
		return binaries{}, err
	}
	if b, err := inspect(ctx, o, filepath.Join(home, "bin")); err == nil {
		return b, nil
	}
	progress("fetching PostgreSQL " + string(fetched) + " (once)")
	unfinished, err := os.MkdirTemp(cache, "unfinished-")
	if err != nil {
		return binaries{}, err
	}
	defer func() { _ = os.RemoveAll(unfinished) }()
	if err := fetch(ctx, unfinished); err != nil {
		return binaries{}, fmt.Errorf("PostgreSQL is not installed and could not be fetched: %w; install version %d or newer, or name one with --postgres", err, oldest)
	}
	if err := os.RemoveAll(home); err != nil { // it was inspected, and is broken
		return binaries{}, err
	}
	if err := os.Rename(filepath.Join(unfinished, "home"), home); err != nil {
		return binaries{}, err
	}
	return inspect(ctx, o, filepath.Join(home, "bin"))
}

// cacheDir returns where fetched programs are kept.
func cacheDir(o *owner) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder to keep PostgreSQL in: %w", err)
	}
	for dir := base; o != nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err != nil && dir != filepath.Dir(dir) {
			continue // to be made
		}
		if o.blockedAt(dir) != "" {
			// Root's home is closed to others.
			base = "/var/cache"
		}
		break
	}
	return filepath.Join(base, "rocketcycle"), nil
}

// fetch puts the programs into dir/home. The library does not offer fetching
// alone: it goes on to make a database, and is stopped there by a data folder
// that cannot be one, as all else is our own work (it cannot run as root,
// among other things).
func fetch(ctx context.Context, dir string) error {
	obstacle := filepath.Join(dir, "obstacle")
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	home := filepath.Join(dir, "home")
	library := embedded.NewDatabase(embedded.DefaultConfig().Version(fetched).Port(port).
		CachePath(filepath.Join(dir, "download")).RuntimePath(filepath.Join(dir, "run")).
		BinariesPath(home).DataPath(filepath.Join(obstacle, "data")).Logger(io.Discard))
	done := make(chan error, 1)
	go func() { done <- library.Start() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err == nil { // it found a way around the obstacle
		return library.Stop()
	}
	// The library's extraction leaves initdb and postgres only when it is done
	// with the whole archive or has failed.
	if _, missing := os.Stat(filepath.Join(home, "bin", "postgres")); missing != nil || !strings.Contains(err.Error(), obstacle) {
		return err
	}
	return openUp(home)
}

// openUp lets every user read what is in a folder.
func openUp(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if d.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return root.Chmod(path, mode)
	})
}

func freePort() (uint32, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // no waiting
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("no port")
	}
	return uint32(at.Port), nil //nolint:gosec // 16 bits
}
