package failpoint

import "testing"

func TestPoints(t *testing.T) {
	defer Reset()
	calls := 0
	Hit(TxnProduced) // nothing is active
	if Armed(TxnProduced) || Off(Renewal) {
		t.Error("something is active by itself")
	}
	Set(TxnProduced, 2, func() { calls++ })
	Disable(DedupeWindow)
	for i, want := range []int{0, 1, 1, 1} {
		if armed := Armed(TxnProduced); armed != (i < 2) {
			t.Errorf("hit %d: armed is %v", i, armed)
		}
		Hit(TxnBeforeCommit)
		Hit(TxnProduced)
		if calls != want {
			t.Errorf("after hit %d: %d calls, want %d", i, calls, want)
		}
	}
	if !Off(DedupeWindow) || Off(Renewal) {
		t.Error("the wrong mechanism is off")
	}
	Reset()
	if Off(DedupeWindow) {
		t.Error("Reset leaves a mechanism off")
	}
}

func BenchmarkHit(b *testing.B) {
	for b.Loop() {
		Hit(TxnProduced)
	}
}
