package devpostgres

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// superuser is the role that owns everything.
const superuser = "rkcy"

// Config configures a server.
type Config struct {
	// DataDir keeps the data over restarts. Empty: a temporary folder, removed
	// by Stop.
	DataDir string
	// Elsewhere is a folder in which the data is kept if this process is root and
	// the user that PostgreSQL runs as cannot reach DataDir. Empty: an error.
	Elsewhere string
	// Addr is where to listen, host:port with a loopback address; port 0 picks
	// a free one. Default 127.0.0.1:0.
	Addr string
	// Database is created if it is missing, and what DSN names. Default
	// "postgres".
	Database string
	// Settings are of postgresql.conf.
	Settings map[string]string
	// Progress is told of what takes a while, such as a download. May be nil.
	Progress func(string)
	Logger   *slog.Logger
}

// WithDefaults returns the configuration with zero values replaced.
func (c Config) WithDefaults() Config {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.Database == "" {
		c.Database = "postgres"
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		faults = append(faults, fmt.Errorf("address %q: %w", c.Addr, err))
	} else if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		faults = append(faults, fmt.Errorf("address %q is not on the loopback interface", c.Addr))
	}
	return errors.Join(faults...)
}

// Server is a running PostgreSQL. Its methods are for one goroutine, except
// those that only tell.
type Server struct {
	cfg       Config
	binaries  binaries
	owner     *owner // nil: this process's own user
	dir       string // see the package's comment
	temporary bool
	password  string
	lock      *os.File
	given     *url.URL // somebody else's server; all others are nil

	mu      sync.Mutex
	addr    string
	process *process // nil while stopped
}

// Start starts a server and returns when it can be used.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("devpostgres: %w", err)
	}
	s := &Server{cfg: cfg, addr: cfg.Addr}
	if err := s.start(ctx); err != nil {
		return nil, fmt.Errorf("devpostgres: %w", errors.Join(err, s.Stop()))
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	if s.owner, err = unprivileged(); err != nil {
		return err
	}
	if s.binaries, err = findBinaries(ctx, s.owner, s.cfg.Progress); err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return err
	}
	if s.lock, err = lockFile(filepath.Join(s.dir, "lock")); err != nil {
		return fmt.Errorf("data folder %s is in use by another process: %w", s.dir, err)
	}
	if err := s.initialize(ctx); err != nil {
		return err
	}
	if err := s.Restart(ctx); err != nil {
		return err
	}
	return s.CreateDatabase(ctx, s.cfg.Database)
}

// prepare makes the folder that everything is in.
func (s *Server) prepare() error {
	if s.cfg.DataDir == "" {
		s.temporary = true
		dir, err := temporaryDir(s.owner)
		s.dir = dir
		return err
	}
	dir, err := filepath.Abs(s.cfg.DataDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	blocked := s.owner.blockedAt(filepath.Dir(dir))
	if blocked != "" && s.cfg.Elsewhere != "" {
		// Root's home is closed to others, and so is what is below it.
		if dir, err = s.moveOut(dir, blocked); err != nil {
			return err
		}
		blocked = s.owner.blockedAt(filepath.Dir(dir))
	}
	s.dir = dir
	// Somebody's home folder, say, given by mistake, would change hands.
	if entries, err := os.ReadDir(dir); err != nil {
		return err
	} else if len(entries) > 0 && !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "lock" }) {
		return fmt.Errorf("%s is not empty, and not a data folder of this program; choose another", dir)
	}
	if err := s.owner.own(dir); err != nil {
		return err
	}
	if blocked != "" {
		return fmt.Errorf("PostgreSQL does not run as root, and the user %s that it runs as cannot pass through %s to the data folder %s; "+
			"choose a data folder elsewhere, such as /var/lib/rocketcycle, or let others pass with: chmod o+x %s",
			s.owner.name, blocked, dir, blocked)
	}
	return nil
}

// moveOut returns the folder that stands for dir, which the owner cannot reach.
func (s *Server) moveOut(dir, blocked string) (string, error) {
	sum := sha256.Sum256([]byte(dir))
	out := filepath.Join(s.cfg.Elsewhere, fmt.Sprintf("%x", sum[:8]))
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil { //nolint:gosec // what is in it is closed
		return "", err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return "", err
	}
	s.cfg.Progress(fmt.Sprintf("PostgreSQL does not run as root, and the user %s cannot pass through %s; its data is in %s", s.owner.name, blocked, out))
	return out, os.WriteFile(filepath.Join(dir, "moved"), []byte(out+"\n"), 0o600)
}

