package txn

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

type oneTopic struct{}

func (oneTopic) Route(concern, _ string) (string, int32, error) {
	if concern != "thing" {
		return "", 0, Errorf(CodeUnimplemented, "no Concern %q", concern)
	}
	return "things", 1, nil
}

func (oneTopic) IdempotencyHome() string { return "thing" }

// fakeLog is a Sender that hands what is sent to answer.
type fakeLog struct {
	mu     sync.Mutex
	sent   []*rkcyv1.Visit
	answer func(ctx context.Context, v *rkcyv1.Visit) error
}

func (l *fakeLog) Send(ctx context.Context, topic string, partition int32, key, value []byte) error {
	r := &rkcyv1.ProcessRecord{}
	if err := proto.Unmarshal(value, r); err != nil {
		return err
	}
	if topic != "things" || partition != 1 || string(key) != "k" {
		return errors.New("sent to the wrong place")
	}
	l.mu.Lock()
	l.sent = append(l.sent, r.GetVisit())
	l.mu.Unlock()
	if l.answer != nil {
		return l.answer(ctx, r.GetVisit())
	}
	return nil
}

func newTestClient(t *testing.T, change func(*ClientConfig)) (*Client, *fakeLog) {
	t.Helper()
	log := &fakeLog{}
	cfg := ClientConfig{Router: oneTopic{}, Sender: log, EdgeID: 7, ReplyPartition: 3}
	if change != nil {
		change(&cfg)
	}
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, log
}

func deliver(t *testing.T, c *Client, r *rkcyv1.Response) {
	t.Helper()
	raw, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Deliver(raw); err != nil {
		t.Fatal(err)
	}
}

func oneStep() (*Builder, *Handle[*rkcyv1.Visit]) {
	b := New()
	return b, Add(b, visitStep("k"))
}

func isUnknown(err error) bool {
	e := AsError(err)
	return e != nil && e.Details[DetailOutcome] == OutcomeUnknown
}

func TestClientConfigIsChecked(t *testing.T) {
	err := ClientConfig{MaxInFlight: -1, MaxBytes: MaxRecordBytes}.WithDefaults().Validate()
	for _, want := range []string{"router", "sender", "negative", "MaxBytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if _, err := NewClient(ClientConfig{}); err == nil {
		t.Error("a client with nothing to work with")
	}
}

