package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Results of a check.
const (
	checkOK      = "ok"
	checkWarning = "warning"
	checkFailed  = "failed"
	checkSkipped = "skipped"
)

// finding is the result of one check.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	Text   string `json:"text"`
	// Remedy is what to do about it.
	Remedy string `json:"remedy,omitempty"`
}

// doctor makes the checks, each of which may be the reason to skip later ones.
type doctor struct {
	app      node.Application
	cfg      platform.Config
	log      stream.Config
	dataDir  string
	findings []finding
}

func (d *doctor) add(check, result, remedy, format string, args ...any) {
	d.findings = append(d.findings, finding{Check: check, Result: result, Text: postgres.Redact(fmt.Sprintf(format, args...)), Remedy: remedy})
}

func newDoctor(app node.Application) *cobra.Command {
	var f opsFlags
	var dataDir string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for common misconfigurations, and say what to do",
		Long: fmt.Sprintf(`Look for common misconfigurations, and say what to do.

It reads and changes nothing: the platform file, brokers, topics and their settings,
the published version, consumer groups, databases and their tables, transactions
that wait for too long, and what an embedded run has left behind.

Exit codes: 0 nothing is wrong, warnings included; %d something is.`, edgecmd.ExitOther),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := f.logs.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			d := &doctor{app: app, dataDir: dataDir}
			cfg, err := f.file.load(app)
			if e, ok := errors.AsType[*edgecmd.ExitError](err); ok {
				return e // no file to look at
			}
			if err != nil {
				d.add("platform file", checkFailed, "mend the file", "%v", err)
			} else {
				d.cfg, d.log = cfg, node.Stream(cfg, app.Name, logger)
				d.examine(ctx)
			}
			l := &look{out: cmd.OutOrStdout(), json: f.json}
			if err := l.write(d.findings, func(w io.Writer) { printFindings(w, d.findings) }); err != nil {
				return err
			}
			wrong := 0
			for _, x := range d.findings {
				if x.Result == checkFailed {
					wrong++
				}
			}
			return problems(wrong)
		},
	}
	f.add(cmd, app, time.Minute)
	f.addDatabases(cmd)
	cmd.Flags().StringVar(&dataDir, "data-dir", "."+app.Name, "where an embedded run keeps its data")
	return cmd
}

func printFindings(w io.Writer, all []finding) {
	for _, f := range all {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", f.Result, f.Check, strings.ReplaceAll(inspect.Printable(f.Text), "\n", "; "))
		if f.Remedy != "" {
			_, _ = fmt.Fprintf(w, "\t\t► %s\n", f.Remedy)
		}
	}
}

// brokerWait is how long the brokers may take to answer the first question.
const brokerWait = 10 * time.Second

func (d *doctor) examine(ctx context.Context) {
	if err := d.cfg.Validate(); err != nil {
		d.add("platform file", checkFailed, "mend the file", "%v", err)
	} else if err := d.cfg.CheckServers(); err != nil {
		d.add("platform file", checkFailed, "name the servers in the file, by a flag or by a variable", "%v", err)
	} else {
		d.add("platform file", checkOK, "", "%s in %s, %d Concerns", d.cfg.Name, d.cfg.Environment, len(d.cfg.Concerns))
	}
	d.brokers(ctx)
	for _, t := range d.cfg.Storage.Targets {
		d.database(ctx, t)
	}
	d.leftovers()
}

// brokers checks all that needs them.
func (d *doctor) brokers(ctx context.Context) {
	if d.cfg.Kafka.Bootstrap == "" {
		d.add("brokers", checkSkipped, "", "no address is known")
		return
	}
	admin, err := stream.NewAdmin(d.log)
	if err != nil {
		d.add("brokers", checkFailed, "", "%v", err)
		return
	}
	defer admin.Close()
	first, cancel := context.WithTimeout(ctx, brokerWait)
	n, err := admin.Brokers(first)
	cancel()
	if err != nil {
		d.add("brokers", checkFailed, "start them, or name others with --kafka, "+platform.EnvKafkaBootstrap+" or kafka.bootstrap of the file", "%v", err)
		return
	}
	d.add("brokers", checkOK, "", "%d, at %s", n, d.cfg.Kafka.Bootstrap)
	version, err := platform.Current(ctx, d.log, d.cfg.Names())
	if err != nil {
		remedy := ""
		if txn.CodeOf(err) == txn.CodeNotFound {
			remedy = d.app.Name + " platform update"
		}
		d.add("published version", checkFailed, remedy, "%v", err)
		return
	}
	d.published(ctx, version)
	d.replication(ctx, admin, version.GetConfig(), n)
	d.settings(ctx, admin, version.GetConfig())
	d.running(ctx, version)
}

