package stream

import (
	"context"
	"fmt"
	"sync"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Producer appends records with idempotence and acks=all. Safe for concurrent
// use.
type Producer struct {
	cfg  Config
	p    *kafka.Producer
	done chan struct{}
	wg   sync.WaitGroup
}

// NewProducer returns a producer. It does not fail while the brokers are away.
func NewProducer(cfg Config) (*Producer, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p, err := kafka.NewProducer(cfg.producer(kafka.ConfigMap{
		"delivery.timeout.ms": int(cfg.SendTimeout.Milliseconds()),
	}))
	if err != nil {
		return nil, fmt.Errorf("stream: producer: %w", err)
	}
	r := &Producer{cfg: cfg, p: p, done: make(chan struct{})}
	r.wg.Go(func() { drainLogs(cfg.Logger, p.Logs(), r.done) })
	r.wg.Go(r.events)
	return r, nil
}

// events hands each delivery report to whoever waits for it.
func (p *Producer) events() {
	for {
		select {
		case e := <-p.p.Events():
			switch e := e.(type) {
			case *kafka.Message:
				if report, ok := e.Opaque.(chan error); ok {
					report <- e.TopicPartition.Error
				}
			case kafka.Error:
				p.cfg.Logger.Debug("producer", "error", e)
			}
		case <-p.done:
			return
		}
	}
}

// Send appends one record and waits until every in-sync replica has it, ctx
// ends, or SendTimeout has passed. It implements txn.Sender: an error without
// txn.OutcomeUnknown means that the record was not written.
func (p *Producer) Send(ctx context.Context, topic string, partition int32, key, value []byte) error {
	report := make(chan error, 1)
	err := p.p.Produce(&kafka.Message{
		TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: partition},
		Key:            key, Value: value, Opaque: report,
	}, nil)
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
	}
}

// Close waits up to 5 s for what is under way, and gives up the rest.
func (p *Producer) Close() {
	p.p.Flush(5000)
	close(p.done)
	p.wg.Wait()
	p.p.Close()
}
