package concern

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

const stateEntry = 'i'

func entryKey(key string) string { return string(rune(stateEntry)) + key }

// entryOverheadBytes is what an entry costs besides its record, bytes.
const entryOverheadBytes = 200

// maxOutcomeBytes is the largest outcome that is kept for repeats.
const maxOutcomeBytes = 256 << 10

// maxWaiters is how many repeats may wait for one outcome; each makes the record
// of the entry longer.
const maxWaiters = 100

// claims are the idempotency keys whose home is a partition.
type claims struct {
	entries map[string]*rkcyv1.Entry
	order   []expiry // in order of time; those of entries that went before stay
	bytes   int64
}

type expiry struct {
	key string
	ms  int64
}

func newClaims() claims { return claims{entries: map[string]*rkcyv1.Entry{}} }

func entryBytes(en *rkcyv1.Entry) int64 { return int64(proto.Size(en)) + entryOverheadBytes }

func (c *claims) put(en *rkcyv1.Entry) {
	if old := c.entries[en.GetKey()]; old != nil {
		c.bytes -= entryBytes(old)
	} else {
		c.order = append(c.order, expiry{en.GetKey(), en.GetExpiresMs()})
	}
	c.entries[en.GetKey()] = en
	c.bytes += entryBytes(en)
	c.compact()
}

// compact drops what is left in the order of entries that have gone, once that
// is most of it.
func (c *claims) compact() {
	if len(c.order) < 100 || len(c.order) < 2*len(c.entries) {
		return
	}
	c.order = slices.DeleteFunc(c.order, func(x expiry) bool {
		en := c.entries[x.key]
		return en == nil || en.GetExpiresMs() != x.ms
	})
}

func (c *claims) remove(key string) {
	if en := c.entries[key]; en != nil {
		c.bytes -= entryBytes(en)
		delete(c.entries, key)
	}
}

func (e *engine) keep(p *partition, en *rkcyv1.Entry) {
	p.claims.put(en)
	p.touched = true
	p.state.set(entryKey(en.GetKey()), &rkcyv1.StateRecord{Kind: &rkcyv1.StateRecord_Entry{Entry: en}})
}

func (e *engine) forget(p *partition, key string) {
	p.claims.remove(key)
	p.touched = true
	p.state.set(entryKey(key), nil)
}

// claim lets a transaction start if it is the first with its idempotency key,
// and else gives it the outcome of the one that was.
func (e *engine) claim(p *partition, v *rkcyv1.Visit) {
	t := v.GetTxn()
	want := t.GetIdempotency()
	en := p.claims.entries[want.GetKey()]
	// The entry remembers longer than the window.
	known := bytes.Equal(en.GetTxnId(), t.GetId()) || slices.ContainsFunc(en.GetWaiters(), func(w *rkcyv1.Waiter) bool {
		return bytes.Equal(w.GetTxnId(), t.GetId())
	})
	if !p.window.add(claimed(t.GetId())) || known {
		e.stats.Duplicates++
		return
	}
	switch {
	case en == nil && t.GetDeadlineMs() < e.nowMs:
		e.answerClaim(p, v, txn.Refuse(v, errDeadline(v)).Response)
	case en == nil && p.claims.bytes > e.cfg.claimBytes:
		e.stats.Shed++
		e.answerClaim(p, v, txn.Refuse(v, txn.Errorf(txn.CodeResourceExhausted,
			"%d MiB of idempotency keys are remembered here, the limit; send the request without one, or try again later", p.claims.bytes>>20)).Response)
	case en == nil:
		e.keep(p, &rkcyv1.Entry{
			Key: want.GetKey(), Fingerprint: want.GetFingerprint(), TxnId: t.GetId(), ExpiresMs: e.nowMs + e.cfg.claimWindowMs,
		})
		e.forward(&rkcyv1.Visit{Txn: t, Attempt: v.GetAttempt()})
	case !bytes.Equal(en.GetFingerprint(), want.GetFingerprint()):
		e.answerClaim(p, v, txn.Refuse(v, txn.Errorf(txn.CodeInvalidArgument,
			"idempotency key %q was used with another request; use a new key for a new request", want.GetKey())).Response)
	case en.GetOutcome() != nil:
		e.stats.Repeats++
		e.answerClaim(p, v, repeated(en, t.GetId()))
	case len(en.GetWaiters()) >= maxWaiters:
		e.stats.Shed++
		e.answerClaim(p, v, txn.Refuse(v, txn.Errorf(txn.CodeResourceExhausted,
			"%d repeats of the request wait for its outcome; try again later", maxWaiters)).Response)
	default:
		e.stats.Repeats++
		en = proto.CloneOf(en)
		en.Waiters = append(en.Waiters, &rkcyv1.Waiter{TxnId: t.GetId(), ReplyTo: t.GetReplyTo()})
		e.keep(p, en)
	}
}

