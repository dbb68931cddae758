package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// opsFlags are those of commands that look at a running platform.
type opsFlags struct {
	file    fileFlags
	logs    logFlags
	timeout time.Duration
	json    bool
}

func (f *opsFlags) add(cmd *cobra.Command, app node.Application, timeout time.Duration) {
	f.file.addKafka(cmd, app, "")
	f.logs.add(cmd, "error")
	cmd.Flags().BoolVar(&f.json, "json", false, "as JSON")
	if timeout > 0 {
		cmd.Flags().DurationVar(&f.timeout, "timeout", timeout, "how long it may take")
	}
}

// addDatabases adds the flag that names the primary database.
func (f *opsFlags) addDatabases(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file.postgres, "postgres", "", "primary database as postgres://user:password@host:port/name (default: "+platform.EnvPostgresDSN+", else the file)")
}

// look is what such a command works with.
type look struct {
	app       node.Application
	cfg       platform.Config
	log       stream.Config
	version   *rkcyv1.PlatformVersion
	router    *platform.Router
	inspector *inspect.Inspector
	types     inspect.Types
	out       io.Writer
	json      bool
}

// publishedTimeout bounds the look at the published version of commands that
// themselves have no end.
const publishedTimeout = 15 * time.Second

// look does something with a platform that is published.
func (f *opsFlags) look(cmd *cobra.Command, app node.Application, do func(context.Context, *look) error) error {
	logger, err := f.logs.logger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	cfg, err := f.file.load(app)
	if err != nil {
		return err
	}
	if cfg.Kafka.Bootstrap == "" {
		return cfg.CheckServers()
	}
	ctx, limit := cmd.Context(), publishedTimeout
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
		limit = f.timeout
	}
	l := &look{app: app, cfg: cfg, log: node.Stream(cfg, app.Name, logger), types: app.Types(), out: cmd.OutOrStdout(), json: f.json}
	first, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if l.version, err = platform.Current(first, l.log, cfg.Names()); err != nil {
		return err
	}
	l.router = platform.NewRouter(l.version.GetConfig())
	l.inspector = inspect.New(l.log, l.router)
	return do(ctx, l)
}

// concern reports a Concern that was not published.
func (l *look) concern(name string) error {
	if name == "" {
		return nil
	}
	var known []string
	for _, c := range l.version.GetConfig().GetConcerns() {
		known = append(known, c.GetName())
	}
	if slices.Contains(known, name) {
		return nil
	}
	return usagef("platform %s has no Concern %q%s; it has %s", l.version.GetConfig().GetName(), name, suggest.Hint(name, known), strings.Join(known, ", "))
}

// write writes a value as JSON, or as text does.
func (l *look) write(v any, text func(io.Writer)) error {
	if l.json {
		return json.NewEncoder(l.out).Encode(v)
	}
	w := tabwriter.NewWriter(l.out, 0, 8, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// since reads a point in time: an age, or RFC 3339.
func since(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usagef("--since: %q is neither an age like 10m nor a time like 2026-01-31T12:00:00Z", text)
	}
	return t, nil
}

// age returns how long ago something was, in short.
func age(t time.Time) string { return max(time.Since(t), 0).Round(time.Second).String() }

// jsonText returns a tree as one line, safe for a terminal.
func jsonText(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%v", v)
	}
	return inspect.Printable(string(raw))
}

// counted is a number that may be a bound only.
func counted(n int64, exact bool) string {
	if exact {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("about %d", n)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func partitionZero(topic string) stream.TopicPartition { return stream.TopicPartition{Topic: topic} }
