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
	embedded  bool
	update    bool
	dataDir   string
	kafkaAddr string
	http      string
	grpc      string
	readyFile string
	seedFile  string
	session   time.Duration
}

func newRun(app node.Application) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run processors, storage workers and an edge in one process",
		Long: `Run processors, storage workers and an edge in one process.

With --embedded it brings its own Kafka-compatible broker and its own PostgreSQL,
and keeps both in --data-dir; nothing else has to be installed. Without, it uses
the servers that the platform file, flags or variables name, whose topics and
tables "platform update" and "db migrate" have made. Started several times
against the same servers, the processes share the work.

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
	flags := cmd.Flags()
	flags.BoolVar(&f.embedded, "embedded", false, "bring an own broker and an own PostgreSQL")
	flags.StringVar(&f.dataDir, "data-dir", "."+app.Name, "with --embedded: where broker and database keep their data")
	flags.StringVar(&f.kafkaAddr, "kafka-listen", "127.0.0.1:0", "with --embedded: where the broker listens; port 0 picks a free one")
	flags.BoolVar(&f.update, "update", false, "first do what \"platform update\" and \"db migrate\" do (always with --embedded)")
	flags.StringVar(&f.http, "http", "", "where to serve HTTP; port 0 picks a free one (default: the file, "+platform.DefaultHTTPAddr+")")
	flags.StringVar(&f.grpc, "grpc", "", "where to serve gRPC (default: the file, "+platform.DefaultGRPCAddr+")")
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
	PID      int    `json:"pid"`
}

func run(ctx context.Context, app node.Application, f runFlags, out, errOut io.Writer) (err error) {
	logger, err := f.logs.logger(errOut)
	if err != nil {
		return err
	}
	if f.readyFile != "" { // a stale one would tell the wrong addresses
		if err := os.Remove(f.readyFile); err != nil && !os.IsNotExist(err) {
			return usagef("--ready-file: %w", err)
		}
	}
	seeds, err := readSeeds(app, f.seedFile)
	if err != nil {
		return err
	}
	cfg, err := f.file.load(app)
	if err != nil {
		return err
	}
	if f.http != "" {
		cfg.Edge.HTTP = f.http
	}
	if f.grpc != "" {
		cfg.Edge.GRPC = f.grpc
	}
	if err := cfg.Validate(); err != nil {
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
		cfg.Kafka.Bootstrap, cfg.Kafka.Extra = servers.broker.Bootstrap(), nil
		cfg.Storage.Targets = []platform.Target{{Name: "main", Type: platform.TypePostgres, Role: platform.RolePrimary, DSN: servers.database.DSN()}}
	}
	if err := cfg.CheckServers(); err != nil {
		return err
	}
	if f.embedded || f.update {
		if err := prepare(ctx, app, cfg, logger); err != nil {
			return interrupted(ctx, err)
		}
	}
	return serve(ctx, app, cfg, f, seeds, logger, out)
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

func serve(ctx context.Context, app node.Application, cfg platform.Config, f runFlags, seeds []seed, logger *slog.Logger, out io.Writer) error {
	n, err := node.New(node.Config{
		Application: app, Platform: cfg, Roles: node.AllRoles(), SessionTimeout: f.session, Logger: logger,
	})
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
	fail := func(err error) error {
		stop()
		return errors.Join(err, <-done)
	}
	if err := sendSeeds(ctx, app, n.GRPCAddr(), seeds); err != nil {
		return fail(err)
	}
	primary, _ := cfg.Primary()
	at := Addresses{HTTP: n.HTTPAddr(), GRPC: n.GRPCAddr(), Kafka: cfg.Kafka.Bootstrap, Postgres: primary.DSN, PID: os.Getpid()}
	if f.readyFile != "" {
		if err := writeReady(f.readyFile, at); err != nil {
			return fail(err)
		}
	}
	if _, err := fmt.Fprintf(out, "ready http=%s grpc=%s kafka=%s postgres=%s\n", at.HTTP, at.GRPC, at.Kafka, postgres.Redact(at.Postgres)); err != nil {
		return fail(err)
	}
	return <-done
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
