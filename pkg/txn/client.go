package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Runner runs transactions. It is what the handlers of an edge depend on.
// Safe for concurrent use.
type Runner interface {
	// Run submits the transaction and waits for its end. Every error is, or
	// wraps, an *Error.
	Run(ctx context.Context, b *Builder) (*Result, error)
}

// ClientConfig configures a Client.
type ClientConfig struct {
	Router Router
	Sender Sender
	// ReplyPartition is the partition of the response topic that the owner of
	// the client follows, and EdgeID what tells its answers from those of
	// others on the same partition. Take EdgeID at random.
	ReplyPartition int32
	EdgeID         uint64
	// MaxInFlight bounds the transactions that wait for their end; one more is
	// refused with CodeResourceExhausted. Default 10,000.
	MaxInFlight int
	// DefaultTimeout is the deadline of a transaction whose context has none,
	// and MaxTimeout the latest deadline that a context may set, at most the
	// constant MaxTimeout. Defaults 30 s and 10 min.
	DefaultTimeout time.Duration
	MaxTimeout     time.Duration
	// MaxBytes is the largest serialized transaction. Default and limit:
	// MaxRecordBytes / 2, which leaves room for results.
	MaxBytes int
	Logger   *slog.Logger
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// MaxTimeout is the latest deadline of a transaction, from its submission on.
// After it, nothing of the transaction can begin any more.
const MaxTimeout = 24 * time.Hour

// WithDefaults returns the configuration with zero values replaced.
func (c ClientConfig) WithDefaults() ClientConfig {
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 10_000
	}
	if c.DefaultTimeout == 0 {
		c.DefaultTimeout = 30 * time.Second
	}
	if c.MaxTimeout == 0 {
		c.MaxTimeout = 10 * time.Minute
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = MaxRecordBytes / 2
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Validate reports every fault of the configuration.
func (c ClientConfig) Validate() error {
	var faults []error
	if c.Router == nil {
		faults = append(faults, errors.New("router is missing"))
	}
	if c.Sender == nil {
		faults = append(faults, errors.New("sender is missing"))
	}
	if c.MaxInFlight < 0 || c.DefaultTimeout < 0 || c.MaxTimeout < 0 {
		faults = append(faults, errors.New("a limit is negative"))
	}
	if c.MaxTimeout > MaxTimeout {
		faults = append(faults, fmt.Errorf("MaxTimeout is %v; at most %v is allowed", c.MaxTimeout, MaxTimeout))
	}
	if c.MaxBytes < 0 || c.MaxBytes > MaxRecordBytes/2 {
		faults = append(faults, fmt.Errorf("MaxBytes is %d; at most %d is allowed", c.MaxBytes, MaxRecordBytes/2))
	}
	return errors.Join(faults...)
}

// Client submits transactions and hands their answers to those who wait. It
// is safe for concurrent use. It starts no goroutine: its owner follows the
// response partition and calls Deliver.
type Client struct {
	cfg ClientConfig

	mu      sync.Mutex
	waiting map[ID]chan *rkcyv1.Response
	closed  bool
}

// NewClient returns a client.
func NewClient(cfg ClientConfig) (*Client, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("transaction client: %w", err)
	}
	return &Client{cfg: cfg, waiting: map[ID]chan *rkcyv1.Response{}}, nil
}

// prepared is a transaction that is ready to be submitted.
type prepared struct {
	id    ID
	first firstRecord
}

// prepare builds a transaction. The context that it returns ends a little after
// the deadline, so that the processor's answer to an expired transaction
// arrives before the caller gives up.
func (c *Client) prepare(ctx context.Context, b *Builder) (context.Context, context.CancelFunc, prepared, error) {
	p, now := prepared{id: NewID()}, c.cfg.Now()
	deadline, ok := ctx.Deadline()
	cancel := context.CancelFunc(func() {})
	if latest := now.Add(c.cfg.MaxTimeout); !ok {
		deadline = now.Add(c.cfg.DefaultTimeout)
		ctx, cancel = context.WithTimeout(ctx, c.cfg.DefaultTimeout+2*time.Second)
	} else if deadline.After(latest) {
		deadline = latest
	}
	if ctx.Err() != nil {
		return ctx, cancel, p, notSubmitted(ctx)
	}
	t, err := b.Build(p.id, now, deadline, &rkcyv1.ReplyTo{Partition: c.cfg.ReplyPartition, Edge: c.cfg.EdgeID})
	if err == nil {
		t.Headers = TraceHeaders(ctx)
		noteID(ctx, p.id)
		p.first, err = c.firstRecord(ctx, t)
	}
	return ctx, cancel, p, err
}

// send appends the first record.
func (c *Client) send(ctx context.Context, p prepared) error {
	r := p.first
	if err := c.cfg.Sender.Send(ctx, r.topic, r.partition, []byte(r.key), r.value); err != nil {
		if ctx.Err() != nil {
			return unknownOutcome(ctx, p.id)
		}
		return AsError(err).With(DetailTxnID, p.id.String())
	}
	return nil
}

// Submit submits a transaction and does not wait for its end. The result can be
// asked for by its id, for an hour.
func (c *Client) Submit(ctx context.Context, b *Builder) (ID, error) {
	ctx, cancel, p, err := c.prepare(ctx, b)
	defer cancel()
	if err != nil {
		return ID{}, err
	}
	return p.id, c.send(ctx, p)
}

// Run submits a transaction and waits for its end. The deadline of ctx bounds
// the execution, too: processors abort the transaction when it has passed. If
// ctx ends first, the error has CodeDeadlineExceeded (or CodeCancelled), the
// transaction id, and says that the outcome is unknown.
func (c *Client) Run(ctx context.Context, b *Builder) (*Result, error) {
	if Explaining(ctx) {
		return nil, Explained(b, c.cfg.Router)
	}
	ctx, cancel, p, err := c.prepare(ctx, b)
	defer cancel()
	if err != nil {
		return nil, err
	}
	id := p.id
	answer, err := c.enter(id)
	if err != nil {
		return nil, err
	}
	defer c.leave(id)
	if err := c.send(ctx, p); err != nil {
		return nil, err
	}
	select {
	case r := <-answer:
		if r == nil {
			return nil, Errorf(CodeUnavailable, "the edge stops; transaction %v may still take effect", id).
				With(DetailTxnID, id.String()).With(DetailOutcome, OutcomeUnknown)
		}
		if r.GetError() != nil {
			return nil, FromProto(r.GetError()).With(DetailTxnID, id.String())
		}
		if len(r.GetResults()) < b.Len() {
			return nil, Errorf(CodeInternal, "the answer has %d results for %d steps; the transaction took effect", len(r.GetResults()), b.Len()).
				With(DetailTxnID, id.String())
		}
		result := &Result{ID: id, Attempts: int(r.GetAttempts()), steps: r.GetResults()}
		if original, err := IDFromBytes(r.GetOriginalTxnId()); err == nil {
			result.ID, result.Repeated = original, true
		}
		return result, nil
	case <-ctx.Done():
		return nil, unknownOutcome(ctx, id)
	}
}

// firstRecord is what puts a transaction into the log.
type firstRecord struct {
	topic     string
	partition int32
	key       string
	value     []byte
}

// firstRecord makes the record that starts a transaction: its first visit, or
// the claim of its idempotency key.
func (c *Client) firstRecord(ctx context.Context, t *rkcyv1.Transaction) (r firstRecord, err error) {
	v := &rkcyv1.Visit{Txn: t, Attempt: 1}
	if t.Idempotency, err = claimOf(ctx, t); err != nil {
		return r, Errorf(CodeInvalidArgument, "idempotency: %w", err)
	}
	concern, key := Instance(v)
	if t.GetIdempotency() != nil {
		v.Claim, concern, key = true, c.cfg.Router.IdempotencyHome(), HomeKey(t.GetIdempotency().GetKey())
	}
	r.key = key
	if r.topic, r.partition, err = c.cfg.Router.Route(concern, key); err != nil {
		return r, err
	}
	if v.GetClaim() {
		t.Idempotency.Home = &rkcyv1.Participant{Topic: r.topic, Partition: r.partition}
	}
	r.value, err = proto.Marshal(&rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: v}})
	if err != nil {
		return r, Errorf(CodeInvalidArgument, "transaction: %w", err)
	}
	if len(r.value) > c.cfg.MaxBytes {
		return r, Errorf(CodeInvalidArgument, "the transaction has %d bytes; at most %d are allowed", len(r.value), c.cfg.MaxBytes)
	}
	return r, nil
}

