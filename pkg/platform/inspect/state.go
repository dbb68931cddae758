package inspect

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	adminv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/admin/v1"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// snapshotKey begins a snapshot in a state topic. A reader that is overtaken by
// the deletion of what is before would else miss the ends of what it has read.
const snapshotKey = "s"

// whereabouts reads every state partition for what a transaction holds and
// waits for. State topics are short.
func (i *Inspector) whereabouts(ctx context.Context, id txn.ID) ([]*adminv1.Whereabouts, error) {
	reader, err := stream.NewReader(i.log)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	var out []*adminv1.Whereabouts
	names := i.router.Names()
	for _, c := range i.router.Config().GetConcerns() {
		for p := range c.GetPartitions() {
			live := map[string]*adminv1.Whereabouts{}
			tp := stream.TopicPartition{Topic: names.StateTopic(c.GetName()), Partition: p}
			_, err := reader.ReadTo(ctx, tp, stream.OffsetBeginning, func(r stream.Record) error {
				delete(live, string(r.Key))
				if string(r.Key) == snapshotKey {
					clear(live) // what is live follows
				}
				if len(r.Value) == 0 {
					return nil
				}
				state := &rkcyv1.StateRecord{}
				if err := proto.Unmarshal(r.Value, state); err != nil {
					return fmt.Errorf("state record at %s[%d]@%d: %w", r.Topic, r.Partition, r.Offset, err)
				}
				if at := whereabout(state, id); at != nil {
					at.Concern, at.Partition = c.GetName(), p
					live[string(r.Key)] = at
				}
				return nil
			})
			if err != nil {
				return nil, away(err)
			}
			out = append(out, slices.SortedFunc(maps.Values(live), func(a, b *adminv1.Whereabouts) int {
				return cmp.Or(cmp.Compare(a.GetKey(), b.GetKey()), cmp.Compare(a.GetKind(), b.GetKind()))
			})...)
		}
	}
	return out, nil
}

// whereabout returns what a state record says of a transaction; nil if it is
// about something else.
func whereabout(r *rkcyv1.StateRecord, id txn.ID) *adminv1.Whereabouts {
	switch k := r.GetKind().(type) {
	case *rkcyv1.StateRecord_Hold:
		if string(k.Hold.GetTxnId()) == string(id[:]) {
			return &adminv1.Whereabouts{Kind: adminv1.Whereabouts_KIND_HOLDS, Key: k.Hold.GetKey()}
		}
	case *rkcyv1.StateRecord_Parked:
		if string(k.Parked.GetVisit().GetTxn().GetId()) != string(id[:]) {
			return nil
		}
		at := &adminv1.Whereabouts{Kind: adminv1.Whereabouts_KIND_PARKED, Key: k.Parked.GetKey(), DueMs: k.Parked.GetDueMs()}
		switch {
		case k.Parked.GetStuck():
			at.Kind = adminv1.Whereabouts_KIND_STUCK
		case k.Parked.GetDueMs() > 0:
			at.Kind = adminv1.Whereabouts_KIND_TIMED
		}
		return at
	}
	return nil
}
