package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// Config says how to reach the brokers, and is shared by all clients.
type Config struct {
	// Bootstrap is a comma-separated list of host:port.
	Bootstrap string
	// ClientID shows up in the brokers' logs. Default "rocketcycle".
	ClientID string
	// Extra are librdkafka settings (TLS, SASL) that are applied last.
	Extra map[string]string
	// TransactionTimeout is when the broker aborts a transaction whose owner
	// is silent. Default 10 s.
	TransactionTimeout time.Duration
	// SendTimeout bounds how long a record waits for its acknowledgement when
	// the context allows longer. Default 30 s.
	SendTimeout time.Duration
	// MaxMessageBytes is the largest record. Default 8 MiB.
	MaxMessageBytes int
	Logger          *slog.Logger
}

// WithDefaults returns the configuration with zero values replaced.
func (c Config) WithDefaults() Config {
	if c.ClientID == "" {
		c.ClientID = "rocketcycle"
	}
	if c.TransactionTimeout == 0 {
		c.TransactionTimeout = 10 * time.Second
	}
	if c.SendTimeout == 0 {
		c.SendTimeout = 30 * time.Second
	}
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = 8 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	if c.Bootstrap == "" {
		faults = append(faults, errors.New("bootstrap is empty; want host:port[,host:port]"))
	}
	if c.TransactionTimeout < 0 || c.SendTimeout < 0 || c.MaxMessageBytes < 0 {
		faults = append(faults, errors.New("a limit is negative"))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	return nil
}

// common returns the settings of every client.
func (c Config) common() kafka.ConfigMap {
	return kafka.ConfigMap{
		"bootstrap.servers":      c.Bootstrap,
		"client.id":              c.ClientID,
		"enable.metrics.push":    false,
		"go.logs.channel.enable": true,
		"log.connection.close":   false,
		"socket.nagle.disable":   true,
		// A broker that is frozen, not gone, is given up after this time,
		// which the library wants to be no longer than a transaction's.
		"socket.timeout.ms":                  int(min(10*time.Second, c.TransactionTimeout).Milliseconds()),
		"socket.connection.setup.timeout.ms": 5_000,
		"reconnect.backoff.ms":               20,
		"reconnect.backoff.max.ms":           1000,
		"topic.metadata.refresh.interval.ms": 30_000,
		"broker.address.family":              "v4",
	}
}

func (c Config) with(more kafka.ConfigMap) *kafka.ConfigMap {
	m := c.common()
	maps.Copy(m, more)
	for k, v := range c.Extra {
		m[k] = v
	}
	return &m
}

// producer returns the settings of producers.
func (c Config) producer(more kafka.ConfigMap) *kafka.ConfigMap {
	m := kafka.ConfigMap{
		"enable.idempotence":           true,
		"acks":                         "all",
		"linger.ms":                    0,
		"message.max.bytes":            c.MaxMessageBytes,
		"queue.buffering.max.kbytes":   256 << 10,
		"queue.buffering.max.messages": 1_000_000,
		// After CONCURRENT_TRANSACTIONS librdkafka waits this long, ms.
		"retry.backoff.ms":     5,
		"retry.backoff.max.ms": 1000,
	}
	maps.Copy(m, more)
	return c.with(m)
}

// consumer returns the settings of consumers.
func (c Config) consumer(more kafka.ConfigMap) *kafka.ConfigMap {
	m := kafka.ConfigMap{
		"isolation.level":            "read_committed",
		"enable.auto.commit":         false,
		"enable.auto.offset.store":   false,
		"auto.offset.reset":          "earliest",
		"fetch.wait.max.ms":          500,
		"fetch.min.bytes":            1,
		"fetch.error.backoff.ms":     50,
		"fetch.queue.backoff.ms":     10,
		"queued.max.messages.kbytes": 32 << 10,
		"fetch.message.max.bytes":    4 << 20,
		"receive.message.max.bytes":  128 << 20,
		"enable.partition.eof":       false,
		"allow.auto.create.topics":   false,
	}
	maps.Copy(m, more)
	return c.with(m)
}

// drainLogs forwards librdkafka's log lines until the channel closes or done
// is closed.
func drainLogs(logger *slog.Logger, logs chan kafka.LogEvent, done <-chan struct{}) {
	watchLogs(logger, logs, done, func(kafka.LogEvent) {})
}

// watchLogs does the same and shows each line to somebody.
func watchLogs(logger *slog.Logger, logs chan kafka.LogEvent, done <-chan struct{}, seen func(kafka.LogEvent)) {
	for {
		select {
		case e, ok := <-logs:
			if !ok {
				return
			}
			seen(e)
			level := slog.LevelDebug
			if e.Level <= 3 {
				level = slog.LevelInfo
			}
			logger.Log(nil, level, "librdkafka", "client", e.Name, "tag", e.Tag, "message", e.Message) //nolint:staticcheck // no context here
		case <-done:
			return
		}
	}
}
