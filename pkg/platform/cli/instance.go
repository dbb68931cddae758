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
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func newInstance(app node.Application) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "instance",
		Short: "Look at one instance: log, holds, database",
		Args:  cobra.ArbitraryArgs,
		RunE:  edgecmd.Group,
	}
	cmd.AddCommand(newInstanceShow(app), newInstanceHistory(app), newWhoHolds(app))
	return cmd
}

// instanceCommand is a command whose arguments are Concern and key.
func instanceCommand(app node.Application, f *opsFlags, cmd *cobra.Command, do func(context.Context, *look, string, string) error) *cobra.Command {
	cmd.Use += " CONCERN KEY"
	cmd.Args = cobra.ArbitraryArgs
	cmd.Example = fmt.Sprintf("  %s instance %s %s", app.Name, cmd.Name(), firstConcern(app)+" ID")
	cmd.ValidArgsFunction = completeOneConcern(app)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) != 2 {
			return usagef("%s takes a Concern and a key; see %s --help", cmd.CommandPath(), cmd.CommandPath())
		}
		return f.look(cmd, app, func(ctx context.Context, l *look) error {
			if err := l.concern(args[0]); err != nil {
				return err
			}
			return do(ctx, l, args[0], args[1])
		})
	}
	f.add(cmd, app, 30*time.Second)
	return cmd
}

func newWhoHolds(app node.Application) *cobra.Command {
	var f opsFlags
	return instanceCommand(app, &f, &cobra.Command{
		Use:   "who-holds",
		Short: "Show which transactions hold an instance, and who waits for it",
	}, func(ctx context.Context, l *look, concern, key string) error {
		found, err := l.inspector.Waiting(ctx, l.types, inspect.WaitingFilter{Concern: concern, Key: key})
		if err != nil {
			return err
		}
		return l.write(found, func(w io.Writer) {
			if len(found) == 0 {
				_, _ = fmt.Fprintf(w, "nobody holds %s %q or waits for it\n", concern, key)
				return
			}
			printWaiting(w, found)
		})
	})
}

func newInstanceShow(app node.Application) *cobra.Command {
	var f opsFlags
	cmd := instanceCommand(app, &f, &cobra.Command{
		Use:   "show",
		Short: "Show the committed state, what is prepared, who waits, and the rows",
		Long: `Show the committed state, what is prepared, who waits, and the rows.

The committed state is the last change in the change feed, or the row of the primary
database where the feed has none above the watermark. While a database is away the
feed is read from its beginning, which may take a while.`,
	}, showInstance)
	f.addDatabases(cmd)
	return cmd
}

func showInstance(ctx context.Context, l *look, concern, key string) error {
	databases, done := l.databases()
	defer done()
	s, known, err := l.inspector.Instance(ctx, l.types, databases, concern, key)
	if err != nil {
		return err
	}
	if err := l.write(s, func(w io.Writer) { printInstance(w, s) }); err != nil {
		return err
	}
	nothing := s.Committed == nil && len(s.Holders)+len(s.Queue) == 0
	switch {
	case nothing && !known:
		return txn.Errorf(txn.CodeUnavailable, "the change feed has nothing of %s %q, and the primary database cannot be asked", concern, key)
	case nothing:
		return txn.Errorf(txn.CodeNotFound, "%s %q does not exist", concern, key)
	}
	return nil
}

// databases returns the storage targets of the platform file, and how to close them.
func (l *look) databases() (out []inspect.Database, done func()) {
	var open []*postgres.Target
	primary, hasPrimary := l.cfg.Primary()
	for _, t := range l.cfg.Storage.Targets {
		d := inspect.Database{Target: t.Name, Primary: hasPrimary && t.Name == primary.Name}
		db, err := postgres.Open(postgres.Config{DSN: t.DSN, Mappings: l.app.Mappings(), Logger: l.log.Logger})
		switch {
		case t.DSN == "":
			err = errors.New("its address is not known here")
		case err == nil:
			open = append(open, db)
		}
		d.Load = func(ctx context.Context, concern, key string) (*rkcyv1.Instance, error) {
			if err != nil {
				return nil, errors.New(postgres.Redact(err.Error()))
			}
			found, err := db.Load(ctx, concern, []string{key})
			if err != nil {
				return nil, errors.New(postgres.Redact(err.Error()))
			}
			return found[key], nil
		}
		out = append(out, d)
	}
	return out, func() {
		for _, db := range open {
			db.Close()
		}
	}
}

func printInstance(w io.Writer, s *inspect.InstanceView) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	p("%s %q, partition %d", s.Concern, s.Key, s.Partition)
	switch {
	case s.Source == "feed" && s.Committed == nil:
		p("committed: deleted by %s, at offset %d", s.TxnID, s.Offset)
	case s.Committed == nil:
		p("committed: it does not exist")
	case s.Source == "feed":
		p("committed: version %d by %s, at offset %d of the change feed", s.Version, s.TxnID, s.Offset)
	default:
		p("committed: version %d, from the primary database; the change feed has nothing newer", s.Version)
	}
	if s.Committed != nil {
		p("  %s", jsonText(s.Committed))
	}
	for _, h := range s.Holders {
		p("held: %s by %s, since %s ago", h.Access, h.TxnID, age(h.Submitted))
		if h.Pending != nil {
			p("  %s", jsonText(h.Pending))
		}
	}
	for i, q := range s.Queue {
		p("waits: %d. %s, %s, %s, since %s ago", i+1, q.TxnID, q.State, q.Access, age(q.Submitted))
	}
	for _, d := range s.Databases {
		switch {
		case d.Error != "":
			p("database %s: cannot be asked: %s", d.Target, firstLine(d.Error))
		case len(d.Differs) == 0 && d.Row == nil:
			p("database %s: no row, as it must be", d.Target)
		case len(d.Differs) == 0:
			p("database %s: the same, version %d", d.Target, d.Version)
		default:
			p("database %s: version %d, differs", d.Target, d.Version)
			for _, diff := range d.Differs {
				p("  %s", diff)
			}
		}
	}
}