// published compares the published version with the file and the application.
func (d *doctor) published(ctx context.Context, version *rkcyv1.PlatformVersion) {
	const check = "published version"
	update := d.app.Name + " platform update"
	if err := node.Fits(d.app, version.GetConfig()); err != nil {
		d.add(check, checkFailed, "run the program that the platform was published for, or publish a file that fits this one: "+update, "%v", err)
	}
	u, err := platform.PrepareUpdate(ctx, d.log, d.cfg)
	switch {
	case txn.CodeOf(err) == txn.CodeFailedPrecondition:
		d.add(check, checkFailed, fmt.Sprintf("version %d, published by %s, is newer than the file, or the file asks for what cannot be; see \"%s platform show\"",
			version.GetVersion(), version.GetAuthor(), d.app.Name), "the file cannot become the next version: %v", err)
		return
	case err != nil:
		d.add(check, checkFailed, "", "%v", err)
		return
	}
	same := true
	for _, a := range u.Actions {
		same = false
		if a.Kind == platform.ActionCreateTopic {
			d.add("topics", checkFailed, update, "topic %s does not exist", a.Topic.Name)
		} else {
			d.add(check, checkWarning, update, "the file has changes that are not published: %s", strings.Join(a.Changes, "; "))
		}
	}
	if same {
		d.add(check, checkOK, "", "version %d is what the file says, and every topic exists", version.GetVersion())
	}
}

// replication checks that the topics can lose a broker as they are meant to.
func (d *doctor) replication(ctx context.Context, admin *stream.Admin, p *rkcyv1.PlatformConfig, brokers int) {
	const check = "replication"
	if int(p.GetReplicationFactor()) > brokers {
		d.add(check, checkFailed, "start the brokers that are missing", "%d replicas are published, but only %d brokers are there", p.GetReplicationFactor(), brokers)
	}
	if int(p.GetMinInsyncReplicas()) > brokers {
		d.add(check, checkFailed, "start the brokers that are missing", "a record needs %d replicas before it is written, but only %d brokers are there: nothing can be written",
			p.GetMinInsyncReplicas(), brokers)
	}
	replicas, err := admin.TopicReplicas(ctx)
	if err != nil {
		d.add(check, checkFailed, "", "%v", err)
		return
	}
	wrong := false
	for _, spec := range platform.Topics(p) {
		have, exists := replicas[spec.Name]
		switch {
		case !exists:
		case have.InSync < int(p.GetMinInsyncReplicas()):
			wrong = true
			d.add(check, checkFailed, "bring the brokers of its replicas back", "topic %s has %d replicas in sync, and needs %d: nothing can be written to it",
				spec.Name, have.InSync, p.GetMinInsyncReplicas())
		case have.Total != int(p.GetReplicationFactor()):
			wrong = true
			d.add(check, checkWarning, "reassign its partitions with the tools of Kafka", "topic %s has %d replicas, but %d are published", spec.Name, have.Total, p.GetReplicationFactor())
		case have.InSync < have.Total:
			wrong = true
			d.add(check, checkWarning, "", "topic %s has %d of %d replicas in sync", spec.Name, have.InSync, have.Total)
		}
	}
	switch {
	case !wrong && p.GetReplicationFactor() == 1:
		d.add(check, checkWarning, "for production use three brokers, and set replication_factor before the first platform update",
			"there is one replica of everything: what a broker's disk loses is lost")
	case !wrong:
		d.add(check, checkOK, "", "%d replicas, of which %d must have a record", p.GetReplicationFactor(), p.GetMinInsyncReplicas())
	}
}

