package workload

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/isolation"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// patience is the deadline of a transaction. Its client waits a little longer,
// for the refusal of what came too late.
const patience = 3 * time.Second

// client sends one transaction after another.
type client struct {
	id       int
	rng      *rand.Rand
	keys     *keys
	txns     *txn.Client
	recorder *isolation.Recorder
}

// run works until ctx ends; what it began, it finishes under base.
func (c *client) run(ctx, base context.Context) error {
	for ctx.Err() == nil {
		steps, slots := c.choose()
		// Now and then one is refused, when some of it is prepared.
		var refuse *isolation.Object
		if c.rng.IntN(8) == 0 {
			o := c.keys.object(c.keys.pick(c.rng, concerns[c.rng.IntN(len(concerns))]))
			refuse = &o
		}
		if _, err := c.do(base, steps, refuse); err != nil {
			return err
		}
		for _, s := range slots {
			if err := c.keys.wrote(base, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// choose makes up a transaction; slots are the instances that it writes.
func (c *client) choose() (steps []isolation.Step, slots []*slot) {
	read := func(concern string) {
		s := isolation.Step{Verb: isolation.ReadList, Object: c.keys.object(c.keys.pick(c.rng, concern))}
		if concern == register {
			s.Verb = isolation.ReadRegister
		}
		steps = append(steps, s)
	}
	write := func(concern string) {
		at := c.keys.pick(c.rng, concern)
		s := isolation.Step{Verb: isolation.Append, Object: c.keys.object(at), Value: c.keys.next()}
		if concern == register {
			s.Verb = isolation.Write
		}
		steps, slots = append(steps, s), append(slots, at)
	}
	any := func() string { return concerns[c.rng.IntN(len(concerns))] }
	switch c.rng.IntN(10) {
	case 0, 1: // a single read, which waits for nobody
		read(any())
	case 2, 3: // reads that must fit together
		for range 2 + c.rng.IntN(3) {
			read(any())
		}
	case 4: // a single write, which takes no hold
		write(any())
	case 5: // a register is read and written
		write(register)
		steps = append([]isolation.Step{{Verb: isolation.ReadRegister, Object: steps[0].Object}}, steps...)
		read(any())
	default:
		for range 2 + c.rng.IntN(3) {
			if c.rng.IntN(2) == 0 {
				read(any())
			} else {
				write(any())
			}
		}
	}
	return steps, slots
}

// errMustFail says that a transaction took effect although a step refuses.
var errMustFail = errors.New("a transaction was acknowledged that one of its steps refuses")

// do runs a transaction and records it, with a step behind it that refuses if
// refuse is set. An error means that the platform answered with what makes no
// sense.
func (c *client) do(ctx context.Context, steps []isolation.Step, refuse *isolation.Object) (isolation.Outcome, error) {
	b := txn.New()
	handles := make([]*txn.Handle[*instance], len(steps))
	for i, s := range steps {
		handles[i] = txn.Add(b, step(s))
	}
	if refuse != nil {
		txn.Add(b, refusal(*refuse))
	}
	pending := c.recorder.Begin(c.id, steps...)
	result, err := c.txns.Run(ctx, b)
	if err != nil {
		o := outcome(err)
		pending.End(o)
		return o, nil
	}
	if refuse != nil {
		return isolation.OK, errMustFail
	}
	var found [][]int64
	for i, s := range steps {
		if s.Verb == isolation.Append || s.Verb == isolation.Write {
			continue
		}
		m, err := handles[i].Result(result)
		if err != nil {
			return isolation.OK, err
		}
		list, err := seen(m)
		if err != nil {
			return isolation.OK, err
		}
		found = append(found, list)
	}
	pending.End(isolation.OK, found...)
	return isolation.OK, nil
}

// refusals are the codes with which a transaction ends without effect.
var refusals = []txn.Code{
	txn.CodeAborted, txn.CodeUnavailable, txn.CodeResourceExhausted, txn.CodeDeadlineExceeded, txn.CodeNotFound, txn.CodeFailedPrecondition,
}

func outcome(err error) isolation.Outcome {
	e, ok := errors.AsType[*txn.Error](err)
	if !ok || e.Details[txn.DetailOutcome] == txn.OutcomeUnknown || !slices.Contains(refusals, e.Code) {
		return isolation.Unknown
	}
	return isolation.Failed
}
