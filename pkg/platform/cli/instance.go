package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
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
	cmd.AddCommand(newInstanceShow(app), newWhoHolds(app))
	return cmd
}

// instanceCommand is a command whose arguments are Concern and key.
func instanceCommand(app node.Application, f *opsFlags, cmd *cobra.Command, do func(context.Context, *look, string, string) error) *cobra.Command {
	cmd.Use += " CONCERN KEY"
	cmd.Args = cobra.ArbitraryArgs
	cmd.Example = fmt.Sprintf("  %s instance %s %s", app.Name, cmd.Name(), firstConcern(app)+" ID")
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return concernNames(app), cobra.ShellCompDirectiveNoFileComp
	}
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

// shownInstance is what "instance show" tells.
type shownInstance struct {
	Concern   string `json:"concern"`
	Key       string `json:"key"`
	Partition int32  `json:"partition"`
	// Committed is the state that transactions see; nil if it does not exist.
	Committed any `json:"committed"`
	// Version of the committed state, 0 if there is none.
	Version uint64 `json:"version"`
	// Source of the committed state: feed or database.
	Source string `json:"source,omitempty"`
	// Offset of the last change in the feed, -1 if it lies before the watermark of
	// the primary target, and the transaction that made it.
	Offset int64  `json:"offset"`
	TxnID  string `json:"txn_id,omitempty"`
	// Holders and those that wait, in order.
	Holders []*inspect.Waiting `json:"holders"`
	Queue   []*inspect.Waiting `json:"queue"`
	// Databases have what the targets have.
	Databases []shownRow `json:"databases"`
}

type shownRow struct {
	Target  string `json:"target"`
	Version uint64 `json:"version"`
	Row     any    `json:"row"`
	// Differs says in what fields it is not the committed state.
	Differs []string `json:"differs"`
	// Error is why the database could not be asked.
	Error string `json:"error,omitempty"`

	instance *rkcyv1.Instance
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
	s := shownInstance{Concern: concern, Key: key, Holders: []*inspect.Waiting{}, Queue: []*inspect.Waiting{}, Databases: []shownRow{}}
	// The watermark first, then the rows, then the feed: what a row has and the
	// feed's part lacks cannot be.
	from, err := l.watermark(ctx, concern, key)
	if err != nil {
		return err
	}
	primary, hasPrimary := l.cfg.Primary()
	var row *rkcyv1.Instance
	known := false
	for _, t := range l.cfg.Storage.Targets {
		r := l.row(ctx, t.Name, t.DSN, concern, key)
		if hasPrimary && t.Name == primary.Name && r.Error == "" {
			row, known = r.instance, true
		}
		s.Databases = append(s.Databases, r)
	}
	if !known {
		from = stream.OffsetBeginning
	}
	change, err := l.inspector.LastChange(ctx, concern, key, from)
	if err != nil {
		return err
	}
	s.Partition, s.Offset, s.TxnID = change.Partition, change.Offset, change.TxnID
	committed := row
	if s.Source = "database"; change.Offset >= 0 {
		committed, s.Source = change.Instance, "feed"
	}
	if committed == nil && change.Offset < 0 {
		s.Source = ""
	}
	s.Committed, s.Version = l.types.Value(concern, committed), committed.GetVersion()
	for i := range s.Databases {
		if d := &s.Databases[i]; d.Error == "" {
			d.Differs = differences(s.Committed, d.Row)
		}
	}
	waiting, err := l.inspector.Waiting(ctx, l.types, inspect.WaitingFilter{Concern: concern, Key: key})
	if err != nil {
		return err
	}
	for _, w := range waiting {
		if w.State == inspect.StateHolds {
			s.Holders = append(s.Holders, w)
		} else {
			s.Queue = append(s.Queue, w)
		}
	}
	if err := l.write(s, func(w io.Writer) { printInstance(w, s) }); err != nil {
		return err
	}
	if s.Committed == nil && len(waiting) == 0 && !known {
		return txn.Errorf(txn.CodeUnavailable, "the change feed has nothing of %s %q, and the primary database cannot be asked", concern, key)
	}
	if s.Committed == nil && len(waiting) == 0 {
		return txn.Errorf(txn.CodeNotFound, "%s %q does not exist", concern, key)
	}
	return nil
}

// watermark returns how far the primary target has come in the partition of a key.
func (l *look) watermark(ctx context.Context, concern, key string) (int64, error) {
	primary, ok := l.cfg.Primary()
	if !ok {
		return stream.OffsetBeginning, nil
	}
	admin, err := stream.NewAdmin(l.log)
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	names := l.router.Names()
	tp := stream.TopicPartition{Topic: names.StorageTopic(concern), Partition: stream.PartitionFor([]byte(key), l.router.Partitions(concern))}
	offsets, err := admin.GroupOffsets(ctx, names.StorageGroup(concern, primary.Name), []stream.TopicPartition{tp})
	if err != nil {
		return 0, txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	if offsets[tp] < 0 {
		return stream.OffsetBeginning, nil
	}
	return offsets[tp], nil
}

// row reads an instance from a database.
func (l *look) row(ctx context.Context, target, dsn, concern, key string) shownRow {
	r := shownRow{Target: target, Differs: []string{}}
	fail := func(err error) shownRow {
		r.Error = postgres.Redact(err.Error())
		return r
	}
	if dsn == "" {
		r.Error = "its address is not known here"
		return r
	}
	db, err := postgres.Open(postgres.Config{DSN: dsn, Mappings: l.app.Mappings(), Logger: l.log.Logger})
	if err != nil {
		return fail(err)
	}
	defer db.Close()
	found, err := db.Load(ctx, concern, []string{key})
	if err != nil {
		return fail(err)
	}
	r.instance = found[key]
	r.Version, r.Row = r.instance.GetVersion(), l.types.Value(concern, r.instance)
	return r
}

// differences lists the paths in which two trees differ.
func differences(a, b any) []string {
	out := []string{}
	var compare func(path string, a, b any)
	compare = func(path string, a, b any) {
		x, okX := a.(map[string]any)
		y, okY := b.(map[string]any)
		if !okX || !okY {
			if s, t := canonical(a), canonical(b); s != t {
				out = append(out, fmt.Sprintf("%s: %s here, %s in the database", path, inspect.Printable(s), inspect.Printable(t)))
			}
			return
		}
		names := map[string]bool{}
		for n := range x {
			names[n] = true
		}
		for n := range y {
			names[n] = true
		}
		for _, n := range slices.Sorted(maps.Keys(names)) {
			at := n
			if path != "" {
				at = path + "." + n
			}
			compare(at, x[n], y[n])
		}
	}
	switch {
	case a == nil && b == nil:
	case b == nil:
		out = append(out, "there is no row")
	case a == nil:
		out = append(out, "there is a row of what does not exist")
	default:
		compare("", a, b)
	}
	return out
}

func canonical(v any) string {
	if v == nil {
		return "nothing"
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

func printInstance(w io.Writer, s shownInstance) {
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
