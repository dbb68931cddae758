package txn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func TestErrorText(t *testing.T) {
	err := Errorf(CodeNotFound, "player %q does not exist", "p1").With(DetailKey, "p1").With(DetailConcern, "player")
	if got, want := err.Error(), `NOT_FOUND: player "p1" does not exist (concern=player key=p1)`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := Errorf(CodeAborted, "no").Error(); got != "ABORTED: no" {
		t.Error(got)
	}
}

func TestErrorWithCopies(t *testing.T) {
	one := Errorf(CodeNotFound, "no").With("a", "1")
	two := one.With("a", "2")
	if one.Details["a"] != "1" || two.Details["a"] != "2" {
		t.Errorf("%v %v", one, two)
	}
}

func TestErrorChain(t *testing.T) {
	inner := Errorf(CodeUnavailable, "reading: %w", io.ErrUnexpectedEOF).With("a", "b")
	outer := fmt.Errorf("load: %w", inner)
	if !errors.Is(outer, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	if CodeOf(outer) != CodeUnavailable || AsError(outer) != inner {
		t.Error("the Error in the chain is not found")
	}
	if CodeOf(io.EOF) != CodeInternal || AsError(io.EOF).Code != CodeInternal || !errors.Is(AsError(io.EOF), io.EOF) {
		t.Error("a foreign error is internal, and kept")
	}
	if CodeOf(nil) != 0 || AsError(nil) != nil || FromProto(nil) != nil {
		t.Error("nil is no error")
	}
}

func TestErrorTravels(t *testing.T) {
	for c := range rkcyv1.Code_name {
		e := Errorf(Code(c), "message").With("a", "b")
		raw, err := proto.Marshal(e.ToProto())
		if err != nil {
			t.Fatal(err)
		}
		p := &rkcyv1.Error{}
		if err := proto.Unmarshal(raw, p); err != nil {
			t.Fatal(err)
		}
		if got := FromProto(p); got.Code != e.Code || got.Message != e.Message || !maps.Equal(got.Details, e.Details) {
			t.Errorf("%v became %v", e, got)
		}
	}
}

// Whatever a handler puts into an error, it can be written and stays small.
func TestErrorTravelsWhateverIsInIt(t *testing.T) {
	e := Errorf(CodeInternal, "%s", "\xff"+strings.Repeat("é", 1<<20))
	for i := range 1000 {
		e = e.With(fmt.Sprint("key\xff", i), strings.Repeat("\xc3", 1<<12))
	}
	raw, err := proto.Marshal(e.ToProto())
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > 1<<18 {
		t.Errorf("an error of %d bytes", len(raw))
	}
	short := Errorf(CodeInternal, "é€").With("k", "v").ToProto()
	if short.GetMessage() != "é€" || short.GetDetails()["k"] != "v" {
		t.Errorf("what is short was changed: %v", short)
	}
	if got := cut("aé", 2); got != "a…" {
		t.Errorf("cut within a character: %q", got)
	}
}

func TestCodeNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for c := range rkcyv1.Code_name {
		name := CodeName(Code(c))
		if seen[name] || strings.HasPrefix(name, "CODE_") {
			t.Errorf("code %d is called %s", c, name)
		}
		seen[name] = true
	}
}

func TestIDs(t *testing.T) {
	var ids []ID
	for range 1000 {
		ids = append(ids, NewID())
	}
	if !slices.IsSortedFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) }) {
		t.Error("ids of one process do not sort by time")
	}
	for _, id := range ids[:10] {
		ms := int64(0)
		for _, b := range id[:6] {
			ms = ms<<8 | int64(b)
		}
		if d := time.Since(time.UnixMilli(ms)); d < -time.Minute || d > time.Hour {
			t.Errorf("%v was made %v ago", id, d)
		}
		back, err := ParseID(id.String())
		if err != nil || back != id {
			t.Errorf("%v became %v: %v", id, back, err)
		}
		back, err = IDFromBytes(id[:])
		if err != nil || back != id {
			t.Errorf("%v became %v: %v", id, back, err)
		}
	}
	if _, err := ParseID("no id"); CodeOf(err) != CodeInvalidArgument {
		t.Error(err)
	}
	for _, n := range []int{0, 15, 17} {
		if _, err := IDFromBytes(make([]byte, n)); CodeOf(err) != CodeInvalidArgument {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if one, other := NewKey(), NewKey(); CheckKey(one) != nil || one == other {
		t.Error("keys")
	}
}
