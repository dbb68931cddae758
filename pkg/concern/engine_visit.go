package concern

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// arrive handles a visit that came through the log or from this worker.
func (e *engine) arrive(p *partition, v *rkcyv1.Visit) {
	id := txn.ID(v.GetTxn().GetId())
	write, err := e.writes(p, v)
	// A read outside a multi-step transaction sees the committed value and
	// never waits. Reading twice does no harm, and the window is for others.
	lone := e.lone(p, v)
	if !lone && !p.window.add(applied{id, v.GetAttempt(), v.GetVisit()}) {
		e.stats.Duplicates++
		return
	}
	// An attempt ends before the next one starts, but its abort marker may
	// still be on its way here when a visit that did not hop overtakes it.
	for _, h := range p.holds[id] {
		if h.attempt < v.GetAttempt() {
			e.settleAt(p, id, h.attempt, false)
			break
		}
	}
	_, key := txn.Instance(v)
	switch {
	case err != nil:
		e.refuse(p, v, txn.AsError(err))
		return
	case v.GetTxn().GetDeadlineMs() < e.nowMs:
		e.refuse(p, v, errDeadline(v))
		return
	case write && len(v.GetParticipants()) == 0 && e.cache.pinnedBytes > e.cfg.overlayBytes:
		e.stats.Shed++
		e.refuse(p, v, txn.Errorf(txn.CodeResourceExhausted,
			"%d MiB of changes wait for the database, the limit of this processor; try again later", e.cache.pinnedBytes>>20))
		return
	}
	if lone {
		e.visit(p, v, key, write)
		return
	}
	request := txn.Request{Age: txn.AgeOf(v.GetTxn()), Write: write, HoldsOther: len(v.GetParticipants()) > 0}
	decision := txn.Granted
	if s := p.slots[key]; s != nil && !e.cfg.holdsOff {
		decision = s.queue.Ask(request)
	}
	switch decision {
	case txn.Granted:
		e.visit(p, v, key, write)
	case txn.Wait:
		e.stats.Parked++
		e.park(p, key, request, &parked{visit: v, key: key, write: write})
	case txn.Dead:
		e.stats.Deaths++
		p.state.trace(holdKey(request.Age.ID, v.GetAttempt(), v.GetVisit()))
		t := txn.Die(v)
		e.settle(v, t)
		request.Ghost, request.HoldsOther = true, false
		e.park(p, key, request, &parked{visit: t.Restart, key: key, write: write, restart: true})
		// What it held here may have been all that it waited for.
		e.woken = append(e.woken, wake{p, p.slots[key]})
	}
}

// writes reports whether a visit may change its instance.
func (e *engine) writes(p *partition, v *rkcyv1.Visit) (bool, error) {
	write := false
	for _, i := range v.GetTxn().GetVisits()[v.GetVisit()].GetSteps() {
		s := v.GetTxn().GetSteps()[i]
		c := p.concern.commands.byName[s.GetCommand()]
		if c == nil {
			return false, stepError(p.concern.commands.unknown(s.GetCommand()), s)
		}
		write = write || !c.readOnly
	}
	return write, nil
}

// lone reports whether a visit is a transaction that only reads one instance.
func (e *engine) lone(p *partition, v *rkcyv1.Visit) bool {
	write, err := e.writes(p, v)
	return len(v.GetTxn().GetVisits()) == 1 && err == nil && !write
}

// slot returns the slot of an instance, made and pinned if need be.
func (e *engine) slot(p *partition, key string) *slot {
	s := p.slots[key]
	if s == nil {
		s = &slot{key: key}
		p.slots[key] = s
		if en := p.instances[key]; en != nil {
			s.pinned = en
			e.cache.pin(en)
		}
	}
	return s
}

func (e *engine) free(p *partition, s *slot) {
	if !s.queue.Empty() || p.slots[s.key] != s {
		return
	}
	delete(p.slots, s.key)
	if s.pinned != nil {
		e.cache.unpin(s.pinned)
		s.pinned = nil
	}
}

