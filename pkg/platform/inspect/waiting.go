package inspect

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Waiting is a transaction that holds an instance, or waits for one or for a time.
// One that does both, or holds several, is there as often.
type Waiting struct {
	TxnID string `json:"txn_id"`
	// State is one of the constants.
	State     string `json:"state"`
	Concern   string `json:"concern"`
	Partition int32  `json:"partition"`
	Key       string `json:"key"`
	// Access is exclusive or shared.
	Access string `json:"access"`
	// Submitted is when it began; with the id it is its age.
	Submitted time.Time `json:"submitted"`
	// Deadline after which it is refused, of those that are not holds.
	Deadline *time.Time `json:"deadline,omitempty"`
	// Due is when a timed one goes on.
	Due     *time.Time `json:"due,omitempty"`
	Attempt uint32     `json:"attempt"`
	// Commands of the transaction, of those that are not holds.
	Commands []string `json:"commands,omitempty"`
	// Reason is why a saga is undone.
	Reason string `json:"reason,omitempty"`
	// Pending is what a hold has prepared; nil for a shared one.
	Pending any `json:"pending,omitempty"`
	// Offset of its record in the state topic.
	Offset int64 `json:"offset"`
	// sequence is the order of those that wait in a partition.
	sequence uint64
}

// WaitingFilter says which are wanted; a zero field any.
type WaitingFilter struct {
	States          []string
	Concern, Key    string
	SubmittedBefore time.Time
	// Reason is a part of why a saga is undone, in any case.
	Reason string
}

func (f *WaitingFilter) wants(w *Waiting) bool {
	return (len(f.States) == 0 || slices.Contains(f.States, w.State)) && (f.Key == "" || f.Key == w.Key) &&
		(f.SubmittedBefore.IsZero() || w.Submitted.Before(f.SubmittedBefore)) &&
		(f.Reason == "" || strings.Contains(strings.ToLower(w.Reason), strings.ToLower(f.Reason)))
}

// Waiting returns what the state topics have, oldest transaction first, and those
// that wait for one instance in the order in which they do. A transaction that is
// between two partitions just then is not among them. Errors have
// CodeUnavailable.
func (i *Inspector) Waiting(ctx context.Context, types Types, filter WaitingFilter) ([]*Waiting, error) {
	reader, err := stream.NewReader(i.log)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	out := []*Waiting{}
	names := i.router.Names()
	for _, c := range i.router.Config().GetConcerns() {
		if filter.Concern != "" && filter.Concern != c.GetName() {
			continue
		}
		for p := range c.GetPartitions() {
			if filter.Key != "" && p != stream.PartitionFor([]byte(filter.Key), c.GetPartitions()) {
				continue
			}
			live, err := waitingIn(ctx, reader, stream.TopicPartition{Topic: names.StateTopic(c.GetName()), Partition: p}, types)
			if err != nil {
				return nil, err
			}
			for _, w := range live {
				if filter.wants(w) {
					out = append(out, w)
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b *Waiting) int {
		if a.Concern == b.Concern && a.Key == b.Key && a.State == StateParked && b.State == StateParked {
			return cmp.Compare(a.sequence, b.sequence)
		}
		return cmp.Or(a.Submitted.Compare(b.Submitted), cmp.Compare(a.TxnID, b.TxnID), cmp.Compare(a.Concern, b.Concern),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.State, b.State))
	})
	return out, nil
}

// waitingIn reads a state partition. A record that cannot be read is passed over:
// processors have the last word on it.
func waitingIn(ctx context.Context, reader *stream.Reader, tp stream.TopicPartition, types Types) ([]*Waiting, error) {
	_, _, concern, _, _, _ := platform.ParseTopic(tp.Topic)
	live := map[string]*Waiting{}
	_, err := reader.ReadTo(ctx, tp, stream.OffsetBeginning, func(r stream.Record) error {
		delete(live, string(r.Key))
		if string(r.Key) == snapshotKey {
			clear(live) // what is live follows
		}
		state := &rkcyv1.StateRecord{}
		if len(r.Value) == 0 || proto.Unmarshal(r.Value, state) != nil {
			return nil //nolint:nilerr // passed over
		}
		if w := waitingOf(concern, state, types); w != nil {
			w.Partition, w.Offset = tp.Partition, r.Offset
			live[string(r.Key)] = w
		}
		return nil
	})
	if err != nil {
		return nil, away(err)
	}
	return slices.Collect(maps.Values(live)), nil
}

func waitingOf(concern string, r *rkcyv1.StateRecord, types Types) *Waiting {
	switch k := r.GetKind().(type) {
	case *rkcyv1.StateRecord_Hold:
		h := k.Hold
		w := &Waiting{
			TxnID: idText(h.GetTxnId()), State: StateHolds, Concern: concern, Key: h.GetKey(), Access: accessText(h.GetAccess()),
			Submitted: at(h.GetSubmitTimeMs()), Attempt: h.GetAttempt(),
		}
		if h.GetPending() != nil {
			w.Pending = expander{types: types, concern: concern}.message(h.GetPending().ProtoReflect())
		}
		return w
	case *rkcyv1.StateRecord_Parked:
		t := k.Parked.GetVisit().GetTxn()
		w := &Waiting{
			TxnID: idText(t.GetId()), State: parkedState(k.Parked), Concern: concern, Key: k.Parked.GetKey(), Access: accessText(k.Parked.GetAccess()),
			Submitted: at(t.GetSubmitTimeMs()), Attempt: k.Parked.GetVisit().GetAttempt(), Reason: k.Parked.GetVisit().GetUndo().GetMessage(),
			sequence: k.Parked.GetSequence(),
		}
		if ms := t.GetDeadlineMs(); ms > 0 && k.Parked.GetVisit().GetUndo() == nil {
			deadline := at(ms)
			w.Deadline = &deadline
		}
		if ms := k.Parked.GetDueMs(); ms > 0 {
			due := at(ms)
			w.Due = &due
		}
		for _, s := range t.GetSteps() {
			w.Commands = append(w.Commands, s.GetConcern()+"."+s.GetCommand())
		}
		return w
	}
	return nil
}

func at(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// Committed is what the change feed has of an instance.
type Committed struct {
	Partition int32 `json:"partition"`
	// Offset of the last change, -1 if the part of the feed that was read has none.
	Offset int64  `json:"offset"`
	TxnID  string `json:"txn_id,omitempty"`
	// Instance as of that change; nil if it was deleted, or Offset is -1.
	Instance *rkcyv1.Instance `json:"-"`
	Deleted  bool             `json:"deleted,omitempty"`
}

// LastChange reads the change feed of an instance's partition from an offset on,
// stream.OffsetBeginning for all that there is, and returns the last change of the
// instance.
func (i *Inspector) LastChange(ctx context.Context, concern, key string, from int64) (*Committed, error) {
	out := &Committed{Offset: -1}
	partition, err := i.feed(ctx, concern, key, from, func(r stream.Record, change *rkcyv1.Change) {
		if change == nil {
			return
		}
		out.Offset, out.TxnID, out.Instance = r.Offset, idText(change.GetTxnId()), change.GetAfter()
		if out.Deleted = change.GetAfter().GetVersion() == 0; out.Deleted {
			out.Instance = nil
		}
	})
	if err != nil {
		return nil, err
	}
	out.Partition = partition
	return out, nil
}

// Value returns an instance of a Concern as JSON can have it.
func (t Types) Value(concern string, instance *rkcyv1.Instance) any {
	if instance == nil {
		return nil
	}
	return expander{types: t, concern: concern}.message(instance.ProtoReflect())
}
