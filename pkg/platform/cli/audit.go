package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

func newAudit(app node.Application) *cobra.Command {
	var f opsFlags
	var from string
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List what operators did: who, when, what, why, the newest first",
		Long: `List what operators did: who, when, what, why, the newest first.

It is read from the platform topic, which keeps the newest 5,000 entries for 90 days. An
entry is written before something is done; one without an outcome was begun only.`,
		Example: fmt.Sprintf("  %[1]s audit\n  %[1]s audit --since 24h --json", app.Name),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin, err := since(from)
			if err != nil {
				return err
			}
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				entries, err := l.control().Audit(ctx, begin)
				if err != nil {
					return err
				}
				return l.write(entries, func(w io.Writer) {
					_, _ = fmt.Fprintln(w, "TIME\tAUTHOR\tACTION\tSUBJECT\tREASON\tOUTCOME")
					for _, e := range entries {
						_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Time.Format(time.RFC3339), inspect.Printable(e.Author), e.Action,
							inspect.Printable(e.Subject), inspect.Printable(e.Reason), inspect.Printable(e.Outcome))
					}
				})
			})
		},
	}
	f.add(cmd, app, 15*time.Second)
	cmd.Flags().StringVar(&from, "since", "", "only later ones: an age like 10m, or a time (RFC 3339)")
	return cmd
}
