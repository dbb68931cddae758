package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/audit"
	"github.com/rocketcycle/rocketcycle/internal/isolation"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// row is an instance as the feed or the database has it.
type row struct {
	entries string
	version uint64
}

// feed is what the storage topics have.
type feed struct {
	last map[isolation.Object]row
	// ops has how often an operation is in each instance.
	ops map[int64]map[isolation.Object]string
	// faults are what no feed may have.
	faults []string
}

func (f *feed) fault(format string, args ...any) {
	f.faults = append(f.faults, fmt.Sprintf(format, args...))
}

// readFeed reads the storage topics and checks that the versions of each
// instance are 1, 2, 3 and so on, and that each adds one entry to the one
// before.
func readFeed(ctx context.Context, cfg stream.Config, s site) (*feed, error) {
	f := &feed{last: map[isolation.Object]row{}, ops: map[int64]map[isolation.Object]string{}}
	names := s.platform().Names()
	for _, c := range concerns {
		err := audit.ReadAll(ctx, cfg, names.StorageTopic(c), partitions, func(r stream.Record) error {
			change := &rkcyv1.Change{}
			if err := proto.Unmarshal(r.Value, change); err != nil {
				return err
			}
			m := newInstance()
			if err := proto.Unmarshal(change.GetAfter().GetValue(), m); err != nil {
				return err
			}
			o := isolation.Object{Concern: c, Key: change.GetKey()}
			before, now := f.last[o], row{strings.Join(m.GetPaths(), " "), change.GetAfter().GetVersion()}
			f.last[o] = now
			if now.version != before.version+1 {
				f.fault("%s[%d]@%d: %v: version %d follows on %d", r.Topic, r.Partition, r.Offset, o, now.version, before.version)
			}
			if before.version == 0 {
				return nil // created
			}
			added, is := strings.CutPrefix(now.entries, before.entries+" ")
			if !is || strings.Contains(added, " ") {
				f.fault("%s[%d]@%d: %v: %q is not one entry more than %q", r.Topic, r.Partition, r.Offset, o, tail(now.entries), tail(before.entries))
				return nil
			}
			list, _, err := entries(&instance{Paths: []string{added}})
			if err != nil {
				return err
			}
			op := list[0].op
			if f.ops[op] == nil {
				f.ops[op] = map[isolation.Object]string{}
			}
			if _, twice := f.ops[op][o]; twice {
				f.fault("%s[%d]@%d: operation %d took effect twice on %v", r.Topic, r.Partition, r.Offset, op, o)
			}
			f.ops[op][o] = added
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

func tail(s string) string { return s[max(0, len(s)-60):] }

// judge compares what clients know with the feed, and returns everything that
// is wrong.
func (l *load) judge(f *feed) (wrong []string) {
	wrong = append(wrong, f.faults...)
	known := map[int64]bool{}
	for _, o := range l.ops {
		known[o.number] = true
		want, got := o.writes(), f.ops[o.number]
		missing := 0
		for at, e := range want {
			switch found, is := got[at]; {
			case !is:
				missing++
			case found != e:
				wrong = append(wrong, fmt.Sprintf("operation %d entered %q into %v, not %q", o.number, found, at, e))
			}
		}
		switch {
		case len(want) == 0:
		case len(got) > len(want):
			wrong = append(wrong, fmt.Sprintf("operation %d is in %v, asked for was %v", o.number, got, want))
		case o.outcome == isolation.OK && missing > 0:
			wrong = append(wrong, fmt.Sprintf("operation %d was acknowledged, and %d of %d effects are lost: %v", o.number, missing, len(want), o.steps))
		case o.outcome == isolation.Failed && len(got) > 0:
			wrong = append(wrong, fmt.Sprintf("operation %d was refused (%v) and took effect: %v", o.number, o.err, got))
		case missing > 0 && missing < len(want):
			wrong = append(wrong, fmt.Sprintf("operation %d is torn: %d of %d effects are there", o.number, len(want)-missing, len(want)))
		}
	}
	for op, at := range f.ops {
		if !known[op] {
			wrong = append(wrong, fmt.Sprintf("operation %d, which nobody asked for, is in %v", op, at))
		}
	}
	var sum int64
	for o, r := range f.last {
		_, n, err := entries(&instance{Paths: strings.Fields(r.entries)})
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		if n < 0 {
			wrong = append(wrong, fmt.Sprintf("%v has %d", o, n))
		}
		if o.Concern == left || o.Concern == right {
			sum += n
		}
	}
	if want := int64(2 * perConcern * purse); sum != want {
		wrong = append(wrong, fmt.Sprintf("all accounts together have %d, want %d", sum, want))
	}
	return wrong
}

// settle waits until nothing is held: operations of unknown outcome have ended.
func settle(a *arena) {
	a.t.Helper()
	names := a.site.platform().Names()
	eventually(a.t, "every hold ends", func() error {
		for _, c := range concerns {
			n, err := audit.OpenHolds(a.t.Context(), a.stream(), names.StateTopic(c), partitions)
			if err != nil || n > 0 {
				return fmt.Errorf("%d holds or parked visits of %s are left (%w)", n, c, err)
			}
		}
		return nil
	})
}

// verify checks everything that must hold after a fault. At least want
// operations must have succeeded. edges are those that answer.
func (l *load) verify(a *arena, want int, edges ...*process) {
	t := l.t
	t.Helper()
	// Reads are operations, too: the last word of the history. They also wait
	// for what is still under way.
	f := &feed{}
	cache := map[isolation.Object]string{}
	for _, o := range objects() {
		eventually(t, "read "+o.String(), func() error {
			op, err := l.do(clients, edges[0].connect(), []step{{Concern: o.Concern, Key: o.Key, Command: commandLook}})
			if err != nil {
				t.Fatal(err)
			}
			return op.err
		})
	}
	settle(a)
	eventually(t, "the feed is read", func() (err error) {
		f, err = readFeed(t.Context(), a.stream(), a.site)
		return err
	})
	wrong := l.judge(f)
	for i, w := range wrong {
		if i == 12 {
			t.Errorf("and %d more", len(wrong)-i)
			break
		}
		t.Error(w)
	}
	for i, e := range edges {
		for _, o := range objects() {
			eventually(t, "read "+o.String(), func() error {
				answer, err := call(t.Context(), e.connect(), []step{{Concern: o.Concern, Key: o.Key, Command: commandLook}})
				if err == nil {
					cache[o] = strings.Join(answer[0], " ")
				}
				return err
			})
			if cache[o] != f.last[o].entries {
				t.Errorf("edge %d: %v is %q, the feed has %q", i, o, tail(cache[o]), tail(f.last[o].entries))
			}
		}
	}
	began := time.Now()
	eventually(t, "the rows are what the feed has", func() error { return a.compareRows(f) })
	caughtUp := time.Since(began)

	h := l.recorder.History()
	report, err := isolation.Check(h)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Valid() {
		t.Error(report)
	}
	if linear := isolation.Linearizable(h, 3*time.Second); !linear.Valid() {
		t.Error(linear)
	}
	if report.OK < want {
		t.Errorf("%d operations succeeded, want at least %d", report.OK, want)
	}
	t.Logf("MEASURED %s: %d ok, %d failed, %d unknown (%d of them seen); longest pause %v; rows complete after %v; %d faults found",
		strings.TrimPrefix(t.Name(), "TestChaos/"), report.OK, report.Failed, report.Unknown, report.Observed,
		l.longestPause().Round(10*time.Millisecond), caughtUp.Round(10*time.Millisecond), len(wrong)+len(report.Anomalies))
}

// longestPause is the longest time in which no operation succeeded.
func (l *load) longestPause() (longest time.Duration) {
	var ends []time.Time
	for _, o := range l.ops {
		if o.outcome == isolation.OK {
			ends = append(ends, o.ended)
		}
	}
	slices.SortFunc(ends, time.Time.Compare)
	for i := 1; i < len(ends); i++ {
		longest = max(longest, ends[i].Sub(ends[i-1]))
	}
	return longest
}

// compareRows compares the database with the feed.
func (a *arena) compareRows(f *feed) error {
	ctx := a.t.Context()
	conn, err := pgx.Connect(ctx, a.directDSN)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	found := 0
	for _, c := range concerns {
		rows, err := conn.Query(ctx, "SELECT id, entries, rkcy_version FROM "+table(c))
		if err != nil {
			return err
		}
		var id, text string
		var version int64
		if _, err := pgx.ForEachRow(rows, []any{&id, &text, &version}, func() error {
			found++
			want := f.last[isolation.Object{Concern: c, Key: id}]
			if got := (row{text, uint64(version)}); got != want { //nolint:gosec // not negative
				return fmt.Errorf("%s/%s has version %d, %q; the feed has %d, %q", c, id, got.version, tail(got.entries), want.version, tail(want.entries))
			}
			return nil
		}); err != nil {
			return err
		}
	}
	if found != len(f.last) {
		return fmt.Errorf("%d rows, %d instances", found, len(f.last))
	}
	return nil
}

// stream is how the test itself reads the log: not through a proxy.
func (a *arena) stream() stream.Config {
	return node.Stream(site{Bootstrap: a.directKafka, Name: a.site.Name}.platform(), "chaos-verify", slog.New(slog.DiscardHandler))
}