func notSubmitted(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return Errorf(CodeCancelled, "the caller stopped waiting before the transaction was submitted")
	}
	return Errorf(CodeDeadlineExceeded, "the deadline passed before the transaction was submitted")
}

func unknownOutcome(ctx context.Context, id ID) error {
	code, what := CodeDeadlineExceeded, "no answer before the deadline"
	if errors.Is(ctx.Err(), context.Canceled) {
		code, what = CodeCancelled, "the caller stopped waiting"
	}
	return Errorf(code, "%s; transaction %v may have taken effect", what, id).
		With(DetailTxnID, id.String()).With(DetailOutcome, OutcomeUnknown)
}

func (c *Client) enter(id ID) (<-chan *rkcyv1.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, Errorf(CodeUnavailable, "the edge stops; nothing was submitted")
	}
	if len(c.waiting) >= c.cfg.MaxInFlight {
		return nil, Errorf(CodeResourceExhausted, "%d transactions are in flight at this edge, its limit; try again later", c.cfg.MaxInFlight)
	}
	answer := make(chan *rkcyv1.Response, 1)
	c.waiting[id] = answer
	return answer, nil
}

func (c *Client) leave(id ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

// InFlight returns the number of transactions that wait for their end.
func (c *Client) InFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

// Deliver hands a record of the response topic to whoever waits for it.
// Answers for other edges, and answers that nobody waits for any more, are
// dropped. An error means that the record is not a Response.
func (c *Client) Deliver(value []byte) error {
	r := &rkcyv1.Response{}
	if err := proto.Unmarshal(value, r); err != nil {
		return fmt.Errorf("response record: %w", err)
	}
	if r.GetEdge() != c.cfg.EdgeID {
		return nil
	}
	id, err := IDFromBytes(r.GetTxnId())
	if err != nil {
		return fmt.Errorf("response record: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer, ok := c.waiting[id]; ok {
		select {
		case answer <- r:
		default: // answered already
		}
	}
	return nil
}

// Close makes every waiting Run return with an unknown outcome and refuses
// new ones.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, answer := range c.waiting {
		select {
		case answer <- nil:
		default:
		}
	}
}