// claimed names the claim of a transaction in the window: attempts of visits
// start at 1.
func claimed(id []byte) applied { return applied{id: txn.ID(id)} }

// traceClaim makes sure that a claim is remembered that no entry tells of any
// more, here and by a later owner.
func traceClaim(p *partition, id []byte) {
	p.touched = true
	p.window.add(claimed(id))
	p.state.trace(holdKey(txn.ID(id), 0, 0))
}

// answerClaim answers who asked for an entry and does not get one.
func (e *engine) answerClaim(p *partition, v *rkcyv1.Visit, r *rkcyv1.Response) {
	traceClaim(p, v.GetTxn().GetId())
	e.answer(v, r)
}

// repeated makes the answer to a repeat.
func repeated(en *rkcyv1.Entry, asker []byte) *rkcyv1.Response {
	r := proto.CloneOf(en.GetOutcome())
	r.OriginalTxnId, r.TxnId = en.GetTxnId(), asker
	return r
}

// outcome notes how a transaction ended, and answers who waits for it.
func (e *engine) outcome(p *partition, o *rkcyv1.Outcome) {
	en := p.claims.entries[o.GetKey()]
	if en == nil || !bytes.Equal(en.GetTxnId(), o.GetResponse().GetTxnId()) {
		return // forgotten already
	}
	if was := en.GetOutcome(); was != nil && was.GetError().GetDetails()[txn.DetailSaga] != txn.SagaStuck {
		return // only a stuck saga ends twice; a read may run twice
	}
	done := proto.CloneOf(en)
	done.Waiters, done.Outcome = nil, o.GetResponse()
	for _, w := range en.GetWaiters() {
		traceClaim(p, w.GetTxnId())
		e.reply(w.GetReplyTo(), repeated(done, w.GetTxnId()))
	}
	switch {
	case mayRunAgain(o.GetResponse().GetError()):
		traceClaim(p, en.GetTxnId())
		e.forget(p, o.GetKey())
		return
	case proto.Size(done.GetOutcome()) > maxOutcomeBytes:
		done.Outcome = &rkcyv1.Response{TxnId: en.GetTxnId(), Error: txn.Errorf(txn.CodeFailedPrecondition,
			"the request took effect, but its answer was larger than %d bytes and was not kept for a repeat", maxOutcomeBytes).ToProto()}
	}
	e.keep(p, done)
}

// mayRunAgain reports whether a transaction ended without effect and for a
// reason that may have gone when the request is repeated.
func mayRunAgain(err *rkcyv1.Error) bool {
	switch err.GetCode() {
	case txn.CodeUnavailable, txn.CodeResourceExhausted, txn.CodeAborted, txn.CodeCancelled, txn.CodeDeadlineExceeded:
		return err.GetDetails()[txn.DetailSaga] != txn.SagaStuck
	default:
		return false
	}
}

// forgetClaims drops the entries whose window has passed. While a transaction
// runs its entry stays, and so do those who wait for it.
func (e *engine) forgetClaims(p *partition) {
	for len(p.claims.order) > 0 {
		head := p.claims.order[0]
		en := p.claims.entries[head.key]
		current := en != nil && en.GetExpiresMs() == head.ms
		if current && head.ms >= e.nowMs {
			return
		}
		p.claims.order = p.claims.order[1:]
		if !current {
			continue
		}
		e.forget(p, head.key)
		if en.GetOutcome() == nil {
			longer := proto.CloneOf(en)
			longer.ExpiresMs = e.nowMs + e.cfg.claimWindowMs
			e.keep(p, longer)
		}
	}
}
