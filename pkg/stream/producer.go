package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Producer appends records with idempotence and acks=all. Safe for concurrent
// use.
//
// When the library reports a fatal error (a broker that lost what it knew of
// the producer, say), its producer refuses everything from then on; it is
// replaced by a new one.
type Producer struct {
	cfg Config

	mu     sync.Mutex
	cur    *idempotent
	closed bool
	given  sync.WaitGroup // producers that were given up
}

// idempotent is one producer of the library.
type idempotent struct {
	cfg  Config
	p    *kafka.Producer
	done chan struct{}
	wg   sync.WaitGroup

	mu   sync.RWMutex
	gone bool // nothing may be produced any more
}

// NewProducer returns a producer. It does not fail while the brokers are away.
func NewProducer(cfg Config) (*Producer, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cur, err := newIdempotent(cfg)
	if err != nil {
		return nil, err
	}
	return &Producer{cfg: cfg, cur: cur}, nil
}

func newIdempotent(cfg Config) (*idempotent, error) {
	p, err := kafka.NewProducer(cfg.producer(kafka.ConfigMap{
		"delivery.timeout.ms":       int(cfg.SendTimeout.Milliseconds()),
		"go.delivery.report.fields": "none", // else each record is copied back
	}))
	if err != nil {
		return nil, fmt.Errorf("stream: producer: %w", err)
	}
	i := &idempotent{cfg: cfg, p: p, done: make(chan struct{})}
	i.wg.Go(func() { drainLogs(cfg.Logger, p.Logs(), i.done) })
	i.wg.Go(i.events)
	return i, nil
}

// events hands each delivery report to whoever waits for it.
func (i *idempotent) events() {
	for {
		select {
		case e := <-i.p.Events():
			switch e := e.(type) {
			case *kafka.Message:
				if report, ok := e.Opaque.(chan error); ok {
					report <- e.TopicPartition.Error
				}
			case kafka.Error:
				i.cfg.Logger.Debug("producer", "error", e)
			}
		case <-i.done:
			return
		}
	}
}

// produce queues a record; an error says that it was not written.
func (i *idempotent) produce(m *kafka.Message) error {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.gone {
		return errClosed
	}
	return i.p.Produce(m, nil)
}

// close waits up to 5 s for what is under way, and gives up the rest.
func (i *idempotent) close() {
	i.mu.Lock()
	i.gone = true
	i.mu.Unlock()
	i.p.Flush(5000)
	close(i.done)
	i.wg.Wait()
	i.p.Close()
}

// current returns the producer to use.
func (p *Producer) current() (*idempotent, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, txn.Errorf(txn.CodeUnavailable, "the producer is closed")
	}
	return p.cur, nil
}

// replace puts a new producer in the place of one that refuses everything.
func (p *Producer) replace(broken *idempotent) (*idempotent, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, txn.Errorf(txn.CodeUnavailable, "the producer is closed")
	}
	if p.cur != broken {
		return p.cur, nil
	}
	p.cfg.Logger.Warn("the producer had a fatal error and is replaced", "error", broken.p.GetFatalError())
	fresh, err := newIdempotent(p.cfg)
	if err != nil {
		return nil, txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	p.cur = fresh
	p.given.Go(broken.close)
	return fresh, nil
}

// Send appends one record and waits until every in-sync replica has it, ctx
// ends, SendTimeout has passed, or the producer is closed. It implements
// txn.Sender: an error without txn.OutcomeUnknown means that the record was not
// written.
func (p *Producer) Send(ctx context.Context, topic string, partition int32, key, value []byte) error {
	cur, err := p.current()
	if err != nil {
		return err
	}
	report := make(chan error, 1)
	m := &kafka.Message{
		TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: partition},
		Key:            key, Value: value, Opaque: report, Headers: traceHeaders(ctx),
	}
	err = cur.produce(m)
	if e, ok := errors.AsType[kafka.Error](err); errors.Is(err, errClosed) || ok && (e.IsFatal() || e.Code() == kafka.ErrFatal) {
		// Refused at once, so it was not written.
		if cur, err = p.replace(cur); err != nil {
			return err
		}
		err = cur.produce(m)
	}
	if errors.Is(err, errClosed) {
		return txn.Errorf(txn.CodeUnavailable, "the producer is closed")
	}
	if err != nil {
		return sendError(context.Background(), topic, err)
	}
	select {
	case err := <-report:
		if err != nil {
			return sendError(context.Background(), topic, err)
		}
		return nil
	case <-ctx.Done():
		return sendError(ctx, topic, ctx.Err())
	case <-cur.done:
		select {
		case err := <-report: // both were there
			if err == nil {
				return nil
			}
			return sendError(context.Background(), topic, err)
		default:
			return sendError(context.Background(), topic, errClosed)
		}
	}
}

var errClosed = errors.New("the producer was closed before the brokers acknowledged")

// Close waits up to 5 s for what is under way, and gives up the rest.
func (p *Producer) Close() {
	p.mu.Lock()
	cur, was := p.cur, p.closed
	p.closed = true
	p.mu.Unlock()
	if !was {
		cur.close()
	}
	p.given.Wait()
}
