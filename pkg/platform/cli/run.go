package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
)

type runFlags struct {
	file      fileFlags
	logs      logFlags
	telemetry telemetryFlags
	embedded  bool
	update    bool
	dataDir   string
	kafkaAddr string
	http      string
	grpc      string
	readyFile string
	seedFile  string
	runner    string
	session   time.Duration
	insecure  bool
}

// addAddresses adds the flags that say where an edge serves.
func (f *runFlags) addAddresses(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.http, "http", "", "where to serve HTTP; port 0 picks a free one (default: the file, "+platform.DefaultHTTPAddr+")")
	flags.StringVar(&f.grpc, "grpc", "", "where to serve gRPC (default: the file, "+platform.DefaultGRPCAddr+")")
}

// override applies the flags that say where an edge serves.
func (f *runFlags) override(cfg *platform.Config) {
	cfg.Edge.HTTP, cfg.Edge.GRPC = firstOf(f.http, cfg.Edge.HTTP), firstOf(f.grpc, cfg.Edge.GRPC)
}

// dropReadyFile removes a ready file of the past: it would tell the wrong
// addresses.
func (f *runFlags) dropReadyFile() error {
	if f.readyFile == "" {
		return nil
	}
	if err := os.Remove(f.readyFile); err != nil && !os.IsNotExist(err) {
		return usagef("--ready-file: %w", err)
	}
	return nil
}

// useOwnServers makes a configuration use a broker and a database that the
// program has started itself.
func useOwnServers(cfg *platform.Config, bootstrap, dsn string) {
	cfg.Kafka.Bootstrap, cfg.Kafka.Extra = bootstrap, nil
	cfg.Storage.Targets = []platform.Target{{Name: "main", Type: platform.TypePostgres, Role: platform.RolePrimary, DSN: dsn}}
}

func newRun(app node.Application) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run processors, storage workers and an edge",
		Long: `Run processors, storage workers and an edge, in one process.

With --embedded it brings its own Kafka-compatible broker and its own PostgreSQL,
and keeps both in --data-dir; nothing else has to be installed. Without, it uses
the servers that the platform file, flags or variables name, whose topics and
tables "platform update" and "db migrate" have made. Started several times
against the same servers, the processes share the work.

With --runner process each role is a process of its own, a child of this one, that
is started again when it ends; their output has the role in front. They are the
commands "process", "storage" and "edge serve", which can be started alone, too.

When everything serves, one line that begins with "ready" has all addresses. An
interrupt finishes what was accepted; a second one ends at once.`,
		Example: fmt.Sprintf("  %[1]s run --embedded\n  %[1]s run -f platform.yaml --http 127.0.0.1:0 --grpc 127.0.0.1:0 --ready-file ready.json", app.Name),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), app, f, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.file.add(cmd, app)
	f.logs.add(cmd, "warn")
	f.telemetry.add(cmd, "with --embedded a free port on loopback, else "+metricsOff)
	flags := cmd.Flags()
	flags.BoolVar(&f.embedded, "embedded", false, "bring an own broker and an own PostgreSQL")
	flags.StringVar(&f.dataDir, "data-dir", "."+app.Name, "with --embedded: where broker and database keep their data")
	flags.StringVar(&f.kafkaAddr, "kafka-listen", "127.0.0.1:0", "with --embedded: where the broker listens; port 0 picks a free one")
	flags.BoolVar(&f.update, "update", false, "first do what \"platform update\" and \"db migrate\" do (always with --embedded)")
	f.addAddresses(cmd)
	f.addInsecure(cmd)
	flags.StringVar(&f.runner, "runner", runnerRoutine, "routine: all roles in this process; process: a child for each")
	_ = cmd.RegisterFlagCompletionFunc("runner", cobra.FixedCompletions([]string{runnerRoutine, runnerProcess}, cobra.ShellCompDirectiveNoFileComp))
	flags.StringVar(&f.readyFile, "ready-file", "", "write all addresses to this file, as JSON, once everything serves")
	flags.StringVar(&f.seedFile, "seed-file", "", "before that, send the requests in this file, one JSON object a line:\n{\"rpc\":\"CreatePlayer\",\"request\":{…}}; what exists already is left alone")
	flags.DurationVar(&f.session, "session-timeout", 6*time.Second, "how long a process may be silent before others take over its partitions")
	return cmd
}

// Addresses is the content of a ready file. Empty: not known or not ours.
type Addresses struct {
	HTTP     string `json:"http"`
	GRPC     string `json:"grpc"`
	Kafka    string `json:"kafka"`
	Postgres string `json:"postgres"`
	// Metrics is where Prometheus asks.
	Metrics string `json:"metrics,omitempty"`
	PID     int    `json:"pid"`
}

