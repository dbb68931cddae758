package edge

import (
	"bytes"
	"context"
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestFingerprintIsOfTheRequestAsItCame(t *testing.T) {
	sent := &rkcyv1.Visit{Attempt: 1}
	take := func(method string, m proto.Message) []byte {
		t.Helper()
		seen := &seenRequest{method: method, decode: func(v any) error {
			proto.Merge(v.(proto.Message), m)
			return nil
		}}
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(IdempotencyKey, "k"))
		if _, err := withIdempotency(ctx, seen); err != nil {
			t.Fatal(err)
		}
		got := &rkcyv1.Visit{}
		if err := seen.into(got); err != nil {
			t.Fatal(err)
		}
		got.Visit = 99 // what a handler does to it
		return seen.fingerprint
	}
	first := take("/a", sent)
	if !bytes.Equal(first, take("/a", sent)) {
		t.Error("a repeat has another fingerprint")
	}
	if bytes.Equal(first, take("/b", sent)) {
		t.Error("another method has the same fingerprint")
	}
	if bytes.Equal(first, take("/a", &rkcyv1.Visit{Attempt: 2})) {
		t.Error("another request has the same fingerprint")
	}
}

func TestIdempotencyKeysOfRequests(t *testing.T) {
	for name, c := range map[string]struct {
		keys []string
		want txn.Code
	}{
		"none": {nil, 0}, "one": {[]string{"k"}, 0}, "empty": {[]string{""}, txn.CodeInvalidArgument},
		"two": {[]string{"k", "l"}, txn.CodeInvalidArgument}, "long": {[]string{string(make([]byte, 257))}, txn.CodeInvalidArgument},
	} {
		ctx := metadata.NewIncomingContext(context.Background(), metadata.MD{IdempotencyKey: c.keys})
		if _, err := withIdempotency(ctx, &seenRequest{}); txn.CodeOf(err) != c.want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
