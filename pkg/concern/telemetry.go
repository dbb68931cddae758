package concern

import (
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// cause is what the engine works on: which record it came with, and the trace
// that the records belong to that it leads to.
type cause struct {
	// offset of the record, and when it came into the log: zero where none came.
	offset int64
	at     time.Time
	// parked: it has waited behind a hold, or for a time.
	parked bool
	// Headers of the trace, empty if it is not sampled.
	traceparent, tracestate string
}

// noCause is that of what did not come with a record.
func noCause() cause { return cause{} }

func causeOf(in *input) cause {
	c := cause{offset: in.record.Offset, at: in.record.Time}
	if len(in.record.Headers) > 0 {
		if c.traceparent = in.record.Header(txn.HeaderTraceparent); !txn.Sampled(c.traceparent) {
			c.traceparent = ""
		} else {
			c.tracestate = in.record.Header(txn.HeaderTracestate)
		}
	}
	return c
}

// again is the cause of a visit that was put aside.
func (c cause) again() cause {
	c.parked = true
	return c
}

// headers returns those of the records that follow; nil without a trace.
func (c *cause) headers() []stream.Header {
	if c.traceparent == "" {
		return nil
	}
	out := []stream.Header{{Key: txn.HeaderTraceparent, Value: []byte(c.traceparent)}}
	if c.tracestate != "" {
		out = append(out, stream.Header{Key: txn.HeaderTracestate, Value: []byte(c.tracestate)})
	}
	return out
}

// about makes records that follow part of the trace of a visit's transaction.
func (e *engine) about(v *rkcyv1.Visit) {
	h := v.GetTxn().GetHeaders()
	if len(h) == 0 {
		e.cause.traceparent, e.cause.tracestate = "", ""
		return
	}
	e.cause.traceparent, e.cause.tracestate = h[txn.HeaderTraceparent], h[txn.HeaderTracestate]
}

// teller is told of the steps that an engine runs, on the engine's goroutine.
// The engine has no clock; a teller may have one.
type teller interface {
	// stepBegins is called before a step runs, stepEnds behind it.
	stepBegins()
	stepEnds(toldStep)
}

// toldStep is one execution of a step. It is valid during the call only.
type toldStep struct {
	part    *partition
	command *command
	visit   *rkcyv1.Visit
	index   uint32
	cause   *cause
	// config is the version of the config sets that the handler saw.
	config uint64
	err    error
}

func (e *engine) stepBegins() {
	if e.cfg.teller != nil {
		e.cfg.teller.stepBegins()
	}
}

func (e *engine) stepEnds(p *partition, c *command, v *rkcyv1.Visit, i uint32, err error) {
	if e.cfg.teller == nil {
		return
	}
	s := toldStep{part: p, command: c, visit: v, index: i, cause: &e.cause, err: err}
	if e.config != nil {
		s.config = e.config.Version
	}
	e.cfg.teller.stepEnds(s)
}

// looked counts whether an instance was in memory.
func (s *Stats) looked(found bool) {
	if found {
		s.CacheHits++
	} else {
		s.CacheMisses++
	}
}

// ended counts the end of a transaction.
func (s *Stats) ended(r *rkcyv1.Response) {
	if code := int(r.GetError().GetCode()); code >= 0 && code < len(s.Ended) {
		s.Ended[code]++
	}
}

// total is what an engine did so far.
func (e *engine) total() Stats {
	s := e.stats
	s.Evicted = e.cache.evicted
	return s
}

// Waiting is what stands in partitions at one moment.
type Waiting struct {
	// Holds on instances; visits Parked behind them, and their size.
	Holds, Parked int
	ParkedBytes   int64
	// Stuck sagas.
	Stuck int
	// OldestMs is when the oldest transaction of holds and parked visits was
	// submitted, Unix ms; 0 if there is none.
	OldestMs int64
}

// Add returns the sum of two Waitings.
func (w Waiting) Add(o Waiting) Waiting {
	w.Holds, w.Parked, w.ParkedBytes, w.Stuck = w.Holds+o.Holds, w.Parked+o.Parked, w.ParkedBytes+o.ParkedBytes, w.Stuck+o.Stuck
	w.older(o.OldestMs)
	return w
}

func (w *Waiting) older(ms int64) {
	if ms > 0 && (w.OldestMs == 0 || ms < w.OldestMs) {
		w.OldestMs = ms
	}
}

// waiting looks through all partitions. It takes time in proportion to what is
// there.
func (e *engine) waiting() (out Waiting) {
	for _, p := range e.order {
		for _, holds := range p.holds {
			out.Holds += len(holds)
			for _, h := range holds {
				out.older(h.age.SubmitMs)
			}
		}
		for _, s := range p.slots {
			s.queue.Each(func(w txn.Waiting[*parked]) {
				out.Parked++
				out.older(w.Value.visit.GetTxn().GetSubmitTimeMs())
			})
		}
		for _, w := range p.timers.byKey {
			if w.stuck {
				out.Stuck++
			}
		}
		out.ParkedBytes += p.parkedBytes
	}
	return out
}

// waitingInterval is how often a worker looks what stands in its partitions.
const waitingInterval = 500 * time.Millisecond

// Owned returns the numbers of the partitions that the processor owns, by
// Concern. Safe for concurrent use.
func (p *Processor) Owned() map[string][]int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string][]int32{}
	for _, w := range p.workers {
		for _, tp := range w.ownedPartitions() {
			name := p.served[tp.Topic].commands.def.Name
			out[name] = append(out[name], tp.Partition)
		}
	}
	return out
}