func (e *engine) park(p *partition, key string, r txn.Request, w *parked) {
	p.sequence++
	w.sequence = p.sequence
	p.park(e.slot(p, key), r, w)
	access := rkcyv1.Access_ACCESS_READ
	if w.write {
		access = rkcyv1.Access_ACCESS_WRITE
	}
	p.state.set(w.stateKey(), &rkcyv1.StateRecord{Kind: &rkcyv1.StateRecord_Parked{Parked: &rkcyv1.Parked{
		Sequence: w.sequence, Visit: w.visit, Key: key, Access: access, Restart: w.restart,
	}}})
}

// wake lets the parked requests of an instance go on whose turn has come.
func (e *engine) wake(p *partition, s *slot) {
	for p.slots[s.key] == s {
		if s.queue.Ready() && p.instances[s.key] == nil && e.failed[instanceRef{p, s.key}] == nil {
			// Right after a restore the instance may not be at hand. It is
			// loaded before the next batch, which calls wake again.
			e.wanted = append(e.wanted, wake{p, s})
			return
		}
		w, ok := s.queue.Next()
		if !ok {
			break
		}
		p.touched = true
		p.state.set(w.Value.stateKey(), nil)
		v := w.Value.visit
		switch {
		case w.Value.fault != nil:
			e.reject(p, v, w.Value.fault)
		case w.Value.restart:
			e.forward(v)
		case v.GetTxn().GetDeadlineMs() < e.nowMs:
			e.refuse(p, v, errDeadline(v))
		default:
			e.visit(p, v, s.key, w.Value.write)
		}
	}
	e.free(p, s)
}

// visit runs the steps of a visit that nothing stands in the way of.
func (e *engine) visit(p *partition, v *rkcyv1.Visit, key string, write bool) {
	id := txn.ID(v.GetTxn().GetId())
	en := e.cache.get(p, key)
	own := p.holdOf(id, key)
	base := (*rkcyv1.Instance)(nil)
	switch {
	case own != nil && own.pending != nil:
		base = own.pending
	case en != nil:
		base = en.instance
	case e.failed[instanceRef{p, key}] != nil:
		e.refuse(p, v, txn.AsError(e.failed[instanceRef{p, key}]))
		return
	default:
		e.refuse(p, v, txn.Errorf(txn.CodeInternal, "%s %q was not loaded", p.concern.commands.def.Name, key))
		return
	}
	e.stats.Visits++
	after, results, err := e.run(p, v, key, base)
	if err != nil {
		e.refuse(p, v, err)
		return
	}
	last := int(v.GetVisit())+1 == len(v.GetTxn().GetVisits())
	var change *rkcyv1.Change
	var pending *rkcyv1.Instance
	if write {
		pending = &rkcyv1.Instance{Value: after}
		if after != nil {
			pending.Version = base.GetVersion() + 1
			if own != nil && own.pending != nil {
				pending.Version = max(own.pending.GetVersion(), 1)
			}
			for _, i := range v.GetTxn().GetVisits()[v.GetVisit()].GetSteps() {
				results[i].Version = pending.GetVersion()
			}
		}
		change = &rkcyv1.Change{
			Key: key, After: pending, TxnId: id[:], Attempt: v.GetAttempt(), Visit: v.GetVisit(),
			EffectiveTimeMs: v.GetTxn().GetEffectiveTimeMs(),
		}
	}
	t := txn.Advance(v, results, p.participant(), true)
	if last {
		if n := proto.Size(t.Response); n > txn.MaxRecordBytes {
			e.refuse(p, v, errTooLarge("answer", n))
			return
		}
		if write {
			if own != nil {
				// The hold's own change would be the older one.
				own.change, own.pending = change, pending
			} else {
				e.store(p, pending, change)
			}
		} else if len(v.GetParticipants()) > 0 {
			// The commit point must not be passed twice, and a visit that only
			// reads leaves no change to tell.
			p.state.trace(holdKey(id, v.GetAttempt(), v.GetVisit()))
		}
		e.stats.Committed++
		e.settle(v, t)
		return
	}
	if n := proto.Size(t.Next); n > txn.MaxRecordBytes {
		e.refuse(p, v, errTooLarge("transaction", n))
		return
	}
	e.prepare(p, v, key, write, pending, change)
	e.forward(t.Next)
}

