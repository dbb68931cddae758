package inspect

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// InstanceView is all that is known of an instance.
type InstanceView struct {
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
	Holders []*Waiting `json:"holders"`
	Queue   []*Waiting `json:"queue"`
	// Databases have what the targets have.
	Databases []Row `json:"databases"`
}

// Row is what a database has of an instance.
type Row struct {
	Target  string `json:"target"`
	Version uint64 `json:"version"`
	Row     any    `json:"row"`
	// Differs says in what fields it is not the committed state.
	Differs []string `json:"differs"`
	// Error is why the database could not be asked.
	Error string `json:"error,omitempty"`
}

// Database is a storage target that can be asked.
type Database struct {
	Target  string
	Primary bool
	// Load returns an instance; nil if there is no row.
	Load func(ctx context.Context, concern, key string) (*rkcyv1.Instance, error)
}

// Instance returns all that is known of an instance. known is false if neither the
// primary database nor the feed could tell whether it exists. Errors have
// CodeUnavailable.
func (i *Inspector) Instance(ctx context.Context, types Types, databases []Database, concern, key string) (s *InstanceView, known bool, err error) {
	s = &InstanceView{Concern: concern, Key: key, Holders: []*Waiting{}, Queue: []*Waiting{}, Databases: []Row{}}
	// The watermark first, then the rows, then the feed: what a row has and the
	// feed's part lacks cannot be.
	from, err := i.watermark(ctx, databases, concern, key)
	if err != nil {
		return nil, false, err
	}
	var row *rkcyv1.Instance
	for _, d := range databases {
		r := Row{Target: d.Target, Differs: []string{}}
		found, err := d.Load(ctx, concern, key)
		if err != nil {
			r.Error = err.Error()
		} else {
			r.Version, r.Row = found.GetVersion(), types.Value(concern, found)
			if d.Primary {
				row, known = found, true
			}
		}
		s.Databases = append(s.Databases, r)
	}
	if !known {
		from = stream.OffsetBeginning
	}
	change, err := i.LastChange(ctx, concern, key, from)
	if err != nil {
		return nil, known, err
	}
	s.Partition, s.Offset, s.TxnID = change.Partition, change.Offset, change.TxnID
	committed := row
	if s.Source = "database"; change.Offset >= 0 {
		committed, s.Source = change.Instance, "feed"
	}
	if committed == nil && change.Offset < 0 {
		s.Source = ""
	}
	s.Committed, s.Version = types.Value(concern, committed), committed.GetVersion()
	for i := range s.Databases {
		if d := &s.Databases[i]; d.Error == "" {
			d.Differs = differences(s.Committed, d.Row)
		}
	}
	waiting, err := i.Waiting(ctx, types, WaitingFilter{Concern: concern, Key: key})
	if err != nil {
		return nil, known, err
	}
	for _, w := range waiting {
		if w.State == StateHolds {
			s.Holders = append(s.Holders, w)
		} else {
			s.Queue = append(s.Queue, w)
		}
	}
	return s, known, nil
}

// watermark returns how far the primary target has come in the partition of a key.
func (i *Inspector) watermark(ctx context.Context, databases []Database, concern, key string) (int64, error) {
	at := slices.IndexFunc(databases, func(d Database) bool { return d.Primary })
	if at < 0 {
		return stream.OffsetBeginning, nil
	}
	admin, err := stream.NewAdmin(i.log)
	if err != nil {
		return 0, err
	}
	defer admin.Close()
	names := i.router.Names()
	tp := stream.TopicPartition{Topic: names.StorageTopic(concern), Partition: stream.PartitionFor([]byte(key), i.router.Partitions(concern))}
	offsets, err := admin.GroupOffsets(ctx, names.StorageGroup(concern, databases[at].Target), []stream.TopicPartition{tp})
	if err != nil {
		return 0, away(err)
	}
	if offsets[tp] < 0 {
		return stream.OffsetBeginning, nil
	}
	return offsets[tp], nil
}

// differences says in what a row differs from the committed state.
func differences(a, b any) []string {
	switch {
	case a == nil && b == nil:
		return []string{}
	case b == nil:
		return []string{"there is no row"}
	case a == nil:
		return []string{"there is a row of what does not exist"}
	}
	return paths(a, b, func(path, a, b string) string { return fmt.Sprintf("%s: %s here, %s in the database", path, a, b) })
}

// pathsThatDiffer says what changed between two states.
func pathsThatDiffer(before, after any) []string {
	return paths(before, after, func(path, a, b string) string { return fmt.Sprintf("%s: %s instead of %s", path, b, a) })
}

// paths lists where two trees differ.
func paths(a, b any, say func(path, a, b string) string) []string {
	out := []string{}
	var compare func(path string, a, b any)
	compare = func(path string, a, b any) {
		x, okX := a.(map[string]any)
		y, okY := b.(map[string]any)
		if !okX || !okY {
			if s, t := canonical(a), canonical(b); s != t {
				out = append(out, say(path, Printable(s), Printable(t)))
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
	compare("", a, b)
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