// settings looks for topics that somebody has changed by hand. A retention on a
// state or storage topic loses data.
func (d *doctor) settings(ctx context.Context, admin *stream.Admin, p *rkcyv1.PlatformConfig) {
	const check = "topic settings"
	topics, err := admin.Topics(ctx)
	if err != nil {
		d.add(check, checkFailed, "", "%v", err)
		return
	}
	var names []string
	specs := platform.Topics(p)
	for _, spec := range specs {
		if _, exists := topics[spec.Name]; exists {
			names = append(names, spec.Name)
		}
	}
	configs, err := admin.TopicConfigs(ctx, names)
	if err != nil {
		d.add(check, checkFailed, "", "%v", err)
		return
	}
	wrong := false
	for _, spec := range specs {
		for _, name := range []string{"cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas"} {
			want, asked := spec.Config[name]
			have, known := configs[spec.Name][name]
			if asked && known && have != want {
				wrong = true
				d.add(check, checkFailed, fmt.Sprintf("set %s=%s again, with the tools of Kafka", name, want), "topic %s has %s=%s, but needs %s", spec.Name, name, have, want)
			}
		}
	}
	if !wrong {
		d.add(check, checkOK, "", "as published")
	}
}

// longWait is when a transaction waits for so long that something is wrong.
const longWait = 10 * time.Minute

// running looks at processes and transactions.
func (d *doctor) running(ctx context.Context, version *rkcyv1.PlatformVersion) {
	i := inspect.New(d.log, platform.NewRouter(version.GetConfig()))
	s, err := i.Platform(ctx, version.GetConfig().GetStorageTargets())
	if err != nil {
		d.add("processes", checkFailed, "", "%v", err)
		return
	}
	own := 0
	for _, p := range s.Problems {
		if strings.HasPrefix(p, "topic ") {
			continue // told already
		}
		own++
		d.add("processes", checkFailed, fmt.Sprintf("start them: %[1]s run, or %[1]s process, %[1]s storage and %[1]s edge serve", d.app.Name), "%s", p)
	}
	for _, paused := range s.Paused {
		d.add("pauses", checkWarning, d.app.Name+" resume …", "paused: %s", paused)
	}
	if own == 0 {
		d.add("processes", checkOK, "", "every partition is served, by %s, and every storage target has its workers", plural(len(s.Members), "worker"))
	}
	found, err := i.Waiting(ctx, nil, inspect.WaitingFilter{})
	if err != nil {
		d.add("transactions", checkFailed, "", "%v", err)
		return
	}
	stuck, old := 0, 0
	for _, w := range found {
		switch {
		case w.State == inspect.StateStuck:
			stuck++
		case w.State != inspect.StateTimed && time.Since(w.Submitted) > longWait:
			old++
		}
	}
	if stuck > 0 {
		d.add("transactions", checkFailed, fmt.Sprintf("see \"%[1]s txn list --state stuck\", mend the cause, and go on with \"%[1]s txn retry ID\"", d.app.Name),
			"%d sagas are stuck: their compensation is refused", stuck)
	}
	if old > 0 {
		d.add("transactions", checkWarning, fmt.Sprintf("see \"%s txn list --older-than %v\"", d.app.Name, longWait), "%d holds and waiting visits are older than %v", old, longWait)
	}
	if stuck+old == 0 {
		d.add("transactions", checkOK, "", "none is stuck, none waits for long")
	}
}

// database checks that a target answers and has its tables.
func (d *doctor) database(ctx context.Context, t platform.Target) {
	check := "storage target " + t.Name
	if t.DSN == "" {
		d.add(check, checkSkipped, "", "no address is known")
		return
	}
	db, err := postgres.Open(postgres.Config{DSN: t.DSN, Mappings: d.app.Mappings(), Logger: d.log.Logger})
	if err != nil {
		d.add(check, checkFailed, "mend its dsn", "%v", err)
		return
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, brokerWait)
	defer cancel()
	err = db.CheckSchema(ctx)
	switch {
	case err == nil:
		d.add(check, checkOK, "", "it answers, and every table is as it must be")
	case txn.CodeOf(err) == txn.CodeUnavailable:
		d.add(check, checkFailed, "start it, or name another with --postgres, "+platform.EnvPostgresDSN+" or dsn of the file", "%s does not answer: %v", postgres.Redact(t.DSN), err)
	default:
		d.add(check, checkFailed, d.app.Name+" db migrate", "%v", err)
	}
}