func errTooLarge(what string, n int) *txn.Error {
	return txn.Errorf(txn.CodeResourceExhausted, "the %s has grown to %d bytes; at most %d are allowed", what, n, txn.MaxRecordBytes).
		With(txn.DetailLimitBytes, strconv.Itoa(txn.MaxRecordBytes))
}

// prepare records what a transaction holds here.
func (e *engine) prepare(p *partition, v *rkcyv1.Visit, key string, write bool, pending *rkcyv1.Instance, change *rkcyv1.Change) {
	id := txn.ID(v.GetTxn().GetId())
	age := txn.AgeOf(v.GetTxn())
	h := p.holdOf(id, key)
	if h == nil {
		h = &hold{id: id, attempt: v.GetAttempt(), visit: v.GetVisit(), age: age, key: key}
		p.holds[id] = append(p.holds[id], h)
	} else {
		// The state record goes by the visit that came first, so nothing else
		// tells a later owner of this one.
		p.state.trace(holdKey(id, v.GetAttempt(), v.GetVisit()))
	}
	h.write = h.write || write
	if write {
		h.pending, h.change = pending, change
	}
	e.slot(p, key).queue.Grant(txn.Request{Age: age, Write: write})
	access := rkcyv1.Access_ACCESS_READ
	if h.write {
		access = rkcyv1.Access_ACCESS_WRITE
	}
	p.state.set(holdKey(id, h.attempt, h.visit), &rkcyv1.StateRecord{Kind: &rkcyv1.StateRecord_Hold{Hold: &rkcyv1.Hold{
		TxnId: id[:], Attempt: h.attempt, Visit: h.visit, Key: key, Access: access, Pending: h.pending,
		SubmitTimeMs: age.SubmitMs, EffectiveTimeMs: v.GetTxn().GetEffectiveTimeMs(),
	}}})
}

// refuse ends the transaction of a visit to p without effect.
func (e *engine) refuse(p *partition, v *rkcyv1.Visit, err *txn.Error) {
	e.stats.Refused++
	p.touched = true
	if !e.lone(p, v) {
		p.state.trace(holdKey(txn.ID(v.GetTxn().GetId()), v.GetAttempt(), v.GetVisit()))
	}
	e.settle(v, txn.Refuse(v, err))
}

// reject ends the transaction of a visit that cannot be worked on, as far as
// it can be read: else what it holds elsewhere would stay for ever.
func (e *engine) reject(p *partition, v *rkcyv1.Visit, fault error) {
	if _, err := txn.IDFromBytes(v.GetTxn().GetId()); err != nil {
		return
	}
	v.Participants = slices.DeleteFunc(v.GetParticipants(), func(at *rkcyv1.Participant) bool {
		return at.GetTopic() == "" || at.GetPartition() < 0
	})
	if v.GetTxn().GetReplyTo().GetPartition() < 0 {
		v.Txn.ReplyTo = nil
	}
	e.stats.Refused++
	p.touched = true
	p.state.trace(holdKey(txn.ID(v.GetTxn().GetId()), v.GetAttempt(), v.GetVisit()))
	e.settle(v, txn.Refuse(v, txn.Errorf(txn.CodeInternal, "the transaction cannot be worked on: %w", fault)))
}

