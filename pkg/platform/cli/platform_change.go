package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// changeFlags are those of commands that publish a version.
type changeFlags struct {
	dryRun     bool
	expected   int64
	reason     string
	timeout    time.Duration
	ackTimeout time.Duration
	// cfg is the platform file.
	cfg platform.Config
}

func (f *changeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show what would be done")
	flags.Int64Var(&f.expected, "expected-version", -1, "refuse unless this version is published, 0 for none (default: any)")
	flags.StringVar(&f.reason, "reason", "", "why, for the audit log")
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "how long it may take")
	flags.DurationVar(&f.ackTimeout, "ack-timeout", 10*time.Second, "how long to wait for every process to go by the new version; 0: not at all")
}

// change shows what an update does, and does it.
func (f *changeFlags) change(ctx context.Context, out io.Writer, log stream.Config, prepare func(context.Context) (*platform.Update, error)) error {
	work, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	update, err := prepare(work)
	if err != nil {
		return err
	}
	if f.expected >= 0 {
		if err := update.Expect(uint64(f.expected)); err != nil {
			return err
		}
	}
	p := update.Wanted
	if len(update.Actions) == 0 {
		_, err := fmt.Fprintf(out, "nothing to do: version %d of %s in %s is published and every topic exists\n", update.Current.GetVersion(), p.GetName(), p.GetEnvironment())
		return err
	}
	for _, a := range update.Actions {
		if _, err := fmt.Fprintln(out, a); err != nil {
			return err
		}
	}
	if f.dryRun {
		_, err := fmt.Fprintf(out, "dry run: %d actions, none was done\n", len(update.Actions))
		return err
	}
	update.Reason = f.reason
	if len(update.Repartitions()) > 0 {
		return repartition(work, out, log, f.cfg, update)
	}
	version, err := update.Apply(work, author())
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "done: version %d of %s in %s is published\n", version.GetVersion(), p.GetName(), p.GetEnvironment()); err != nil {
		return err
	}
	if f.ackTimeout <= 0 {
		return nil
	}
	report, err := platform.AwaitAcks(ctx, log, platform.NewNames(p), platform.AckQuery{Version: version.GetVersion(), Timeout: f.ackTimeout, Author: author()})
	if err != nil {
		return err
	}
	return tellAcks(out, version.GetVersion(), report)
}

// tellAcks says who goes by a version.
func tellAcks(out io.Writer, version uint64, report *platform.AckReport) error {
	for _, m := range report.Fenced {
		_, _ = fmt.Fprintf(out, "fenced: what %s submits is refused until it starts again\n", memberText(m))
	}
	if len(report.Missing) == 0 {
		_, err := fmt.Fprintf(out, "acknowledged by %s\n", plural(len(report.Acknowledged), "member"))
		return err
	}
	for _, m := range report.Missing {
		_, _ = fmt.Fprintf(out, "not acknowledged: %s\n", memberText(m))
	}
	return txn.Errorf(txn.CodeUnavailable, "version %d is published, but %s did not acknowledge it in time; look at them, or end them", version, plural(len(report.Missing), "member"))
}

func memberText(m *rkcyv1.Member) string {
	return fmt.Sprintf("%s (%v on %s, since %s)", m.GetId(), m.GetRoles(), inspect.Printable(m.GetHost()), time.UnixMilli(m.GetStartedMs()).UTC().Format(time.RFC3339))
}

func newPlatformUpdate(app node.Application) *cobra.Command {
	var file fileFlags
	var logs logFlags
	var change changeFlags
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Show what a platform file changes, then create topics and publish it",
		Long: `Show what a platform file changes, then create topics and publish it.

Nothing is changed unless all of it can be. Run again, it finds nothing to do. Of two
that publish at the same time one wins, and the other is told.`,
		Example: fmt.Sprintf("  %[1]s platform update --dry-run\n  %[1]s platform update -f platform.yaml --expected-version 3 --reason \"more room\"", app.Name),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, brokers, err := brokersOf(cmd, app, &file, &logs)
			if err != nil {
				return err
			}
			change.cfg = cfg
			return change.change(cmd.Context(), cmd.OutOrStdout(), brokers, func(ctx context.Context) (*platform.Update, error) {
				return platform.PrepareUpdate(ctx, brokers, cfg)
			})
		},
	}
	file.add(cmd, app)
	logs.add(cmd, "error")
	change.add(cmd)
	return cmd
}

func newPlatformRollback(app node.Application) *cobra.Command {
	var file fileFlags
	var logs logFlags
	var change changeFlags
	cmd := &cobra.Command{
		Use:   "rollback VERSION",
		Short: "Publish the configuration of an earlier version again, as a new one",
		Long: `Publish the configuration of an earlier version again, as a new one.

What cannot be undone while the platform exists, a Concern that was added say, is
refused.`,
		Example: fmt.Sprintf("  %[1]s platform rollback 3 --dry-run\n  %[1]s platform rollback 3 --reason \"too few replicas\"", app.Name),
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			version, err := versionArgs(cmd, args, 1, 1)
			if err != nil {
				return err
			}
			cfg, brokers, err := brokersOf(cmd, app, &file, &logs)
			if err != nil {
				return err
			}
			change.cfg = cfg
			return change.change(cmd.Context(), cmd.OutOrStdout(), brokers, func(ctx context.Context) (*platform.Update, error) {
				return platform.PrepareRollback(ctx, brokers, cfg.Names(), version[0])
			})
		},
	}
	file.addKafka(cmd, app, "")
	logs.add(cmd, "error")
	change.add(cmd)
	return cmd
}

// versionArgs reads numbers of versions.
func versionArgs(cmd *cobra.Command, args []string, least, most int) ([]uint64, error) {
	if len(args) < least || len(args) > most {
		return nil, usagef("%s takes the number of a version, which \"platform history\" shows; see %s --help", cmd.CommandPath(), cmd.CommandPath())
	}
	out := make([]uint64, len(args))
	for i, a := range args {
		n, err := strconv.ParseUint(a, 10, 63)
		if err != nil || n == 0 {
			return nil, usagef("%q is not the number of a version", a)
		}
		out[i] = n
	}
	return out, nil
}
