package inspect

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	adminv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/admin/v1"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// clockSkew is how far the clocks of edges and processors may be apart.
const clockSkew = time.Minute

// pollPause is how long Wait rests between two looks at the log.
const pollPause = 50 * time.Millisecond

// Inspector looks at transactions. Safe for concurrent use; every call opens
// connections of its own.
type Inspector struct {
	log    stream.Config
	router *platform.Router
}

// New returns an inspector.
func New(log stream.Config, router *platform.Router) *Inspector {
	return &Inspector{log: log.WithDefaults(), router: router}
}

// search is one look-up, which remembers how far it has read.
type search struct {
	inspector *Inspector
	id        txn.ID
	reader    *stream.Reader
	next      map[stream.TopicPartition]int64 // of the response topic
	last      *rkcyv1.Response
}

func (i *Inspector) search(ctx context.Context, id txn.ID) (*search, error) {
	admin, err := stream.NewAdmin(i.log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	var tps []stream.TopicPartition
	for slot := range i.router.Config().GetEdgeSlots() {
		tps = append(tps, stream.TopicPartition{Topic: i.router.Names().ResponseTopic(), Partition: slot})
	}
	next, err := admin.OffsetsSince(ctx, tps, id.Time().Add(-clockSkew))
	if err != nil {
		return nil, away(err)
	}
	reader, err := stream.NewReader(i.log)
	if err != nil {
		return nil, err
	}
	return &search{inspector: i, id: id, reader: reader, next: next}, nil
}

func (s *search) close() { s.reader.Close() }

func away(err error) error { return txn.Errorf(txn.CodeUnavailable, "%w", err) }

// look reads what has been answered since the last look.
func (s *search) look(ctx context.Context) error {
	for tp, from := range s.next {
		end, err := s.reader.ReadTo(ctx, tp, from, func(r stream.Record) error {
			if !bytes.Equal(r.Key, s.id[:]) {
				return nil
			}
			answer := &rkcyv1.Response{}
			if err := proto.Unmarshal(r.Value, answer); err != nil {
				return fmt.Errorf("response at %s[%d]@%d: %w", r.Topic, r.Partition, r.Offset, err)
			}
			s.last = answer
			return nil
		})
		if err != nil {
			return away(err)
		}
		s.next[tp] = max(from, end)
	}
	return nil
}

// status puts together what is known.
func (s *search) status(ctx context.Context) (*adminv1.TransactionStatus, error) {
	if err := s.look(ctx); err != nil {
		return nil, err
	}
	out := &adminv1.TransactionStatus{Id: s.id.String(), State: adminv1.TransactionStatus_STATE_UNKNOWN}
	stuck := s.last.GetError().GetDetails()[txn.DetailSaga] == txn.SagaStuck
	switch {
	case s.last != nil && s.last.GetError() == nil:
		out.State, out.Results = adminv1.TransactionStatus_STATE_COMMITTED, s.last.GetResults()
	case s.last != nil && !stuck:
		out.State = adminv1.TransactionStatus_STATE_REFUSED
	}
	out.Error, out.Attempts = s.last.GetError(), s.last.GetAttempts()
	if s.last != nil && !stuck {
		return out, nil
	}
	if stuck {
		out.State = adminv1.TransactionStatus_STATE_RUNNING // unless it is found to be stuck still
	}
	var err error
	if out.At, err = s.inspector.whereabouts(ctx, s.id); err != nil {
		return nil, err
	}
	for _, at := range out.GetAt() {
		switch at.GetKind() {
		case adminv1.Whereabouts_KIND_STUCK:
			out.State = adminv1.TransactionStatus_STATE_STUCK
			return out, nil
		case adminv1.Whereabouts_KIND_TIMED:
			out.State = adminv1.TransactionStatus_STATE_DELAYED
		case adminv1.Whereabouts_KIND_HOLDS, adminv1.Whereabouts_KIND_PARKED, adminv1.Whereabouts_KIND_UNSPECIFIED:
			out.State = adminv1.TransactionStatus_STATE_RUNNING
		}
	}
	return out, nil
}

// Status returns what is known of a transaction. Errors have CodeUnavailable.
func (i *Inspector) Status(ctx context.Context, id txn.ID) (*adminv1.TransactionStatus, error) {
	s, err := i.search(ctx, id)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return s.status(ctx)
}

// Wait returns how a transaction ended, or, when ctx comes near its end, what is
// known then.
func (i *Inspector) Wait(ctx context.Context, id txn.ID) (*adminv1.TransactionStatus, error) {
	s, err := i.search(ctx, id)
	if err != nil {
		return nil, err
	}
	defer s.close()
	return s.await(ctx)
}

func (s *search) await(ctx context.Context) (*adminv1.TransactionStatus, error) {
	reserve := 2 * time.Second
	if at, ok := ctx.Deadline(); ok {
		reserve = min(reserve, time.Until(at)/4)
		early, cancel := context.WithDeadline(ctx, at.Add(-reserve))
		defer cancel()
		return s.awaitUntil(ctx, early)
	}
	return s.awaitUntil(ctx, ctx)
}

func (s *search) awaitUntil(ctx, early context.Context) (*adminv1.TransactionStatus, error) {
	for {
		if err := s.look(ctx); err != nil {
			return nil, err
		}
		if s.last != nil {
			// A stuck saga that is being tried again has an answer, but not
			// its last.
			out, err := s.status(ctx)
			if err != nil || ended(out.GetState()) {
				return out, err
			}
		}
		select {
		case <-early.Done():
			return s.status(ctx)
		case <-time.After(pollPause):
		}
	}
}

// ended reports whether a transaction goes no further by itself.
func ended(state adminv1.TransactionStatus_State) bool {
	switch state {
	case adminv1.TransactionStatus_STATE_COMMITTED, adminv1.TransactionStatus_STATE_REFUSED, adminv1.TransactionStatus_STATE_STUCK:
		return true
	default:
		return false
	}
}

// StateText returns a state in lower case, as people type it.
func StateText(s adminv1.TransactionStatus_State) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "STATE_"))
}