// settle tells the participants and the submitter how a transaction ended, or
// that this attempt of it did.
func (e *engine) settle(v *rkcyv1.Visit, t txn.Transition) {
	id := txn.ID(v.GetTxn().GetId())
	for _, at := range t.Settle {
		if p := e.parts[tpOf(at)]; p != nil {
			e.settleAt(p, id, v.GetAttempt(), t.Commit)
			continue
		}
		e.emit(at.GetTopic(), at.GetPartition(), id[:], e.marshal(&rkcyv1.ProcessRecord{
			Kind: &rkcyv1.ProcessRecord_Marker{Marker: &rkcyv1.Marker{TxnId: id[:], Attempt: v.GetAttempt(), Commit: t.Commit}},
		}))
	}
	if t.Response != nil && v.GetTxn().GetReplyTo() != nil {
		e.emit(e.cfg.responseTopic, v.GetTxn().GetReplyTo().GetPartition(), id[:], e.marshal(t.Response))
	}
}

// settleAt ends what an attempt of a transaction holds in a partition. Told a
// second time, it finds nothing to do.
func (e *engine) settleAt(p *partition, id txn.ID, attempt uint32, commit bool) {
	var keep []*hold
	for _, h := range p.holds[id] {
		if h.attempt != attempt {
			keep = append(keep, h)
			continue
		}
		p.touched = true
		if commit && h.change != nil {
			if h.change.GetVisit() == h.visit {
				p.state.set(holdKey(id, h.attempt, h.visit), nil)
			} else { // the change tells of a later visit only
				p.state.trace(holdKey(id, h.attempt, h.visit))
			}
			e.store(p, h.pending, h.change)
		} else {
			p.state.trace(holdKey(id, h.attempt, h.visit))
		}
		s := p.slots[h.key]
		s.queue.Release(id)
		e.woken = append(e.woken, wake{p, s})
	}
	if len(keep) == 0 {
		delete(p.holds, id)
	} else {
		p.holds[id] = keep
	}
}

// forward sends a visit to the partition of its instance. It does not hop if
// that is one of ours and the instance is at hand.
func (e *engine) forward(v *rkcyv1.Visit) {
	concern, key := txn.Instance(v)
	topic, partition, err := e.cfg.router.Route(concern, key)
	if err != nil {
		e.settle(v, txn.Refuse(v, txn.AsError(err).With(txn.DetailConcern, concern)))
		return
	}
	if p := e.parts[tpOf(&rkcyv1.Participant{Topic: topic, Partition: partition})]; p != nil && p.instances[key] != nil {
		e.stats.LocalVisits++
		e.local = append(e.local, localVisit{p, v})
		return
	}
	e.send(topic, partition, key, v)
}

func (e *engine) send(topic string, partition int32, key string, v *rkcyv1.Visit) {
	e.stats.Hops++
	e.emit(topic, partition, []byte(key), e.marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: v}}))
}

