package concern

import (
	"fmt"
	"slices"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// submit makes up a transaction, or repeats one, and appends its first record.
func (s *sim) submit() {
	x := &simTxn{submitted: s.clock, inputs: map[int]int{}, skips: map[int]simSkip{}}
	for i := range x.id {
		x.id[i] = byte(s.rng.Uint32())
	}
	if len(s.keyed) > 0 && s.rng.IntN(6) == 0 {
		first := s.keyed[max(0, len(s.keyed)-1-s.rng.IntN(6))]
		x.steps, x.inputs, x.skips, x.saga, x.reversed = first.steps, first.inputs, first.skips, first.saga, first.reversed
		x.key, x.print = first.key, first.print
		if s.rng.IntN(6) == 0 {
			x.print += "'"
		}
	} else {
		s.invent(x)
	}
	s.send(x)
}

// invent makes up what a transaction does.
func (s *sim) invent(x *simTxn) {
	x.saga = s.sagas && !s.plain && s.rng.IntN(3) == 0
	for i := range 1 + s.rng.IntN(4) {
		step := txn.Step{Concern: simConcerns[s.rng.IntN(2)], Key: simKey(s.rng.IntN(s.keys)), Command: "Append"}
		n := s.rng.IntN(100)
		if x.saga && n >= 3 && n < 10 {
			n = 0
		}
		switch {
		case n < 2:
			step.Command = "Refuse"
		case n < 3:
			step.Command = "Panic"
		case n < 30:
			step.Command, step.Access = "Look", rkcyv1.Access_ACCESS_READ
		case n < 35:
			step.Command, step.Access = txn.CommandRead, rkcyv1.Access_ACCESS_READ
		case n < 37 && !s.sagas:
			step.Command = txn.CommandDelete
		case n < 40 && !s.sagas:
			step.Command = txn.CommandCreate
		}
		x.steps = append(x.steps, step)
		if i == 0 {
			continue
		}
		if step.Command == "Append" && s.rng.IntN(3) == 0 {
			x.inputs[i] = s.rng.IntN(i)
		}
		if s.rng.IntN(8) == 0 {
			x.skips[i] = simSkip{s.rng.IntN(i), s.rng.IntN(2) == 0}
		}
	}
	// Any order of visits must do: undo the planner's sorting now and then.
	x.reversed = len(x.inputs)+len(x.skips) == 0 && s.rng.IntN(2) == 0
	if s.rng.IntN(5) == 0 && !s.plain {
		x.key, x.print = fmt.Sprintf("key%d", len(s.keyed)), "a"
	}
	if x.saga && s.rng.IntN(6) == 0 {
		s.reluctant[x.id] = txn.CodeFailedPrecondition
		if s.rng.IntN(3) == 0 {
			s.reluctant[x.id] = txn.CodeUnavailable
		}
	}
}

// send builds a transaction and appends its first record.
func (s *sim) send(x *simTxn) {
	b := txn.New()
	if x.saga {
		b = txn.Saga()
	}
	var handles []*txn.Handle[*list]
	for i, step := range x.steps {
		payload := &list{}
		if step.Command == txn.CommandCreate {
			payload = &list{Value: []byte(step.Key), Paths: []string{x.id.String()}}
		}
		typed := txn.NewStep(step.Concern, step.Key, step.Command, step.Access, payload, func() *list { return &list{} })
		if x.saga && step.Access == rkcyv1.Access_ACCESS_WRITE {
			typed = typed.CompensatedBy("Unappend")
		}
		handles = append(handles, txn.Add(b, typed))
		if from, ok := x.inputs[i]; ok {
			txn.Bind(b, handles[from], "", handles[i], "")
		}
		if skip, ok := x.skips[i]; ok {
			op := txn.NotSet
			if skip.set {
				op = txn.Set
			}
			txn.SkipWhen(b, handles[i], handles[skip.from], "paths", op, nil)
		}
	}
	timeout := time.Duration(1+s.rng.IntN(3000)) * time.Millisecond
	if s.rng.IntN(12) == 0 && !s.plain {
		x.notBefore = s.now.Add(time.Duration(s.rng.Int64N(int64(timeout/time.Millisecond))) * time.Millisecond)
		b.NotBefore(x.notBefore)
	}
	t, err := b.Build(x.id, s.now, s.now.Add(timeout), &rkcyv1.ReplyTo{Partition: 0})
	if err != nil {
		s.fail("%v", err)
	}
	if x.reversed {
		slices.Reverse(t.Visits)
	}
	x.plan = t.GetVisits()
	s.txns[x.id] = x
	s.order = append(s.order, x)
	first := &rkcyv1.Visit{Txn: t, Attempt: 1}
	concern, key := txn.Instance(first)
	if x.key != "" {
		s.keyed = append(s.keyed, x)
		first.Claim, concern, key = true, s.IdempotencyHome(), txn.HomeKey(x.key)
	}
	topic, partition, _ := s.Route(concern, key)
	if x.key != "" {
		t.Idempotency = &rkcyv1.Idempotency{
			Key: x.key, Fingerprint: []byte(x.print), Home: &rkcyv1.Participant{Topic: topic, Partition: partition},
		}
	}
	s.say("submit %v saga %v key %q %v", x.id, x.saga, x.key, t.Visits)
	s.append([]stream.Record{{Topic: topic, Partition: partition, Key: []byte(key), Value: s.marshal(
		&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: first}})}})
}

// interfere cancels one of the latest transactions, or asks for one to be
// tried again.
func (s *sim) interfere() {
	if len(s.order) == 0 || s.plain {
		return
	}
	if s.sagas && s.rng.IntN(20) == 0 {
		s.now = s.now.Add(15 * time.Second) // pauses of compensations pass
	}
	x := s.order[max(0, len(s.order)-1-s.rng.IntN(8))]
	if s.rng.IntN(4) == 0 {
		s.tellAll(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Retry{Retry: &rkcyv1.Retry{TxnId: x.id[:]}}})
		return
	}
	s.tellAll(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Cancel{
		Cancel: &rkcyv1.Cancel{TxnId: x.id[:], ExpiresMs: s.now.Add(4 * time.Second).UnixMilli()},
	}})
}

// tellAll appends a record to every process partition.
func (s *sim) tellAll(r *rkcyv1.ProcessRecord) {
	for _, c := range simConcerns {
		for p := range s.count(c) {
			s.append([]stream.Record{{Topic: s.topic(c), Partition: p, Value: s.marshal(r)}})
		}
	}
}