// initialize runs initdb, unless an earlier start has.
func (s *Server) initialize(ctx context.Context) error {
	passwordFile := filepath.Join(s.dir, "password")
	if _, err := os.Stat(s.dataDir()); err == nil {
		text, err := os.ReadFile(passwordFile) //nolint:gosec // our own folder
		if err != nil {
			return fmt.Errorf("the password of the existing data: %w", err)
		}
		s.password = strings.TrimSpace(string(text))
		return s.sameVersion()
	}
	leftovers, err := filepath.Glob(filepath.Join(s.dir, "init-*"))
	if err != nil {
		return err
	}
	for _, l := range leftovers { // of a start that was interrupted
		if err := os.RemoveAll(l); err != nil {
			return err
		}
	}
	s.password = rand.Text()
	if err := os.WriteFile(passwordFile, []byte(s.password+"\n"), 0o600); err != nil {
		return err
	}
	if err := s.owner.own(passwordFile); err != nil {
		return err
	}
	unfinished := filepath.Join(s.dir, "init-"+strings.ToLower(rand.Text()[:8]))
	args := []string{
		"--pgdata=" + unfinished, "--username=" + superuser, "--pwfile=" + passwordFile, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-instructions",
	}
	if s.temporary {
		args = append(args, "--no-sync")
	}
	cmd := s.command(ctx, "initdb", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return os.Rename(unfinished, s.dataDir())
}

func (s *Server) dataDir() string { return filepath.Join(s.dir, "data") }

// sameVersion refuses data of another major version in words that help.
func (s *Server) sameVersion() error {
	text, err := os.ReadFile(filepath.Join(s.dataDir(), "PG_VERSION")) //nolint:gosec // our own folder
	if err != nil {
		return fmt.Errorf("data folder %s: %w", s.dir, err)
	}
	if v := strings.TrimSpace(string(text)); v != fmt.Sprint(s.binaries.major) {
		return fmt.Errorf("the data in %s is of PostgreSQL %s, but the programs in %s are version %d; "+
			"upgrade the data with pg_upgrade, install that version, or start on an empty folder",
			s.dir, v, s.binaries.dir, s.binaries.major)
	}
	return nil
}

// Addr returns the address as host:port.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// DSN returns how to reach the configured database as superuser.
func (s *Server) DSN() string { return s.DSNFor(s.cfg.Database) }

// DSNFor returns how to reach another database.
func (s *Server) DSNFor(database string) string {
	if s.given != nil {
		u := *s.given
		if database != "" {
			u.Path = "/" + database
		}
		return u.String()
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, s.password), Host: s.Addr(), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// CreateDatabase creates a database unless it exists.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	return createDatabase(ctx, s.DSNFor("postgres"), name)
}

func createDatabase(ctx context.Context, dsn, name string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// Restart starts the server if it is stopped, after Kill too, on the address
// it had before.
func (s *Server) Restart(ctx context.Context) error {
	if s.running() != nil {
		return nil
	}
	if err := awaitEnd(ctx, s.dataDir()); err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		addr, err := pick(s.Addr())
		if err != nil {
			return err
		}
		p, err := s.launch(ctx, addr)
		if err == nil {
			s.mu.Lock()
			s.addr, s.process = addr, p
			s.mu.Unlock()
			s.cfg.Logger.Debug("postgres is ready", "addr", addr, "pid", p.pid(), "data", s.dir)
			return nil
		}
		var wait time.Duration
		switch {
		case errors.Is(err, errPortTaken) && strings.HasSuffix(s.Addr(), ":0") && attempt < 20:
			// Another process was faster; the next port is another one.
		case errors.Is(err, errPortTaken) && s.owned() && attempt < 100, errors.Is(err, errMemoryInUse) && attempt < 200:
			wait = 50 * time.Millisecond // what an earlier server left is ending
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// owned says whether the port is one that this server has had before.
func (s *Server) owned() bool { return s.Addr() != s.cfg.Addr }

func (s *Server) running() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil && s.process.ended() {
		s.process = nil
	}
	return s.process
}

// pick returns the address with a free port where it has port 0.
func pick(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port != "0" {
		return addr, err
	}
	l, err := net.Listen("tcp", addr) //nolint:noctx // no waiting
	if err != nil {
		return "", err
	}
	_, port, err = net.SplitHostPort(l.Addr().String())
	return net.JoinHostPort(host, port), errors.Join(err, l.Close())
}

// Shutdown stops the server in order, without waiting for clients. Restart
// starts it again.
func (s *Server) Shutdown() error {
	p := s.running()
	if p == nil {
		return nil
	}
	err := p.shutdown(30 * time.Second)
	s.mu.Lock()
	s.process = nil
	s.mu.Unlock()
	return err
}

// Stop stops the server for good, and removes its data if that is temporary.
func (s *Server) Stop() error {
	err := s.Shutdown()
	if s.temporary && s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
		s.lock = nil
	}
	return err
}

// Kill ends the server and all its processes at once, as a crash does. It
// returns when they are gone.
func (s *Server) Kill() error {
	p := s.running()
	if p == nil {
		return nil
	}
	err := p.kill()
	s.mu.Lock()
	s.process = nil
	s.mu.Unlock()
	return err
}

// Pause stops all processes of the server in their tracks: connections stay
// open, nothing answers. Resume lets them go on.
func (s *Server) Pause() error {
	if p := s.running(); p != nil {
		return p.pause()
	}
	return errors.New("devpostgres: the server is not running")
}

// Resume lets a paused server go on.
func (s *Server) Resume() error {
	if p := s.running(); p != nil {
		return p.resume()
	}
	return errors.New("devpostgres: the server is not running")
}