// run executes the steps of a visit on a private copy of base. after is nil
// when the instance does not exist afterwards.
func (e *engine) run(p *partition, v *rkcyv1.Visit, key string, base *rkcyv1.Instance) (after []byte, results []*rkcyv1.StepResult, failure *txn.Error) {
	set := p.concern.commands
	ctx := Context{
		txnID: txn.ID(v.GetTxn().GetId()), concern: set.def.Name, key: key,
		effective: time.UnixMilli(v.GetTxn().GetEffectiveTimeMs()).UTC(),
	}
	results = make([]*rkcyv1.StepResult, len(v.GetTxn().GetSteps()))
	copy(results, v.GetResults())
	for i, r := range results {
		if r == nil {
			results[i] = &rkcyv1.StepResult{}
		}
	}
	var instance proto.Message
	if base.GetVersion() > 0 {
		instance = set.def.New()
		if err := proto.Unmarshal(base.GetValue(), instance); err != nil {
			return nil, nil, txn.Errorf(txn.CodeDataLoss, "the stored %s %q cannot be decoded: %w", set.def.Name, key, err)
		}
	}
	wrote := false
	for _, i := range v.GetTxn().GetVisits()[v.GetVisit()].GetSteps() {
		s := v.GetTxn().GetSteps()[i]
		c := set.byName[s.GetCommand()]
		if c == nil { // parked by a program that had it
			return nil, nil, stepError(set.unknown(s.GetCommand()), s)
		}
		next, result, err := e.step(c, ctx, instance, s, results)
		if err != nil {
			return nil, nil, stepError(err, s)
		}
		if !c.readOnly {
			instance = next
			wrote = true
		}
		value, err := proto.Marshal(result)
		if err != nil {
			return nil, nil, stepError(txn.Errorf(txn.CodeInternal, "the result of %s cannot be serialized: %w", c.name, err), s)
		}
		results[i] = &rkcyv1.StepResult{Value: value, Version: base.GetVersion()}
	}
	if !wrote || instance == nil {
		return nil, results, nil
	}
	last := v.GetTxn().GetSteps()[v.GetTxn().GetVisits()[v.GetVisit()].GetSteps()[0]]
	if k := set.def.KeyOf(instance); k != key {
		return nil, nil, stepError(txn.Errorf(txn.CodeInternal, "a handler changed the key of %s %q to %q", set.def.Name, key, k), last)
	}
	after, err := proto.MarshalOptions{Deterministic: true}.Marshal(instance)
	switch {
	case err != nil:
		return nil, nil, stepError(txn.Errorf(txn.CodeInternal, "%s %q cannot be serialized: %w", set.def.Name, key, err), last)
	case len(after) > txn.MaxRecordBytes/4:
		return nil, nil, stepError(errTooLarge(set.def.Name, len(after)), last)
	}
	if err := txn.CheckText(instance, after); err != nil {
		return nil, nil, stepError(txn.Errorf(txn.CodeInvalidArgument, "%s %q: %w", set.def.Name, key, err), last)
	}
	if after == nil {
		after = []byte{}
	}
	return after, results, nil
}

// step runs one command. A panic ends the transaction, goes to the error
// topic, and the processor goes on.
func (e *engine) step(
	c *command, ctx Context, instance proto.Message, s *rkcyv1.Step, results []*rkcyv1.StepResult,
) (after, result proto.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			e.stats.Panics++
			e.cfg.logger.Error("handler panicked", "txn_id", ctx.TxnID().String(), "concern", ctx.Concern(), "step", s.GetCommand(),
				"panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			e.quarantineStep(ctx, s, fmt.Sprintf("handler panicked: %v", r))
			err = txn.Errorf(txn.CodeInternal, "the handler of %s panicked; the transaction is in the error topic", c.name)
		}
	}()
	return c.run(ctx, instance, s.GetPayload(), func(payload proto.Message) error {
		return txn.ApplyInputs(payload, s.GetInputs(), results)
	})
}

func (e *engine) quarantineStep(ctx Context, s *rkcyv1.Step, reason string) {
	topic, partition, err := e.cfg.router.Route(ctx.Concern(), ctx.Key())
	if err != nil {
		return
	}
	p := e.parts[tpOf(&rkcyv1.Participant{Topic: topic, Partition: partition})]
	if p == nil {
		return
	}
	id := ctx.TxnID()
	e.stats.Quarantined++
	e.emit(p.concern.topics.Error, 0, []byte(ctx.Key()), e.marshal(&rkcyv1.Quarantined{
		Topic: topic, Partition: partition, Offset: p.next - 1, Reason: strings.ToValidUTF8(reason, "\uFFFD"), TxnId: id[:],
		Key: []byte(ctx.Key()), Value: e.marshal(s), TimeMs: e.nowMs,
	}))
}

// stepError adds to an error which step it came from.
func stepError(err error, s *rkcyv1.Step) *txn.Error {
	e := txn.AsError(err)
	for _, d := range [][2]string{
		{txn.DetailConcern, s.GetConcern()}, {txn.DetailKey, s.GetKey()}, {txn.DetailCommand, s.GetCommand()},
	} {
		if _, ok := e.Details[d[0]]; !ok {
			e = e.With(d[0], d[1])
		}
	}
	return e
}
