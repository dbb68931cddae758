package concern

import (
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// What waits behind a hold is bounded, and what leaves makes room.
func TestParkedIsBounded(t *testing.T) {
	x := newTable(t)
	x.engines["alpha"].engine.cfg.parkedBytes = 1
	holder := x.send(time.Hour, "alpha/k0 Append", "beta/k0 Append")
	x.work("alpha")
	first := x.send(time.Hour, "alpha/k0 Append")
	second := x.send(time.Hour, "alpha/k0 Append")
	x.work("alpha")
	wantCode(t, second, txn.CodeResourceExhausted)
	if first.answers != 0 || x.part("alpha").parkedBytes == 0 {
		t.Fatalf("the first did not park: %v", first.response)
	}
	x.rest()
	wantCode(t, holder, 0)
	wantCode(t, first, 0)
	if n := x.part("alpha").parkedBytes; n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// A visit that comes to a partition which is not its instance's would give the
// instance a second owner.
func TestMisplacedVisitIsRefused(t *testing.T) {
	x := newTable(t)
	s := x.send(time.Hour, "alpha/k0 Append")
	v := x.lastVisit("alpha")
	x.partitions = 64 // its home is elsewhere now
	p := x.part("alpha")
	if _, home, _ := x.Route("alpha", "k0"); home == p.tp.Partition {
		t.Skip("k0 happens to be at home here")
	}
	if x.engines["alpha"].engine.checkPlace(p, v) == nil {
		t.Fatal("accepted")
	}
	x.work("alpha")
	wantCode(t, s, txn.CodeInternal)
	if n := len(x.read(stream.TopicPartition{Topic: "error.alpha"}, 0)); n != 1 {
		t.Errorf("%d records in the error topic", n)
	}
}
