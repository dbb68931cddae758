package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

// newTransactionList is "txn list". Unlike the commands beside it, it asks the
// brokers and no edge.
func newTransactionList(app node.Application) *cobra.Command {
	var f opsFlags
	var filter inspect.WaitingFilter
	var olderThan time.Duration
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List transactions that hold or wait for instances",
		Long: `List transactions that hold or wait for instances, the oldest first, as the state
topics have them. It asks the brokers, not an edge.

  holds     has prepared an instance, or reads it, until it ends
  parked    waits behind a hold
  restarts  has given up all that it held, and begins again when it can
  timed     waits for a time: a delayed start, or the next try of a compensation
  stuck     a saga whose compensation is refused; "txn retry" goes on with it

A transaction of one instance, and one that is on its way, is not among them.`,
		Example: fmt.Sprintf("  %[1]s txn list\n  %[1]s txn list --state parked --older-than 5s\n  %[1]s txn list --concern %[2]s --key ID --json", app.Name, firstConcern(app)),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuseInherited(cmd); err != nil {
				return err
			}
			for _, s := range filter.States {
				if !slices.Contains(inspect.WaitingStates(), s) {
					return usagef("--state: %q is not allowed%s; allowed are %s", s, suggest.Hint(s, inspect.WaitingStates()), strings.Join(inspect.WaitingStates(), ", "))
				}
			}
			if olderThan < 0 {
				return usagef("--older-than is negative")
			}
			if olderThan > 0 {
				filter.SubmittedBefore = time.Now().Add(-olderThan)
			}
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				if err := l.concern(filter.Concern); err != nil {
					return err
				}
				found, err := l.inspector.Waiting(ctx, l.types, filter)
				if err != nil {
					return err
				}
				return l.write(found, func(w io.Writer) { printWaiting(w, found) })
			})
		},
	}
	f.add(cmd, app, 30*time.Second)
	flags := cmd.Flags()
	flags.StringSliceVar(&filter.States, "state", nil, "only these: "+strings.Join(inspect.WaitingStates(), ", ")+"; may be repeated")
	flags.StringVar(&filter.Concern, "concern", "", "only on instances of this Concern")
	flags.StringVar(&filter.Key, "key", "", "only on the instance of this key")
	flags.StringVar(&filter.Reason, "error", "", "only sagas that are undone for a reason that has this text in it")
	flags.DurationVar(&olderThan, "older-than", 0, "only those that were submitted longer ago")
	completeConcerns(cmd, app)
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(inspect.WaitingStates(), cobra.ShellCompDirectiveNoFileComp))
	cmd.SetUsageTemplate(strings.ReplaceAll(cmd.UsageTemplate(), "{{if .HasAvailableInheritedFlags}}", "{{if false}}"))
	return cmd
}

func printWaiting(w io.Writer, found []*inspect.Waiting) {
	if len(found) == 0 {
		_, _ = fmt.Fprintln(w, "no transaction holds or waits for anything")
		return
	}
	_, _ = fmt.Fprintln(w, "TRANSACTION\tSTATE\tAGE\tINSTANCE\tACCESS\tATTEMPT\tCOMMANDS, REASON")
	for _, t := range found {
		words := strings.Join(t.Commands, " ")
		if t.Due != nil {
			words += ", due " + t.Due.Format(time.RFC3339)
		}
		if t.Reason != "" {
			words += ", undone since " + inspect.Printable(firstLine(t.Reason))
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s[%d] %q\t%s\t%d\t%s\n", t.TxnID, t.State, age(t.Submitted), t.Concern, t.Partition, t.Key, t.Access, t.Attempt, words)
	}
}
