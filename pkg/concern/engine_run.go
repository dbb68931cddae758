package concern

import (
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// ran is what the steps of a visit did.
type ran struct {
	// after is the instance as it is to be, nil if it is not to exist. Only
	// meaningful if wrote.
	after   []byte
	wrote   bool
	results []*rkcyv1.StepResult
	// added are steps that keep values unique, related what parents are told.
	added   []*rkcyv1.Step
	related []*rkcyv1.Related
}

// run executes the steps of a visit on a private copy of base.
func (e *engine) run(p *partition, v *rkcyv1.Visit, key string, base *rkcyv1.Instance, related []*rkcyv1.RelatedInstance) (out ran, failure *txn.Error) {
	set := p.concern.commands
	ctx := Context{
		txnID: txn.ID(v.GetTxn().GetId()), concern: set.def.Name, key: key,
		effective: time.UnixMilli(v.GetTxn().GetEffectiveTimeMs()).UTC(),
		related:   related, config: e.config,
	}
	out.results = make([]*rkcyv1.StepResult, len(v.GetTxn().GetSteps()))
	copy(out.results, v.GetResults())
	for i, r := range out.results {
		if r == nil {
			out.results[i] = &rkcyv1.StepResult{}
		}
	}
	if reads(v) && base.GetVersion() > 0 {
		// The provided read returns what is stored, as it is stored.
		for _, i := range txn.StepsOf(v) {
			e.stepBegins()
			out.results[i] = &rkcyv1.StepResult{Value: base.GetValue(), Version: base.GetVersion()}
			e.stepEnds(p, set.byName[txn.CommandRead], v, i, nil)
		}
		return out, nil
	}
	before, err := set.decode(base, key)
	if err != nil {
		return out, err
	}
	instance := before
	if before != nil && set.derives() {
		instance = proto.Clone(before)
	}
	steps := txn.StepsOf(v)
	for _, i := range steps {
		s := txn.StepAt(v, i)
		c := set.byName[s.GetCommand()]
		if c == nil { // parked by a program that had it
			return out, stepError(set.unknown(s.GetCommand()), s)
		}
		skip, err := txn.Skips(s, out.results)
		switch {
		case err != nil:
			return out, stepError(txn.Errorf(txn.CodeInvalidArgument, "%w", err), s)
		case skip:
			out.results[i] = &rkcyv1.StepResult{Version: base.GetVersion(), Skipped: true}
			continue
		}
		e.stepBegins()
		next, result, err := e.step(c, ctx, instance, s, out.results)
		e.stepEnds(p, c, v, i, err)
		if err != nil {
			return out, stepError(err, s)
		}
		if !c.readOnly {
			instance = next
			out.wrote = true
		}
		if txn.Undoing(v) {
			continue // compensations that follow may want the results
		}
		value, err := proto.Marshal(result)
		if err != nil {
			return out, stepError(txn.Errorf(txn.CodeInternal, "the result of %s cannot be serialized: %w", c.name, err), s)
		}
		out.results[i] = &rkcyv1.StepResult{Value: value, Version: base.GetVersion()}
	}
	if !out.wrote {
		return out, nil
	}
	last := txn.StepAt(v, steps[len(steps)-1])
	if out.after, failure = set.encode(instance, key); failure != nil {
		return out, stepError(failure, last)
	}
	if set.derives() {
		if out.added, failure = set.constrain(key, before, instance); failure != nil {
			return out, stepError(failure, last)
		}
		var err error
		if out.related, err = set.relate(key, before, instance); err != nil {
			return out, stepError(txn.Errorf(txn.CodeInternal, "relations of %s %q: %w", set.def.Name, key, err), last)
		}
	}
	return out, nil
}

// reads reports whether a visit is made of the provided read alone.
func reads(v *rkcyv1.Visit) bool {
	for _, i := range txn.StepsOf(v) {
		s := txn.StepAt(v, i)
		if s.GetCommand() != txn.CommandRead || len(s.GetSkipWhen()) > 0 {
			return false
		}
	}
	return true
}

// derives reports whether a change of an instance may cause others.
func (s *commandSet) derives() bool { return len(s.def.Relations) > 0 || len(s.def.Unique) > 0 }

// decode returns the message of an instance, nil if it does not exist.
func (s *commandSet) decode(base *rkcyv1.Instance, key string) (proto.Message, *txn.Error) {
	if base.GetVersion() == 0 {
		return nil, nil //nolint:nilnil // no instance
	}
	m := s.def.New()
	if err := proto.Unmarshal(base.GetValue(), m); err != nil {
		return nil, txn.Errorf(txn.CodeDataLoss, "the stored %s %q cannot be decoded: %w", s.def.Name, key, err)
	}
	return m, nil
}

// encode checks and serializes an instance; nil if it is not to exist.
func (s *commandSet) encode(instance proto.Message, key string) ([]byte, *txn.Error) {
	if instance == nil {
		return nil, nil
	}
	if k := s.def.KeyOf(instance); k != key {
		return nil, txn.Errorf(txn.CodeInternal, "a handler changed the key of %s %q to %q", s.def.Name, key, k)
	}
	after, err := proto.MarshalOptions{Deterministic: true}.Marshal(instance)
	switch {
	case err != nil:
		return nil, txn.Errorf(txn.CodeInternal, "%s %q cannot be serialized: %w", s.def.Name, key, err)
	case len(after) > txn.MaxRecordBytes/4:
		return nil, errTooLarge(s.def.Name, len(after))
	}
	if err := txn.CheckText(instance, after); err != nil {
		return nil, txn.Errorf(txn.CodeInvalidArgument, "%s %q: %w", s.def.Name, key, err)
	}
	if after == nil {
		after = []byte{}
	}
	return after, nil
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
	e.cfg.watchdog.begin(ctx, c.name)
	defer e.cfg.watchdog.end()
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
