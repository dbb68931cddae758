package postgres

import (
	"testing"
	"time"
)

func TestBreaker(t *testing.T) {
	now := time.Unix(0, 0)
	b := breaker{pause: time.Second, now: func() time.Time { return now }}
	enter := func(want bool) {
		t.Helper()
		if got := b.enter(); got != want {
			t.Fatalf("enter: %v, want %v", got, want)
		}
	}
	enter(true)
	enter(true) // closed: any number at once
	b.leave(answered)
	b.leave(silent)
	enter(false)
	now = now.Add(999 * time.Millisecond)
	enter(false)
	now = now.Add(time.Millisecond)
	enter(true)
	enter(false) // one probe only
	b.leave(unknown)
	enter(true) // the probe was given up; the next may try
	b.leave(silent)
	enter(false)
	now = now.Add(time.Second)
	enter(true)
	b.leave(answered)
	enter(true)
	enter(true)
	b.leave(unknown)
	enter(true)
}
