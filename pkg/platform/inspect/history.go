package inspect

import (
	"context"
	"slices"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Change is one change of an instance.
type Change struct {
	Offset  int64     `json:"offset"`
	Time    time.Time `json:"time"`
	TxnID   string    `json:"txn_id"`
	Version uint64    `json:"version"`
	Deleted bool      `json:"deleted,omitempty"`
	// Instance as it was then; nil if it was deleted.
	Instance any `json:"instance"`
	// Changes says in what it differs from the one before, of those that are shown.
	Changes []string `json:"changes"`
}

// History is what the change feed has of an instance.
type History struct {
	// Changes, the newest first.
	Changes []Change `json:"changes"`
	// Incomplete: older changes were deleted from the feed, or are more than asked
	// for.
	Incomplete bool `json:"incomplete"`
}

// History returns the newest changes of an instance. Errors have CodeUnavailable.
func (i *Inspector) History(ctx context.Context, types Types, concern, key string, most int) (*History, error) {
	out := &History{Changes: []Change{}}
	first := true
	_, err := i.feed(ctx, concern, key, stream.OffsetBeginning, func(r stream.Record, m *rkcyv1.Change) {
		if first {
			first, out.Incomplete = false, r.Offset > 1 // the feed began elsewhere; a marker may be at 0
		}
		if m == nil {
			return
		}
		ch := Change{Offset: r.Offset, Time: r.Time.UTC(), TxnID: idText(m.GetTxnId()), Version: m.GetAfter().GetVersion()}
		if ch.Deleted = ch.Version == 0; !ch.Deleted {
			ch.Instance = types.Value(concern, m.GetAfter())
		}
		ch.Changes = changesOf(out.Changes, ch)
		out.Changes = append(out.Changes, ch)
		if len(out.Changes) > most {
			out.Changes, out.Incomplete = slices.Clone(out.Changes[1:]), true
		}
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(out.Changes)
	return out, nil
}

func changesOf(before []Change, now Change) []string {
	switch {
	case len(before) == 0 || before[len(before)-1].Deleted:
		return []string{}
	case now.Deleted:
		return []string{"deleted"}
	}
	return pathsThatDiffer(before[len(before)-1].Instance, now.Instance)
}
