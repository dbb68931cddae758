package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/control"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// whoFlags say who acts, and why.
type whoFlags struct{ reason string }

func (f *whoFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, for the audit log; needed")
}

func (f *whoFlags) who() control.Who { return control.Who{Author: author(), Reason: f.reason} }

// check refuses to act without a reason before anybody is asked.
func (f *whoFlags) check(cmd *cobra.Command) error {
	if strings.TrimSpace(f.reason) == "" {
		return usagef("%s needs --reason: why, for the audit log", cmd.CommandPath())
	}
	return nil
}

func (l *look) control() *control.Control { return control.New(l.log, l.router, l.types) }

// newPause returns "pause" or "resume".
func newPause(app node.Application, name, short string, do func(*control.Control, context.Context, control.Who, *rkcyv1.PauseScope) ([]*rkcyv1.Operation, error)) *cobra.Command {
	var f opsFlags
	var who whoFlags
	var target string
	cmd := &cobra.Command{
		Use:   name + " [CONCERN [PARTITION]]",
		Short: short,
		Long: short + `.

What is paused is not worked on: nothing is read of its topics, holds remain, and
transactions wait until their deadline. Edges accept until half of what may be in
flight is taken, and then refuse, with the reason. It is the same after a restart.
A storage target that is paused gets no changes; they are kept for it.`,
		Example:           fmt.Sprintf("  %[1]s %[2]s %[3]s --reason \"bad release\"\n  %[1]s %[2]s %[3]s 2 --reason \"hot partition\"\n  %[1]s %[2]s --target main --reason maintenance", app.Name, name, firstConcern(app)),
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeOneConcern(app),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := scopeOf(cmd, args, target)
			if err != nil {
				return err
			}
			if err := who.check(cmd); err != nil {
				return err
			}
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				paused, err := do(l.control(), ctx, who.who(), scope)
				if err != nil {
					return err
				}
				return l.write(pausedLines(paused), func(w io.Writer) { printPaused(w, paused) })
			})
		},
	}
	f.add(cmd, app, 15*time.Second)
	who.add(cmd)
	cmd.Flags().StringVar(&target, "target", "", "a storage target instead of a Concern")
	return cmd
}

func scopeOf(cmd *cobra.Command, args []string, target string) (*rkcyv1.PauseScope, error) {
	switch {
	case target != "" && len(args) > 0, target == "" && len(args) == 0, len(args) > 2:
		return nil, usagef("%s takes a Concern, a Concern and a partition, or --target; see %s --help", cmd.CommandPath(), cmd.CommandPath())
	case target != "":
		return &rkcyv1.PauseScope{Target: target, Partition: -1}, nil
	}
	scope := &rkcyv1.PauseScope{Concern: args[0], Partition: -1}
	if len(args) == 2 {
		n, err := strconv.ParseInt(args[1], 10, 32)
		if err != nil || n < 0 {
			return nil, usagef("%q is not a partition", args[1])
		}
		scope.Partition = int32(n)
	}
	return scope, nil
}

