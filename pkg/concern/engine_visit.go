package concern

import (
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// arrive handles a visit that came through the log or from this worker.
func (e *engine) arrive(p *partition, v *rkcyv1.Visit) {
	if v.GetClaim() {
		e.claim(p, v)
		return
	}
	id := txn.ID(v.GetTxn().GetId())
	// Reading twice does no harm, and the window is for others. But the home of an
	// idempotency key hears the outcome, and what a second one says may overtake
	// the first, which was answered.
	delayed, keyed, lone := v.GetTxn().GetNotBeforeMs() > 0, v.GetTxn().GetIdempotency() != nil, e.lone(p, v)
	if (delayed || keyed || !lone) && !p.window.add(applied{id, v.GetAttempt(), v.GetVisit()}) {
		e.stats.Duplicates++
		return
	}
	if keyed && lone && !delayed {
		p.touched = true
		p.state.trace(holdKey(id, v.GetAttempt(), v.GetVisit()))
	}
	// An attempt ends before the next one starts, but its abort marker may
	// still be on its way here when a visit that did not hop overtakes it.
	for _, h := range p.holds[id] {
		if h.attempt < v.GetAttempt() {
			e.settleAt(p, id, h.attempt, false)
			break
		}
	}
	if before := v.GetTxn().GetNotBeforeMs(); before > e.nowMs && v.GetVisit() == 0 && v.GetAttempt() == 1 {
		e.wait(p, v, before, false)
		return
	}
	e.admit(p, v)
}

// admit lets a visit go on that has arrived, or whose time has come: it runs,
// parks, dies or is refused.
func (e *engine) admit(p *partition, v *rkcyv1.Visit) {
	id := txn.ID(v.GetTxn().GetId())
	write, err := e.writes(p, v)
	_, key := txn.Instance(v)
	saga := txn.IsSaga(v.GetTxn())
	starts := len(v.GetParticipants()) == 0 && (!saga || v.GetVisit() == 0)
	switch {
	case err != nil:
		e.refuse(p, v, txn.AsError(err))
		return
	case deadlineOf(v) < e.nowMs:
		e.refuse(p, v, errDeadline(v))
		return
	case p.cancels.until[id] >= e.nowMs && !txn.Undoing(v):
		e.refuse(p, v, errCancelled(v))
		return
	case write && starts && e.cache.pinnedBytes > e.cfg.overlayBytes:
		e.stats.Shed++
		e.refuse(p, v, txn.Errorf(txn.CodeResourceExhausted,
			"%d MiB of changes wait for the database, the limit of this processor; try again later", e.cache.pinnedBytes>>20))
		return
	case e.lone(p, v), saga && !write:
		// It sees the committed value and never waits.
		e.visit(p, v, key)
		return
	}
	request := txn.Request{Age: txn.AgeOf(v.GetTxn()), Write: write, HoldsOther: len(v.GetParticipants()) > 0}
	decision := txn.Granted
	if s := p.slots[key]; s != nil && !e.cfg.holdsOff {
		decision = s.queue.Ask(request)
	}
	switch decision {
	case txn.Granted:
		e.visit(p, v, key)
	case txn.Wait:
		if starts && p.parkedBytes > e.cfg.parkedBytes {
			e.stats.Shed++
			e.refuse(p, v, txn.Errorf(txn.CodeResourceExhausted,
				"%d MiB of transactions wait for instances that others hold, the limit here; try again later", p.parkedBytes>>20))
			return
		}
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
	for _, i := range txn.StepsOf(v) {
		s := txn.StepAt(v, i)
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
	w.sequence, w.cause = p.sequence, e.cause.again()
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
		p.unpark(w.Value)
		v := w.Value.visit
		e.cause = w.Value.cause
		e.about(v)
		switch {
		case w.Value.fault != nil:
			e.reject(p, v, w.Value.fault)
		case w.Value.restart:
			e.forward(v)
		case deadlineOf(v) < e.nowMs:
			e.refuse(p, v, errDeadline(v))
		default:
			e.visit(p, v, s.key)
		}
	}
	e.free(p, s)
}

// visit runs the steps of a visit that nothing stands in the way of.
func (e *engine) visit(p *partition, v *rkcyv1.Visit, key string) {
	e.about(v)
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
	// Of an instance that this transaction makes, only its hold knows children.
	related := base.GetRelated()
	if en != nil && en.instance.GetVersion() > 0 {
		related = en.instance.GetRelated()
	}
	did, err := e.run(p, v, key, base, related)
	if err != nil {
		e.refuse(p, v, err)
		return
	}
	saga := txn.IsSaga(v.GetTxn())
	if len(did.added) > 0 {
		switch n := len(v.GetTxn().GetSteps()) + len(did.added); {
		case saga:
			e.refuse(p, v, txn.Errorf(txn.CodeFailedPrecondition, "a saga cannot change a unique field of %s; use an isolated transaction", p.concern.commands.def.Name))
			return
		case n > txn.MaxSteps:
			e.refuse(p, v, txn.Errorf(txn.CodeInvalidArgument, "with those that keep values unique the transaction has %d steps; at most %d are allowed", n, txn.MaxSteps))
			return
		}
		v, did.results = extend(v, did.results, did.added)
	}
	var change *rkcyv1.Change
	var pending *rkcyv1.Instance
	write := did.wrote
	if write {
		pending = &rkcyv1.Instance{Value: did.after}
		if did.after != nil {
			pending.Version = base.GetVersion() + 1
			if own != nil && own.pending != nil {
				pending.Version = max(own.pending.GetVersion(), 1)
			}
			if base.GetVersion() > 0 {
				pending.Related = related
			}
			if !txn.Undoing(v) {
				for _, i := range txn.StepsOf(v) {
					did.results[i].Version = pending.GetVersion()
				}
			}
		}
		change = &rkcyv1.Change{
			Key: key, After: pending, TxnId: id[:], Attempt: v.GetAttempt(), Visit: v.GetVisit(),
			EffectiveTimeMs: v.GetTxn().GetEffectiveTimeMs(),
		}
	}
	tell := slices.Concat(v.GetRelated(), did.related)
	var t txn.Transition
	switch {
	case txn.Undoing(v):
		t = txn.AdvanceUndo(v)
	default:
		t = txn.Advance(v, did.results, p.self, !saga)
	}
	if t.Response != nil {
		if n := proto.Size(t.Response); n > txn.MaxRecordBytes {
			e.refuse(p, v, errTooLarge("answer", n))
			return
		}
	} else {
		if !saga {
			t.Next.Related = tell
		}
		// The reason makes an undo larger than the visits before it, for which
		// brokers have room; to refuse it would leave the saga stuck.
		if n := proto.Size(t.Next); n > txn.MaxRecordBytes && !txn.Undoing(v) {
			e.refuse(p, v, errTooLarge("transaction", n))
			return
		}
	}
	if t.Next != nil && !saga {
		e.prepare(p, v, key, write, pending, change)
		e.forward(t.Next)
		return
	}
	// What this visit did is committed now, in a saga even if others follow.
	switch {
	case write && own != nil:
		// The hold's own change would be the older one.
		own.change, own.pending = change, pending
	case write:
		e.store(p, pending, change)
	case !e.lone(p, v):
		// The commit point must not be passed twice, and a visit that only
		// reads leaves no change to tell.
		p.state.trace(holdKey(id, v.GetAttempt(), v.GetVisit()))
	}
	e.tellParents(tell)
	switch {
	case t.Next != nil:
		e.forward(t.Next)
		return
	case t.Commit:
		e.stats.Committed++
	}
	e.settle(v, t)
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
		p.mirror.hold(key, id)
	}
	e.slot(p, key).queue.Grant(txn.Request{Age: age, Write: write})
	e.recordHold(p, h)
}

// recordHold writes a hold to the state topic.
func (e *engine) recordHold(p *partition, h *hold) {
	access := rkcyv1.Access_ACCESS_READ
	if h.write {
		access = rkcyv1.Access_ACCESS_WRITE
	}
	p.state.set(holdKey(h.id, h.attempt, h.visit), &rkcyv1.StateRecord{Kind: &rkcyv1.StateRecord_Hold{Hold: &rkcyv1.Hold{
		TxnId: h.id[:], Attempt: h.attempt, Visit: h.visit, Key: h.key, Access: access, Pending: h.pending,
		SubmitTimeMs: h.age.SubmitMs, EffectiveTimeMs: h.change.GetEffectiveTimeMs(),
	}}})
}

// refuse ends the transaction of a visit to p without effect: a saga after it
// was undone.
func (e *engine) refuse(p *partition, v *rkcyv1.Visit, err *txn.Error) {
	p.touched = true
	if txn.Undoing(v) {
		e.compensationRefused(p, v, err)
		return
	}
	if v.GetTxn().GetNotBeforeMs() > 0 || !e.lone(p, v) {
		p.state.trace(holdKey(txn.ID(v.GetTxn().GetId()), v.GetAttempt(), v.GetVisit()))
	}
	t := txn.Refuse(v, err)
	if t.Next != nil { // a saga goes back
		e.stats.Undone++
		e.forward(t.Next)
		return
	}
	e.stats.Refused++
	e.settle(v, t)
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
	failure := txn.Errorf(txn.CodeInternal, "the transaction cannot be worked on: %w", fault)
	e.settle(v, txn.Transition{Settle: v.GetParticipants(), Response: &rkcyv1.Response{
		TxnId: v.GetTxn().GetId(), Edge: v.GetTxn().GetReplyTo().GetEdge(), Attempts: v.GetAttempt(), Error: failure.ToProto(),
	}})
}

// settle tells the participants and the submitter how a transaction ended, or
// that this attempt of it did.
func (e *engine) settle(v *rkcyv1.Visit, t txn.Transition) {
	e.about(v)
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
	if t.Response != nil {
		e.stats.ended(t.Response)
		e.answer(v, t.Response)
		e.tellHome(v.GetTxn(), t.Response)
	}
}

// answer tells the submitter how a transaction ended.
func (e *engine) answer(v *rkcyv1.Visit, r *rkcyv1.Response) {
	if to := v.GetTxn().GetReplyTo(); to != nil {
		e.reply(to, r)
	}
}

func (e *engine) reply(to *rkcyv1.ReplyTo, r *rkcyv1.Response) {
	r.Edge = to.GetEdge()
	e.emit(e.cfg.responseTopic, to.GetPartition(), r.GetTxnId(), e.marshal(r))
}

// tellHome tells the partition that has the idempotency key how a transaction
// ended.
func (e *engine) tellHome(t *rkcyv1.Transaction, r *rkcyv1.Response) {
	claim := t.GetIdempotency()
	if claim.GetHome() == nil {
		return
	}
	o := &rkcyv1.Outcome{Key: claim.GetKey(), Response: r}
	if p := e.parts[tpOf(claim.GetHome())]; p != nil {
		e.outcome(p, o)
		return
	}
	e.emit(claim.GetHome().GetTopic(), claim.GetHome().GetPartition(), r.GetTxnId(), e.marshal(&rkcyv1.ProcessRecord{
		Kind: &rkcyv1.ProcessRecord_Outcome{Outcome: o},
	}))
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
		p.mirror.release(h.key, id)
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
		e.lost(v, txn.AsError(err).With(txn.DetailConcern, concern))
		return
	}
	p := e.parts[tpOf(&rkcyv1.Participant{Topic: topic, Partition: partition})]
	if p != nil && p.instances[key] != nil && !e.wouldBeStale(p, v, key) {
		e.stats.LocalVisits++
		e.local = append(e.local, localVisit{p, v})
		return
	}
	e.send(topic, partition, key, v)
}

