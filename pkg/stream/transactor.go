package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rocketcycle/rocketcycle/internal/failpoint"
)

// Transactor writes Kafka transactions, one at a time. Only Renewals may be
// called concurrently with other methods.
//
// librdkafka speaks the transaction protocol of before KIP-890: an EndTxn that
// is delayed on its way can hit the producer's next transaction. So after any
// abort, disconnect or slow commit the producer is closed and made anew, whose
// InitTransactions raises the epoch, before the next transaction begins
// (jepsen.io/analyses/bufstream-0.1.0, confluentinc/librdkafka#5423).
type Transactor struct {
	cfg  Config
	id   string
	p    *kafka.Producer
	done chan struct{}
	wg   sync.WaitGroup // of the producer in use
	// closing are producers that were given up.
	closing sync.WaitGroup

	// doubt is set when the producer must not be used for another transaction.
	doubt atomic.Bool
	// lost: the library has not come back from a call to this producer.
	lost     bool
	renewals atomic.Uint64
	reasons  renewals

	mu      sync.Mutex
	last    map[TopicPartition]int64
	failed  error
	pending int
	landed  chan struct{}
}

// slowCommit is how long a commit may take before its producer is renewed. It
// is far below the transaction time-out, so that a delayed EndTxn meets a
// raised epoch.
const slowCommit = 3 * time.Second