// pausedLine is what is paused, as JSON.
type pausedLine struct {
	What   string    `json:"what"`
	Author string    `json:"author"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

func pausedLines(list []*rkcyv1.Operation) []pausedLine {
	out := []pausedLine{}
	for _, op := range list {
		out = append(out, pausedLine{platform.ScopeText(op.GetScope()), op.GetAuthor(), time.UnixMilli(op.GetTimeMs()).UTC(), op.GetReason()})
	}
	return out
}

func printPaused(w io.Writer, list []*rkcyv1.Operation) {
	if len(list) == 0 {
		_, _ = fmt.Fprintln(w, "nothing is paused")
	}
	for _, p := range pausedLines(list) {
		_, _ = fmt.Fprintf(w, "paused: %s, by %s since %s: %s\n", p.What, inspect.Printable(p.Author), p.Since.Format(time.RFC3339), inspect.Printable(p.Reason))
	}
}

// newBulk returns "txn cancel-all" or "txn retry-all".
func newBulk(app node.Application, use, short string, states bool, do func(*control.Control, context.Context, control.Who, control.Bulk) (*control.BulkResult, error)) *cobra.Command {
	var f opsFlags
	var who whoFlags
	var b control.Bulk
	var olderThan time.Duration
	var all bool
	cmd := &cobra.Command{
		Use: use, Short: short,
		Long:    short + ".\n\nTry it with --dry-run first. It asks the brokers, not an edge, and is written to the audit log.",
		Example: fmt.Sprintf("  %[1]s txn %[2]s --concern %[3]s --older-than 10m --dry-run\n  %[1]s txn %[2]s --concern %[3]s --older-than 10m --reason \"bad release\"", app.Name, use, firstConcern(app)),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuseInherited(cmd); err != nil {
				return err
			}
			for _, s := range b.Filter.States {
				if !slices.Contains(inspect.WaitingStates(), s) {
					return usagef("--state: %q is not allowed; allowed are %s", s, strings.Join(inspect.WaitingStates(), ", "))
				}
			}
			if olderThan < 0 {
				return usagef("--older-than is negative")
			}
			if olderThan > 0 {
				b.Filter.SubmittedBefore = time.Now().Add(-olderThan)
			}
			named := len(b.Filter.States) > 0 || b.Filter.Concern != "" || b.Filter.Key != "" || olderThan > 0 || b.Filter.Reason != ""
			if !named && !all {
				return usagef("name a filter, or --all")
			}
			if !b.DryRun {
				if err := who.check(cmd); err != nil {
					return err
				}
			}
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				done, err := do(l.control(), ctx, who.who(), b)
				if err != nil {
					return err
				}
				return l.write(done, func(w io.Writer) { printBulk(w, done, b.DryRun) })
			})
		},
	}
	f.add(cmd, app, 5*time.Minute)
	who.add(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&b.DryRun, "dry-run", false, "only show which they are")
	flags.BoolVar(&all, "all", false, "without a filter: all of them")
	flags.IntVar(&b.Limit, "limit", control.DefaultBulk, "how many at most")
	flags.StringVar(&b.Filter.Concern, "concern", "", "only those on instances of this Concern")
	flags.StringVar(&b.Filter.Key, "key", "", "only those on the instance of this key")
	flags.DurationVar(&olderThan, "older-than", 0, "only those that were submitted longer ago")
	flags.StringVar(&b.Filter.Reason, "error", "", "only sagas that are undone for a reason that has this text in it")
	if states {
		flags.StringSliceVar(&b.Filter.States, "state", nil, "only these: "+strings.Join(inspect.WaitingStates(), ", ")+"; may be repeated")
		_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(inspect.WaitingStates(), cobra.ShellCompDirectiveNoFileComp))
	}
	completeConcerns(cmd, app)
	cmd.SetUsageTemplate(strings.ReplaceAll(cmd.UsageTemplate(), "{{if .HasAvailableInheritedFlags}}", "{{if false}}"))
	return cmd
}

func printBulk(w io.Writer, done *control.BulkResult, dryRun bool) {
	for _, i := range done.Items {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", i.TxnID, i.State, inspect.Printable(i.Error))
	}
	switch {
	case dryRun:
		_, _ = fmt.Fprintf(w, "dry run: %d transactions, nothing was done\n", len(done.Items))
	case len(done.Items) == 0:
		_, _ = fmt.Fprintln(w, "no transaction matches")
	default:
		_, _ = fmt.Fprintf(w, "done: %d transactions, audit entry %s\n", len(done.Items), done.AuditID)
	}
	if done.More {
		_, _ = fmt.Fprintln(w, "more match than --limit")
	}
}

func newPurge(app node.Application) *cobra.Command {
	var f opsFlags
	var who whoFlags
	var p control.Purge
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Delete records that are older than they have to be kept",
		Long: `Delete records that are older than they have to be kept, now instead of when the
brokers come to it.

Quarantined records may be deleted before their time, with --older-than. What was not
processed yet stays, however old it is. State and storage topics are bounded by those
who know what is needed of them, and are not purged.`,
		Example: fmt.Sprintf("  %[1]s purge --dry-run\n  %[1]s purge --kind error --older-than 24h --reason \"looked at\"", app.Name),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !p.DryRun {
				if err := who.check(cmd); err != nil {
					return err
				}
			}
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				done, err := l.control().Purge(ctx, who.who(), p)
				if err != nil {
					return err
				}
				return l.write(done, func(w io.Writer) {
					n := int64(0)
					for _, d := range done.Partitions {
						n += d.To - d.From
						_, _ = fmt.Fprintf(w, "%s[%d]\t%d to %d\t%s\n", d.Topic, d.Partition, d.From, d.To, d.Kept)
					}
					if p.DryRun {
						_, _ = fmt.Fprintf(w, "dry run: %d offsets, nothing was deleted\n", n)
						return
					}
					_, _ = fmt.Fprintf(w, "done: %d offsets\n", n)
				})
			})
		},
	}
	f.add(cmd, app, time.Minute)
	who.add(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&p.DryRun, "dry-run", false, "only show what would be deleted")
	flags.StringVar(&p.Concern, "concern", "", "only topics of this Concern")
	flags.StringSliceVar(&p.Kinds, "kind", nil, "only topics of this kind: process, error, response; may be repeated")
	flags.DurationVar(&p.OlderThan, "older-than", 0, "how old a record must be (default: the published retention)")
	completeConcerns(cmd, app)
	return cmd
}
