package txn

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestIdempotencyKeysAreChecked(t *testing.T) {
	for name, key := range map[string]string{
		"empty": "", "too long": strings.Repeat("k", MaxIdempotencyKeyBytes+1), "not UTF-8": "\xff",
	} {
		if _, err := WithIdempotency(t.Context(), key, nil); CodeOf(err) != CodeInvalidArgument {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// homeLog keeps what is sent, and to where.
type homeLog struct {
	keys   []string
	visits []*rkcyv1.Visit
}

func (l *homeLog) Send(_ context.Context, _ string, _ int32, key, value []byte) error {
	r := &rkcyv1.ProcessRecord{}
	if err := proto.Unmarshal(value, r); err != nil {
		return err
	}
	l.keys, l.visits = append(l.keys, string(key)), append(l.visits, r.GetVisit())
	return nil
}

func TestClaims(t *testing.T) {
	log := &homeLog{}
	c, _ := newTestClient(t, func(cfg *ClientConfig) { cfg.Sender = log })
	submit := func(ctx context.Context, key string) {
		t.Helper()
		b := New()
		Add(b, thing("x", key))
		if _, err := c.Submit(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	ctx, err := WithIdempotency(t.Context(), "K", nil)
	if err != nil {
		t.Fatal(err)
	}
	submit(ctx, "k1")
	submit(ctx, "k2")
	repeat, err := WithIdempotency(t.Context(), "K", nil)
	if err != nil {
		t.Fatal(err)
	}
	submit(repeat, "k1")
	given, err := WithIdempotency(t.Context(), "K", func() []byte { return []byte("print") })
	if err != nil {
		t.Fatal(err)
	}
	submit(given, "k9")
	submit(t.Context(), "k1")

	claim := func(i int) *rkcyv1.Idempotency { return log.visits[i].GetTxn().GetIdempotency() }
	if log.keys[0] != HomeKey("K") || !log.visits[0].GetClaim() || claim(0).GetKey() != "K" || claim(0).GetHome().GetTopic() != "things" {
		t.Errorf("first: %q %v", log.keys[0], log.visits[0])
	}
	if err := CheckVisit(log.visits[0]); err != nil {
		t.Error(err)
	}
	if claim(1).GetKey() != "K#2" {
		t.Errorf("the second transaction of a request has key %q", claim(1).GetKey())
	}
	if claim(2).GetKey() != "K" || !bytes.Equal(claim(2).GetFingerprint(), claim(0).GetFingerprint()) {
		t.Error("a repeat differs from the first")
	}
	if bytes.Equal(claim(0).GetFingerprint(), claim(1).GetFingerprint()) {
		t.Error("other steps have the same fingerprint")
	}
	if string(claim(3).GetFingerprint()) != "print" {
		t.Error("the fingerprint that was given is not used")
	}
	if log.visits[4].GetClaim() || claim(4) != nil || log.keys[4] != "k1" {
		t.Error("a transaction without a key claims one")
	}
}

func TestRepeatHasTheFirstId(t *testing.T) {
	first := NewID()
	c, log := newTestClient(t, nil)
	log.answer = func(_ context.Context, v *rkcyv1.Visit) error {
		deliver(t, c, &rkcyv1.Response{TxnId: v.GetTxn().GetId(), Edge: 7, Attempts: 1, OriginalTxnId: first[:], Results: []*rkcyv1.StepResult{{}}})
		return nil
	}
	b := New()
	Add(b, thing("x", "k"))
	r, err := c.Run(t.Context(), b)
	if err != nil || r.ID != first || !r.Repeated {
		t.Fatalf("got %v, %v", r, err)
	}
}