// NewTransactor returns a Transactor whose producer is initialized, which ends
// what a former producer of the same id left open. It waits for the brokers
// until ctx ends.
func NewTransactor(ctx context.Context, cfg Config, transactionalID string) (*Transactor, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &Transactor{cfg: cfg, id: transactionalID, landed: make(chan struct{}, 1)}
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// open makes a producer and initializes it, again and again until ctx ends.
func (t *Transactor) open(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		err := t.tryOpen(ctx)
		if err == nil {
			return nil
		}
		t.discard()
		if e, ok := errors.AsType[kafka.Error](err); ok && e.Code() == kafka.ErrInvalidArg {
			return fmt.Errorf("stream: transactional producer %s: %w", t.id, err) // a setting, which will not get better
		}
		if ctx.Err() == nil {
			t.cfg.Logger.Warn("transactional producer could not be initialized", "transactional_id", t.id, "error", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stream: transactional producer %s at %s: %w", t.id, t.cfg.Bootstrap, errors.Join(ctx.Err(), err))
		case <-time.After(min(50*time.Millisecond<<min(attempt, 6), 2*time.Second)):
		}
	}
}

func (t *Transactor) tryOpen(ctx context.Context) error {
	p, err := kafka.NewProducer(t.cfg.producer(kafka.ConfigMap{
		"transactional.id":          t.id,
		"transaction.timeout.ms":    int(t.cfg.TransactionTimeout.Milliseconds()),
		"delivery.timeout.ms":       int(t.cfg.TransactionTimeout.Milliseconds()),
		"go.delivery.report.fields": "none", // else each record is copied back
		// The library repeats an EndTxn whose connection broke without a word to
		// its caller, and raises no error event. All that it gives is a line in
		// its log, and that only with this setting. The pause before it connects
		// again makes sure that the line is read before the commit returns.
		"log.connection.close": true,
		"reconnect.backoff.ms": 200,
	}))
	if err != nil {
		return err
	}
	t.p, t.done = p, make(chan struct{})
	t.doubt.Store(false)
	done := t.done
	t.wg.Go(func() { watchLogs(t.cfg.Logger, p.Logs(), done, t.logged) })
	t.wg.Go(func() { t.events(p, done) })
	ctx, cancel := context.WithTimeout(ctx, 2*t.cfg.TransactionTimeout)
	defer cancel()
	// The search for the coordinator waits for a timer unless a broker is
	// connected.
	if err := connect(ctx, p); err != nil {
		return err
	}
	if err := t.call(ctx, p.InitTransactions); err != nil {
		return err
	}
	// Brokers that could not be reached at first are no doubt about what
	// comes after.
	t.doubt.Store(false)
	return nil
}

// piece is how long one call of the library may take. Its calls look at the
// deadline of a context only, not at its end; those that ran out of time are
// made again, which resumes them.
const piece = 200 * time.Millisecond

// connect waits until a broker answers.
func connect(ctx context.Context, p *kafka.Producer) error {
	for {
		_, err := p.GetMetadata(nil, false, int(piece.Milliseconds()))
		if err == nil {
			return nil
		}
		if e, ok := errors.AsType[kafka.Error](err); ok && e.IsFatal() {
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// errNoReturn says that the library did not come back from a call.
var errNoReturn = errors.New("the client library did not come back from the call")

// callGrace is how much longer than its context a call may take before it counts
// as one that does not come back.
const callGrace = 2 * time.Second

// call makes a transactional call like resume, and does not wait for ever for
// the library: a call that is made while the broker dies can fail to come
// back, whatever time-out it was given (seen with SendOffsetsToTransaction).
// Such a producer is given up as it is; the next one of the same id fences it.
func (t *Transactor) call(ctx context.Context, call func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- resume(ctx, call) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(callGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
		t.lost = true
		t.cfg.Logger.Error("the client library did not come back from a transactional call; its producer is given up", "transactional_id", t.id)
		return errors.Join(errNoReturn, ctx.Err())
	}
}

// resume makes a transactional call until it is done, has failed for good, or
// ctx has ended.
func resume(ctx context.Context, call func(context.Context) error) error {
	for {
		part, cancel := context.WithTimeout(ctx, piece)
		err := call(part)
		cancel()
		if err == nil || classify(err) != classRetriable {
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// discard gives the producer up without any further word to the brokers. To
// end it takes the library up to 100 ms, which nobody has to wait for.
func (t *Transactor) discard() {
	if t.p == nil {
		return
	}
	p := t.p
	t.p = nil
	if t.lost { // closing it would not come back either
		t.lost = false
		close(t.done)
		t.wg.Wait()
		return
	}
	_ = p.Purge(kafka.PurgeInFlight | kafka.PurgeQueue | kafka.PurgeNonBlocking)
	close(t.done)
	t.wg.Wait()
	t.closing.Go(p.Close)
}

// renew replaces the producer.
func (t *Transactor) renew(ctx context.Context, why Renewal) error {
	t.renewals.Add(1)
	t.reasons.done[why].Add(1)
	t.discard()
	return t.open(ctx)
}

// Renewals returns how often the producer was replaced.
func (t *Transactor) Renewals() uint64 { return t.renewals.Load() }

// logged looks for connections that broke, in what the library logs.
func (t *Transactor) logged(e kafka.LogEvent) {
	const debug = 7
	if e.Level < debug && (e.Tag == "FAIL" || e.Tag == "REQTMOUT") {
		t.suspect(RenewalConnection)
	}
}

func (t *Transactor) events(p *kafka.Producer, done chan struct{}) {
	for {
		select {
		case e := <-p.Events():
			switch e := e.(type) {
			case *kafka.Message:
				t.delivered(e)
			case kafka.Error:
				// Also a broker that went away, which is not an error of any
				// call yet.
				t.suspect(RenewalError)
				t.cfg.Logger.Debug("transactional producer", "transactional_id", t.id, "error", e)
			}
		case <-done:
			return
		}
	}
}

func (t *Transactor) delivered(m *kafka.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.TopicPartition.Error != nil {
		t.failed = m.TopicPartition.Error
	} else {
		tp := TopicPartition{*m.TopicPartition.Topic, m.TopicPartition.Partition}
		t.last[tp] = max(t.last[tp], int64(m.TopicPartition.Offset))
	}
	t.pending--
	if t.pending == 0 {
		select {
		case t.landed <- struct{}{}:
		default:
		}
	}
}

// Commit writes records and offsets in one Kafka transaction. It returns the
// offset of the last record written to each partition. offsets are positions
// of input partitions (next offset to read) that group consumed; group may be
// nil when there are none. After an error, an *AbortedError, the transaction
// did not commit, or nobody knows.
func (t *Transactor) Commit(
	ctx context.Context, records []Record, group *Group, offsets map[TopicPartition]int64,
) (map[TopicPartition]int64, error) {
	if t.p == nil || t.doubt.Load() && !failpoint.Off(failpoint.Renewal) {
		why := RenewalFailed // a renewal that failed left none
		if t.p != nil {
			why = Renewal(t.reasons.why.Load())
		}
		if err := t.renew(ctx, why); err != nil {
			return nil, &AbortedError{Op: "renew", Class: classFatal.String(), Err: err}
		}
	}
	last, op, err := t.commit(ctx, records, group, offsets)
	if err == nil {
		return last, nil
	}
	// Abort, so that readers need not wait for the time-out; and whatever
	// comes of it, use a new producer.
	if classify(err) != classFatal {
		abort, cancel := context.WithTimeout(ctx, t.cfg.TransactionTimeout)
		if abortErr := t.call(abort, t.p.AbortTransaction); abortErr != nil {
			t.cfg.Logger.Debug("abort failed", "error", abortErr)
		}
		cancel()
	}
	failure := &AbortedError{Op: op, Class: classify(err).String(), Err: err}
	if renewErr := t.renew(ctx, RenewalFailed); renewErr != nil {
		return nil, errors.Join(failure, renewErr)
	}
	return nil, failure
}

func (t *Transactor) commit(
	ctx context.Context, records []Record, group *Group, offsets map[TopicPartition]int64,
) (map[TopicPartition]int64, string, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, t.cfg.TransactionTimeout)
	defer cancel()
	select { // a left-over signal of a transaction that failed
	case <-t.landed:
	default:
	}
	t.mu.Lock()
	t.last, t.failed, t.pending = map[TopicPartition]int64{}, nil, len(records)
	t.mu.Unlock()
	if err := t.p.BeginTransaction(); err != nil {
		return nil, "begin", err
	}
	for i := range records {
		r := &records[i]
		m := &kafka.Message{
			TopicPartition: kafka.TopicPartition{Topic: &r.Topic, Partition: r.Partition}, Key: r.Key, Value: r.Value,
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
		if err := t.produce(ctx, m); err != nil {
			return nil, "produce", err
		}
	}
	if failpoint.Armed(failpoint.TxnProduced) {
		t.p.Flush(int(t.cfg.TransactionTimeout.Milliseconds())) // else nothing was sent yet
		failpoint.Hit(failpoint.TxnProduced)
	}
	if len(offsets) > 0 {
		if err := t.sendOffsets(ctx, group, offsets); err != nil {
			return nil, "send offsets", err
		}
	}
	failpoint.Hit(failpoint.TxnBeforeCommit)
	if err := t.call(ctx, t.p.CommitTransaction); err != nil {
		return nil, "commit", err
	}
	failpoint.Hit(failpoint.TxnAfterCommit)
	// The commit has flushed everything; the last reports may still be in
	// the channel.
	if len(records) > 0 {
		select {
		case <-t.landed:
		case <-ctx.Done():
			return nil, "delivery reports", ctx.Err()
		}
	}
	if time.Since(began) > slowCommit {
		t.suspect(RenewalSlow)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed != nil {
		return nil, "delivery", t.failed
	}
	return t.last, "", nil
}

func (t *Transactor) produce(ctx context.Context, m *kafka.Message) error {
	for {
		err := t.p.Produce(m, nil)
		if e, ok := errors.AsType[kafka.Error](err); !ok || e.Code() != kafka.ErrQueueFull {
			return err
		}
		// Wait for room in the queue.
		t.p.Flush(10)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (t *Transactor) sendOffsets(ctx context.Context, group *Group, offsets map[TopicPartition]int64) error {
	tps := make([]kafka.TopicPartition, 0, len(offsets))
	for tp, offset := range offsets {
		tps = append(tps, kafka.TopicPartition{Topic: &tp.Topic, Partition: tp.Partition, Offset: kafka.Offset(offset)})
	}
	p := t.p
	return t.call(ctx, func(ctx context.Context) error {
		// Fetched right before each call: an older generation is refused.
		meta, err := group.metadata()
		if err != nil {
			return err
		}
		return p.SendOffsetsToTransaction(ctx, tps, meta)
	})
}

// Close gives the producer up. An open transaction is left to its time-out.
func (t *Transactor) Close() {
	t.discard()
	t.closing.Wait()
}
