package changewire_test

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/changewire"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func change() *rkcyv1.Change {
	return &rkcyv1.Change{
		Key: "a key", After: &rkcyv1.Instance{Value: []byte("value"), Version: 300}, TxnId: make([]byte, 16),
		Attempt: 2, Visit: 3, EffectiveTimeMs: 1_700_000_000_000,
	}
}

// What the fast way makes of any bytes is what protobuf makes of them.
func FuzzUnmarshal(f *testing.F) {
	full := marshal(f, change())
	f.Add(full)
	f.Add(full[:len(full)-1])
	f.Add(append(full[:len(full):len(full)], full...)) // every field twice
	f.Add(marshal(f, &rkcyv1.Change{Key: "k", After: &rkcyv1.Instance{}, EffectiveTimeMs: -1}))
	f.Add(marshal(f, &rkcyv1.Change{After: &rkcyv1.Instance{Related: []*rkcyv1.RelatedInstance{{Key: "x"}}}}))
	f.Add(protowire.AppendVarint(protowire.AppendTag(nil, 4, protowire.VarintType), 1<<40))
	f.Add(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "\xff"))
	f.Add(protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "unknown"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		want := &rkcyv1.Change{}
		wantErr := proto.Unmarshal(raw, want)
		got, err := changewire.Unmarshal(raw)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("error %v, protobuf says %v", err, wantErr)
		}
		if err == nil && !proto.Equal(got, want) {
			t.Fatalf("got %v, protobuf makes %v", got, want)
		}
	})
}

// Bytes are shared, but nobody can grow into what follows them.
func TestUnmarshalShares(t *testing.T) {
	raw := marshal(t, change())
	c, err := changewire.Unmarshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	if v := c.GetAfter().GetValue(); cap(v) != len(v) {
		t.Errorf("the value has %d bytes of others behind it", cap(v)-len(v))
	}
	if got := testing.AllocsPerRun(100, func() { _, _ = changewire.Unmarshal(raw) }); got > 3 {
		t.Errorf("%.0f allocations; the change, its instance and its key need 3", got)
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	raw := marshal(b, change())
	b.Run("fast", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = changewire.Unmarshal(raw)
		}
	})
	b.Run("protobuf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = proto.Unmarshal(raw, &rkcyv1.Change{})
		}
	})
}