// wouldBeStale reports whether a visit must go through the log, since it waits
// for nobody: the marker of a transaction that holds its instance may be in the
// log already, and its submitter may have seen the response.
func (e *engine) wouldBeStale(p *partition, v *rkcyv1.Visit, key string) bool {
	if s := p.slots[key]; s == nil || !s.queue.Held() {
		return false
	}
	write, err := e.writes(p, v)
	return err == nil && !write && (txn.IsSaga(v.GetTxn()) || len(v.GetTxn().GetVisits()) == 1)
}

// lost ends the transaction of a visit that leads nowhere: a saga goes back.
func (e *engine) lost(v *rkcyv1.Visit, err *txn.Error) {
	t := txn.Refuse(v, err)
	switch {
	case txn.Undoing(v):
		// No partition could keep it for another try.
		e.cfg.logger.Error("a saga cannot be undone", "txn_id", txn.ID(v.GetTxn().GetId()).String(), "error", err)
		t = txn.Stuck(v, err)
	case t.Next != nil:
		e.stats.Undone++
		e.forward(t.Next)
		return
	}
	e.stats.Refused++
	e.settle(v, t)
}

func (e *engine) send(topic string, partition int32, key string, v *rkcyv1.Visit) {
	e.stats.Hops++
	e.about(v)
	e.emit(topic, partition, []byte(key), e.marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: v}}))
}
