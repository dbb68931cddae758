package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

func newInstanceHistory(app node.Application) *cobra.Command {
	var f opsFlags
	var most int
	cmd := instanceCommand(app, &f, &cobra.Command{
		Use:   "history",
		Short: "List the changes of an instance that the change feed has, the newest first",
	}, func(ctx context.Context, l *look, concern, key string) error {
		if most < 1 {
			return usagef("--count is %d; it is at least 1", most)
		}
		h, err := l.inspector.History(ctx, l.types, concern, key, most)
		if err != nil {
			return err
		}
		return l.write(h, func(w io.Writer) {
			if len(h.Changes) == 0 {
				_, _ = fmt.Fprintf(w, "the change feed has nothing of %s %q\n", concern, key)
				return
			}
			_, _ = fmt.Fprintln(w, "TIME\tOFFSET\tVERSION\tTRANSACTION\tCHANGES")
			for _, c := range h.Changes {
				words := strings.Join(c.Changes, "; ")
				if len(c.Changes) == 0 {
					words = jsonText(c.Instance)
				}
				_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", c.Time.Format(time.RFC3339Nano), c.Offset, c.Version, c.TxnID, inspect.Printable(words))
			}
			if h.Incomplete {
				_, _ = fmt.Fprintln(w, "there are older changes, or were")
			}
		})
	})
	cmd.Flags().IntVar(&most, "count", 20, "how many changes at most")
	return cmd
}
