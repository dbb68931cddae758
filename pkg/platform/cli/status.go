package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

func newStatus(app node.Application) *cobra.Command {
	var f opsFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show who serves what, and how far behind",
		Long: fmt.Sprintf(`Show who serves what, and how far behind.

Per Concern and partition: the process that owns it, the records that wait to be
processed, and how many offsets belong to Kafka transactions that are open. Per
storage target: the changes that it does not have yet. Processes are named
PROGRAM@HOST:PID. Topics are compared with the published version.

Exit codes: 0 all is well, %d there are problems, %d the platform was never
published, %d the brokers are away.`, edgecmd.ExitOther, edgecmd.ExitRefused, edgecmd.ExitUnavailable),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				s, err := l.inspector.Platform(ctx, l.version.GetConfig().GetStorageTargets())
				if err != nil {
					return err
				}
				s.Version, s.Author, s.Published = l.version.GetVersion(), l.version.GetAuthor(), time.UnixMilli(l.version.GetTimeMs()).UTC()
				if err := l.write(s, func(w io.Writer) { printStatus(w, s) }); err != nil {
					return err
				}
				return problems(len(s.Problems))
			})
		},
	}
	f.add(cmd, app, 30*time.Second)
	return cmd
}

// problems is the error of a look that has found some.
func problems(n int) error {
	switch n {
	case 0:
		return nil
	case 1:
		return &edgecmd.ExitError{Code: edgecmd.ExitOther, Err: errors.New("there is 1 problem")}
	}
	return &edgecmd.ExitError{Code: edgecmd.ExitOther, Err: fmt.Errorf("there are %d problems", n)}
}

func plural(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

func printStatus(w io.Writer, s *inspect.PlatformStatus) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	p("%s in %s, version %d, published %s by %s; %s", s.Platform, s.Environment, s.Version, s.Published.Format(time.RFC3339), s.Author, plural(s.Brokers, "broker"))
	p("")
	p("WORKER\tFROM\tPARTITIONS")
	for _, m := range s.Members {
		p("%s\t%s\t%d", m.Client, m.Host, m.Partitions)
	}
	p("")
	p("PARTITION\tOWNER\tTO DO\tOPEN\tPOSITION\tEND")
	for _, c := range s.Concerns {
		for _, part := range c.Partitions {
			owner := part.Owner
			if owner == "" {
				owner = "nobody"
			}
			position := "none" // nobody has ever committed there
			if part.Committed >= 0 {
				position = fmt.Sprint(part.Committed)
			}
			p("%s[%d]\t%s\t%s\t%d\t%s\t%d", c.Name, part.Partition, owner, counted(part.Behind, part.Exact), part.Open, position, part.End)
		}
	}
	p("")
	p("TARGET\tCONCERN\tTO WRITE\tWORKERS")
	for _, t := range s.Storage {
		p("%s\t%s\t%s\t%v", t.Target, t.Concern, counted(t.Behind, t.Exact), t.Members)
	}
	if o := s.Oldest; o != nil {
		p("oldest open transaction: %s, %s, %s old, on %s[%d] %q", o.TxnID, o.State, age(o.Submitted), o.Concern, o.Partition, o.Key)
	}
	for _, paused := range s.Paused {
		p("paused: %s", inspect.Printable(paused))
	}
	for _, problem := range s.Problems {
		p("problem: %s", problem)
	}
}
