package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

func newErrors(app node.Application) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "errors",
		Short: "Look at what was quarantined",
		Long: `Look at what was quarantined: records that nobody could read, and steps whose
handler panicked.

The transaction of each was refused, and its caller told so; nothing of it took
effect, and later records went on. So there is nothing to be put back: once the
cause is mended, the request is sent again, as a transaction of its own.`,
		Args: cobra.ArbitraryArgs,
		RunE: edgecmd.Group,
	}
	cmd.AddCommand(newErrorsList(app), newErrorsShow(app))
	return cmd
}

func newErrorsList(app node.Application) *cobra.Command {
	var f opsFlags
	var concern, from string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List quarantined records, oldest first",
		Example: fmt.Sprintf("  %[1]s errors list --since 24h", app.Name),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin, err := since(from)
			if err != nil {
				return err
			}
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				if err := l.concern(concern); err != nil {
					return err
				}
				events, err := l.quarantined(ctx, concern, begin)
				if err != nil {
					return err
				}
				return l.write(events, func(w io.Writer) {
					if len(events) == 0 {
						_, _ = fmt.Fprintln(w, "nothing was quarantined")
						return
					}
					_, _ = fmt.Fprintln(w, "TIME\tCONCERN\tOFFSET\tTRANSACTION\tKEY\tSOURCE AND REASON")
					for _, e := range events {
						_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%q\t%s\n", e.Time.UTC().Format(time.RFC3339), e.Concern, e.Offset, e.TxnID, e.Key,
							inspect.Printable(firstLine(e.Text)))
					}
				})
			})
		},
	}
	f.add(cmd, app, 30*time.Second)
	cmd.Flags().StringVar(&concern, "concern", "", "only those of this Concern")
	cmd.Flags().StringVar(&from, "since", "", "only later ones: an age like 10m, or a time (RFC 3339)")
	completeConcerns(cmd, app)
	return cmd
}

func (l *look) quarantined(ctx context.Context, concern string, begin time.Time) ([]*inspect.Event, error) {
	if begin.IsZero() {
		begin = time.UnixMilli(0)
	}
	events := []*inspect.Event{}
	err := l.inspector.Watch(ctx, inspect.WatchConfig{
		Types: l.types, Since: begin, Once: true, Filter: inspect.WatchFilter{Concern: concern, Kinds: []platform.Kind{platform.KindError}},
	}, func(e *inspect.Event) error {
		events = append(events, e)
		return nil
	})
	if err == nil {
		err = ctx.Err() // a watch ends with its context, a list does not
	}
	slices.SortStableFunc(events, func(a, b *inspect.Event) int { return a.Time.Compare(b.Time) })
	return events, err
}

func newErrorsShow(app node.Application) *cobra.Command {
	var f opsFlags
	cmd := &cobra.Command{
		Use:               "show CONCERN OFFSET",
		Short:             "Show a quarantined record, decoded as far as it can be",
		Example:           fmt.Sprintf("  %[1]s errors show %[2]s 0", app.Name, firstConcern(app)),
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeOneConcern(app),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("%s takes a Concern and an offset, which \"errors list\" shows", cmd.CommandPath())
			}
			offset, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil || offset < 0 {
				return usagef("%q is not an offset", args[1])
			}
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				topic, err := l.topic(args[0] + ".error")
				if err != nil {
					return err
				}
				return l.decode(ctx, partitionZero(topic), offset, 1)
			})
		},
	}
	f.add(cmd, app, 15*time.Second)
	return cmd
}