// Cancel asks every partition to refuse a transaction, and returns how it
// ended: cancelled, or with another outcome that came first. The log decides.
func (i *Inspector) Cancel(ctx context.Context, id txn.ID) (*adminv1.TransactionStatus, error) {
	s, err := i.search(ctx, id)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := s.look(ctx); err != nil || s.last != nil {
		if err != nil {
			return nil, err
		}
		return s.status(ctx)
	}
	expires := id.Time().Add(txn.MaxTimeout + clockSkew)
	err = i.append(ctx, id, &rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Cancel{
		Cancel: &rkcyv1.Cancel{TxnId: id[:], ExpiresMs: expires.UnixMilli()},
	}})
	if err != nil {
		return nil, err
	}
	return s.await(ctx)
}

// Retry goes on with a saga that is stuck, and returns what has become of it. A
// transaction that is not stuck is an Error with CodeFailedPrecondition.
func (i *Inspector) Retry(ctx context.Context, id txn.ID) (*adminv1.TransactionStatus, error) {
	s, err := i.search(ctx, id)
	if err != nil {
		return nil, err
	}
	defer s.close()
	before, err := s.status(ctx)
	if err != nil {
		return nil, err
	}
	if before.GetState() != adminv1.TransactionStatus_STATE_STUCK {
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "transaction %v is not stuck, so there is nothing to try again", id).
			With(txn.DetailTxnID, id.String())
	}
	s.last = nil
	if err := i.append(ctx, id, &rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Retry{Retry: &rkcyv1.Retry{TxnId: id[:]}}}); err != nil {
		return nil, err
	}
	return s.await(ctx)
}

// append writes a record to every process partition, since nobody knows which
// of them has the transaction.
func (i *Inspector) append(ctx context.Context, id txn.ID, r *rkcyv1.ProcessRecord) error {
	value, err := proto.Marshal(r)
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	producer, err := stream.NewProducer(i.log)
	if err != nil {
		return err
	}
	defer producer.Close()
	names := i.router.Names()
	for _, c := range i.router.Config().GetConcerns() {
		for p := range c.GetPartitions() {
			if err := producer.Send(ctx, names.ProcessTopic(c.GetName()), p, id[:], value); err != nil {
				return err
			}
		}
	}
	return nil
}