func TestClientRun(t *testing.T) {
	c, log := newTestClient(t, nil)
	raw, err := proto.Marshal(&rkcyv1.Visit{Attempt: 9})
	if err != nil {
		t.Fatal(err)
	}
	log.answer = func(_ context.Context, v *rkcyv1.Visit) error {
		id := v.GetTxn().GetId()
		deliver(t, c, &rkcyv1.Response{TxnId: id, Edge: 8, Error: &rkcyv1.Error{Code: CodeNotFound}}) // of another edge
		other := NewID()
		deliver(t, c, &rkcyv1.Response{TxnId: other[:], Edge: 7}) // nobody waits for it
		deliver(t, c, &rkcyv1.Response{TxnId: id, Edge: 7, Attempts: 2, Results: []*rkcyv1.StepResult{{Value: raw, Version: 4}}})
		deliver(t, c, &rkcyv1.Response{TxnId: id, Edge: 7, Error: &rkcyv1.Error{Code: CodeNotFound}}) // again
		return nil
	}
	b, h := oneStep()
	res, err := c.Run(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	sent := log.sent[0]
	if res.ID != ID(sent.GetTxn().GetId()) || res.Attempts != 2 || res.Version(0) != 4 || string(res.Raw(0)) != string(raw) {
		t.Errorf("%+v", res)
	}
	if got, err := h.Result(res); err != nil || got.GetAttempt() != 9 {
		t.Errorf("%v, %v", got, err)
	}
	if sent.GetAttempt() != 1 || sent.GetTxn().GetReplyTo().GetPartition() != 3 || sent.GetTxn().GetReplyTo().GetEdge() != 7 {
		t.Errorf("sent %v", sent)
	}
	if err := CheckVisit(sent); err != nil {
		t.Error(err)
	}
	if c.InFlight() != 0 {
		t.Error("it still waits")
	}
}

func TestClientRefusals(t *testing.T) {
	c, log := newTestClient(t, func(cfg *ClientConfig) { cfg.MaxBytes = 1000 })
	run := func(steps ...Step) error {
		b := New()
		for _, s := range steps {
			b.AddStep(s)
		}
		_, err := c.Run(t.Context(), b)
		return err
	}
	if err := run(); CodeOf(err) != CodeInvalidArgument {
		t.Errorf("no step: %v", err)
	}
	if err := run(Step{Concern: "thing", Key: "k", Command: "Do", Payload: &rkcyv1.UpdatePayload{Value: make([]byte, 1000)}}); CodeOf(err) != CodeInvalidArgument {
		t.Errorf("too large: %v", err)
	}
	if err := run(Step{Concern: "nothing", Key: "k", Command: "Do"}); CodeOf(err) != CodeUnimplemented {
		t.Errorf("unknown Concern: %v", err)
	}
	if err := run(Step{Concern: "thing\xff", Key: "k", Command: "Do"}); CodeOf(err) != CodeInvalidArgument {
		t.Errorf("Concern that is no text: %v", err)
	}
	if len(log.sent) != 0 || c.InFlight() != 0 {
		t.Errorf("%d were sent, %d wait", len(log.sent), c.InFlight())
	}
	log.answer = func(context.Context, *rkcyv1.Visit) error { return Errorf(CodeUnavailable, "brokers away") }
	err := run(visitStep("k").Step)
	if CodeOf(err) != CodeUnavailable || isUnknown(err) || AsError(err).Details[DetailTxnID] == "" {
		t.Errorf("send failed: %v", err)
	}
}

func TestClientAnswersWithErrors(t *testing.T) {
	c, log := newTestClient(t, nil)
	log.answer = func(_ context.Context, v *rkcyv1.Visit) error {
		deliver(t, c, &rkcyv1.Response{TxnId: v.GetTxn().GetId(), Edge: 7, Error: Errorf(CodeFailedPrecondition, "poor").With("a", "b").ToProto()})
		return nil
	}
	b, _ := oneStep()
	_, err := c.Run(t.Context(), b)
	e := AsError(err)
	if CodeOf(err) != CodeFailedPrecondition || e.Message != "poor" || e.Details["a"] != "b" || e.Details[DetailTxnID] == "" || isUnknown(err) {
		t.Errorf("%v", err)
	}
	log.answer = func(_ context.Context, v *rkcyv1.Visit) error {
		deliver(t, c, &rkcyv1.Response{TxnId: v.GetTxn().GetId(), Edge: 7})
		return nil
	}
	b, _ = oneStep()
	if _, err := c.Run(t.Context(), b); CodeOf(err) != CodeInternal {
		t.Errorf("an answer without results: %v", err)
	}
}

func TestClientDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := newTestClient(t, func(cfg *ClientConfig) { cfg.MaxTimeout = time.Minute })
		sentDeadline := func() time.Duration {
			v := log.sent[len(log.sent)-1].GetTxn()
			return time.Duration(v.GetDeadlineMs()-v.GetSubmitTimeMs()) * time.Millisecond
		}
		past, cancel := context.WithTimeout(t.Context(), -time.Second)
		defer cancel()
		b, _ := oneStep()
		if _, err := c.Run(past, b); CodeOf(err) != CodeDeadlineExceeded || isUnknown(err) || len(log.sent) != 0 {
			t.Errorf("deadline passed before: %v, %d sent", err, len(log.sent))
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		b, _ = oneStep()
		if _, err := c.Run(gone, b); CodeOf(err) != CodeCancelled || isUnknown(err) || len(log.sent) != 0 {
			t.Errorf("cancelled before: %v, %d sent", err, len(log.sent))
		}
		// After it was sent, nobody knows.
		soon, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		b, _ = oneStep()
		if _, err := c.Run(soon, b); CodeOf(err) != CodeDeadlineExceeded || !isUnknown(err) || AsError(err).Details[DetailTxnID] == "" {
			t.Errorf("no answer: %v", err)
		}
		if d := sentDeadline(); d != 5*time.Second {
			t.Errorf("the deadline of the context became %v", d)
		}
		stop, cancel := context.WithCancel(t.Context())
		log.answer = func(context.Context, *rkcyv1.Visit) error { cancel(); return nil }
		b, _ = oneStep()
		if _, err := c.Run(stop, b); CodeOf(err) != CodeCancelled || !isUnknown(err) {
			t.Errorf("cancelled while it ran: %v", err)
		}
		log.answer = func(ctx context.Context, _ *rkcyv1.Visit) error { <-ctx.Done(); return ctx.Err() }
		soon, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b, _ = oneStep()
		if _, err := c.Run(soon, b); CodeOf(err) != CodeDeadlineExceeded || !isUnknown(err) {
			t.Errorf("deadline during send: %v", err)
		}
		// Without a deadline the default counts, and the client waits a
		// little longer than the processors work.
		log.answer = func(_ context.Context, v *rkcyv1.Visit) error {
			go func() {
				time.Sleep(31 * time.Second) // of the synctest clock
				deliver(t, c, &rkcyv1.Response{TxnId: v.GetTxn().GetId(), Edge: 7, Error: &rkcyv1.Error{Code: CodeDeadlineExceeded}})
			}()
			return nil
		}
		b, _ = oneStep()
		if _, err := c.Run(t.Context(), b); CodeOf(err) != CodeDeadlineExceeded || isUnknown(err) {
			t.Errorf("answer of a processor: %v", err)
		}
		if d := sentDeadline(); d != 30*time.Second {
			t.Errorf("the default deadline is %v", d)
		}
		log.answer = nil
		far, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		b, _ = oneStep()
		if _, err := c.Run(far, b); !isUnknown(err) {
			t.Error(err)
		}
		if d := sentDeadline(); d != time.Minute {
			t.Errorf("a deadline past the limit became %v", d)
		}
		if c.InFlight() != 0 {
			t.Errorf("%d still wait", c.InFlight())
		}
	})
}

func TestClientLimitAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, log := newTestClient(t, func(cfg *ClientConfig) { cfg.MaxInFlight = 3 })
		errs := make(chan error, 3)
		for range 3 {
			go func() {
				b, _ := oneStep()
				_, err := c.Run(t.Context(), b)
				errs <- err
			}()
		}
		synctest.Wait()
		if c.InFlight() != 3 {
			t.Fatalf("%d in flight", c.InFlight())
		}
		b, _ := oneStep()
		if _, err := c.Run(t.Context(), b); CodeOf(err) != CodeResourceExhausted || len(log.sent) != 3 {
			t.Errorf("one more: %v, %d sent", err, len(log.sent))
		}
		id := log.sent[0].GetTxn().GetId()
		deliver(t, c, &rkcyv1.Response{TxnId: id, Edge: 7, Results: []*rkcyv1.StepResult{{}}})
		if err := <-errs; err != nil {
			t.Error(err)
		}
		c.Close()
		for range 2 {
			if err := <-errs; CodeOf(err) != CodeUnavailable || !isUnknown(err) {
				t.Errorf("waited when the client was closed: %v", err)
			}
		}
		b, _ = oneStep()
		if _, err := c.Run(t.Context(), b); CodeOf(err) != CodeUnavailable || isUnknown(err) || len(log.sent) != 3 {
			t.Errorf("after Close: %v", err)
		}
		c.Close() // again
	})
}

func TestDeliverRefusesNonsense(t *testing.T) {
	c, _ := newTestClient(t, nil)
	if c.Deliver([]byte{0xff}) == nil {
		t.Error("bytes")
	}
	raw, err := proto.Marshal(&rkcyv1.Response{Edge: 7, TxnId: []byte("short")})
	if err != nil {
		t.Fatal(err)
	}
	if c.Deliver(raw) == nil {
		t.Error("short id")
	}
}

func FuzzDeliver(f *testing.F) {
	id := NewID()
	raw, err := proto.Marshal(&rkcyv1.Response{TxnId: id[:], Edge: 7, Results: []*rkcyv1.StepResult{{}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, _ := newTestClient(t, nil)
		_ = c.Deliver(raw)
		r := &rkcyv1.Response{}
		if proto.Unmarshal(raw, r) == nil {
			if e := FromProto(r.GetError()); e != nil {
				_ = e.Error()
				if _, err := proto.Marshal(e.ToProto()); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// Whatever inputs say and results contain, ApplyInputs does not panic.
func FuzzApplyInputs(f *testing.F) {
	f.Add("txn.id", "txn.id", "rkcy.v1.Visit", []byte{})
	f.Add("", "", "rkcy.v1.Visit", []byte{8, 1})
	f.Add("participants", "participants", "rkcy.v1.Visit", []byte{0x2a, 0})
	f.Add("details", "txn.headers", "rkcy.v1.Error", []byte{})
	f.Fuzz(func(t *testing.T, from, to, typ string, value []byte) {
		p := &rkcyv1.Visit{}
		if ApplyInputs(p, []*rkcyv1.Input{{FromType: typ, FromPath: from, ToPath: to}}, []*rkcyv1.StepResult{{Value: value}}) == nil {
			if _, err := proto.Marshal(p); err != nil {
				t.Error(err)
			}
		}
	})
}