func run(ctx context.Context, app node.Application, f runFlags, out, errOut io.Writer) (err error) {
	logger, err := f.logs.logger(errOut)
	if err != nil {
		return err
	}
	if f.runner != runnerRoutine && f.runner != runnerProcess {
		return usagef("--runner: %q is not allowed; allowed are %s, %s", f.runner, runnerRoutine, runnerProcess)
	}
	if f.embedded && f.telemetry.metrics == "" {
		f.telemetry.metrics = "127.0.0.1:0"
	}
	if err := f.telemetry.check(); err != nil {
		return err
	}
	if err := f.dropReadyFile(); err != nil {
		return err
	}
	seeds, err := readSeeds(app, f.seedFile)
	if err != nil {
		return err
	}
	cfg, err := f.file.load(app)
	if err != nil {
		return err
	}
	f.override(&cfg)
	if err := cfg.Validate(); err != nil {
		return err
	}
	listeners := []listener{{"HTTP", cfg.Edge.HTTP}, {"gRPC", cfg.Edge.GRPC}, {"metrics", f.telemetry.metrics}}
	if f.embedded {
		listeners = append(listeners, listener{"the broker", f.kafkaAddr})
	}
	if err := f.checkExposed(listeners...); err != nil {
		return err
	}
	if f.embedded {
		if f.file.kafka != "" || f.file.postgres != "" {
			return usagef("--embedded brings its own servers; leave --kafka and --postgres out")
		}
		servers, err := startEmbedded(ctx, f, logger, errOut)
		if err != nil {
			return interrupted(ctx, err)
		}
		defer func() { err = errors.Join(err, servers.stop()) }()
		useOwnServers(&cfg, servers.broker.Bootstrap(), servers.database.DSN())
	}
	if err := cfg.CheckServers(); err != nil {
		return err
	}
	if f.embedded || f.update {
		if err := prepare(ctx, app, cfg, logger); err != nil {
			return interrupted(ctx, err)
		}
	}
	s := served{
		app: app, cfg: cfg, flags: f, seeds: seeds, out: out,
		node: node.Config{Application: app, Platform: cfg, Roles: node.AllRoles(), SessionTimeout: f.session, Logger: logger},
	}
	if f.runner == runnerProcess {
		return runChildren(ctx, s, errOut)
	}
	return serve(ctx, s)
}

// interrupted returns what to say of a failure to start: nothing, if the start
// was broken off.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &edgecmd.ExitError{Code: exitInterrupted, Err: errors.New("interrupted before it served")}
	}
	return err
}

// exitInterrupted is what shells use for a program that SIGINT ended.
const exitInterrupted = 130

// prepare makes topics and tables.
func prepare(ctx context.Context, app node.Application, cfg platform.Config, logger *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := publish(ctx, node.Stream(cfg, app.Name, logger), cfg); err != nil {
		return fmt.Errorf("platform update: %w", err)
	}
	for _, t := range cfg.Storage.Targets {
		if _, err := postgres.Migrate(ctx, t.DSN, app.Migrations, logger); err != nil {
			return fmt.Errorf("tables of storage target %s: %w", t.Name, err)
		}
	}
	return nil
}

// served is what a process serves.
type served struct {
	app   node.Application
	cfg   platform.Config
	flags runFlags
	seeds []seed
	node  node.Config
	out   io.Writer
	// role is the only one of the process, "" for all.
	role string
}

// Values of --runner.
const (
	runnerRoutine = "routine"
	runnerProcess = "process"
)

func serve(ctx context.Context, s served) error {
	t, err := s.flags.telemetry.start(ctx, &s)
	if err != nil {
		return err
	}
	defer func() { _ = t.Close(ctx) }()
	n, err := node.New(s.node)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return <-done
	case <-n.Ready():
	}
	if err := s.announce(ctx, Addresses{HTTP: n.HTTPAddr(), GRPC: n.GRPCAddr(), Metrics: t.Addr()}); err != nil {
		stop()
		return errors.Join(err, <-done)
	}
	return <-done
}

// announce sends the seeds and says that everything serves.
func (s *served) announce(ctx context.Context, at Addresses) error {
	if err := sendSeeds(ctx, s.app, at.GRPC, s.seeds); err != nil {
		return err
	}
	at.Kafka, at.PID = s.cfg.Kafka.Bootstrap, os.Getpid()
	if s.role != roleEdge {
		primary, _ := s.cfg.Primary()
		at.Postgres = primary.DSN
	}
	if s.flags.readyFile != "" {
		if err := writeReady(s.flags.readyFile, at); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(s.out, readyLine(s.role, at))
	return err
}

// readyLine has no passwords.
func readyLine(role string, at Addresses) string {
	line := "ready"
	for _, part := range [][2]string{
		{"role", role}, {"http", at.HTTP}, {"grpc", at.GRPC}, {"kafka", at.Kafka}, {"postgres", postgres.Redact(at.Postgres)}, {"metrics", at.Metrics},
	} {
		if part[1] != "" {
			line += " " + part[0] + "=" + part[1]
		}
	}
	return line
}

// writeReady puts the file in place at once, so that nobody reads half of it.
// It has the database's password, so nobody else may read it.
func writeReady(file string, at Addresses) error {
	raw, err := json.MarshalIndent(at, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".ready-*")
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	_, err = io.Copy(tmp, strings.NewReader(string(raw)+"\n"))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("ready file: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}
