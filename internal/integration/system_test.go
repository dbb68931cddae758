package integration

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

// partitions of each Concern.
const partitions = 4

// system is a platform of its own: what outlives the processes that work on it.
type system struct {
	t     testing.TB
	name  string
	file  string // platform file
	kafka string // "" with embedded servers, until they run
	dsn   string
	// dataDir is "" with servers.
	dataDir string
	// database is the server of one's own, if it is.
	database *devpostgres.Server
}

func newSystem(t testing.TB) *system {
	t.Helper()
	s := &system{t: t, name: "it-" + strings.ToLower(rand.Text()[:10])}
	s.file = filepath.Join(t.TempDir(), "platform.yaml")
	s.write(fmt.Sprintf(`name: %s
concerns:
  - name: player
    partitions: %d
  - name: character
    partitions: %d
storage:
  targets:
    - name: main
processor:
  workers: 2
`, s.name, partitions, partitions))
	return s
}

func (s *system) write(platformFile string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(platformFile), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// newEmbedded returns a system on the servers that rpg brings along.
func newEmbedded(t testing.TB) *system {
	t.Helper()
	s := newSystem(t)
	s.dataDir = reachableDir(t)
	return s
}

// reachableDir returns a folder that the unprivileged user of PostgreSQL can
// pass through to.
func reachableDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { //nolint:gosec // a test's folder
		t.Fatal(err)
	}
	return filepath.Join(dir, "data")
}

// newServers returns a system on servers that outlive its processes, with
// topics and tables made.
func newServers(t testing.TB) *system {
	t.Helper()
	s := newBareServers(t)
	s.dsn = devpostgres.Test(t).NewDatabase(t)
	s.prepare()
	return s
}

// newServersOwnDatabase is newServers with a PostgreSQL that the test may stop.
func newServersOwnDatabase(t testing.TB) *system {
	t.Helper()
	s := newBareServers(t)
	s.database = devpostgres.Own(t)
	s.dsn = s.database.DSN()
	s.prepare()
	return s
}

// newBareServers has a broker and nothing on it, and no database.
func newBareServers(t testing.TB) *system {
	t.Helper()
	s := newSystem(t)
	s.kafka = streamtest.Broker(t)
	return s
}

func (s *system) prepare() {
	s.t.Helper()
	rpg(s.t, s.env(), "platform", "update", "-f", s.file).want(s.t, 0)
	rpg(s.t, s.env(), "db", "migrate", "-f", s.file).want(s.t, 0)
}

// env names the servers to a program.
func (s *system) env() []string {
	if s.dataDir != "" {
		return nil
	}
	env := []string{platform.EnvKafkaBootstrap + "=" + s.kafka}
	if s.dsn != "" {
		env = append(env, platform.EnvPostgresDSN+"="+s.dsn)
	}
	return env
}

// launch starts a process on the system.
func (s *system) launch(args ...string) *process {
	s.t.Helper()
	args = append([]string{"-f", s.file}, args...)
	if s.dataDir != "" {
		args = append(args, "--embedded", "--data-dir", s.dataDir)
	}
	return launch(s.t, s.env(), args...)
}

// start starts a process and waits until it serves.
func (s *system) start(args ...string) *process {
	s.t.Helper()
	p := s.launch(args...).awaitReady()
	s.kafka, s.dsn = p.at.Kafka, p.at.Postgres
	return p
}

// names returns the topics of the system.
func (s *system) names() platform.Names {
	return platform.Config{Name: s.name, Concerns: []platform.Concern{{Name: "player"}, {Name: "character"}}}.Names()
}

func (s *system) stream() stream.Config {
	return stream.Config{Bootstrap: s.kafka, Logger: slog.New(slog.DiscardHandler)}
}

// query runs a query on the database.
func (s *system) query(sql string, args ...any) (pgx.Rows, func(), error) {
	conn, err := pgx.Connect(s.t.Context(), s.dsn)
	if err != nil {
		return nil, func() {}, err
	}
	rows, err := conn.Query(s.t.Context(), sql, args...)
	return rows, func() { _ = conn.Close(s.t.Context()) }, err
}

// value returns the one value of a query.
func value[T any](s *system, sql string, args ...any) (T, error) {
	rows, done, err := s.query(sql, args...)
	defer done()
	if err != nil {
		var zero T
		return zero, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
}

// ends returns how many records a topic has, those of Kafka itself included.
func (s *system) ends(topic string) (int, error) {
	admin, err := stream.NewAdmin(s.stream())
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	var tps []stream.TopicPartition
	for p := range int32(partitions) {
		tps = append(tps, stream.TopicPartition{Topic: topic, Partition: p})
	}
	offsets, err := admin.EndOffsets(s.t.Context(), tps)
	n := 0
	for _, o := range offsets {
		n += int(o)
	}
	return n, err
}

// topics returns the topics of the broker, with their partitions.
func (s *system) topics() map[string]int {
	s.t.Helper()
	admin, err := stream.NewAdmin(s.stream())
	if err != nil {
		s.t.Fatal(err)
	}
	defer admin.Close()
	topics, err := admin.Topics(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return topics
}
