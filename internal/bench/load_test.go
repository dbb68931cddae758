package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestLoadCountsBetweenWarmUpAndEnd(t *testing.T) {
	var done, first, last atomic.Int64
	m, err := load(t.Context(), 3, 1, 5*time.Millisecond, 20*time.Millisecond, func(end bool) error {
		choose(end, &last, &first).Store(done.Load())
		return nil
	}, func(context.Context, int, *rand.Rand) error {
		done.Add(1)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if m.Ops == 0 || int64(m.Ops) >= done.Load() || m.Seconds <= 0 || m.P50 > m.P99 || m.P99 > m.Max {
		t.Errorf("%+v of %d operations, %d of them in the warm-up", m, done.Load(), first.Load())
	}
	if first.Load() == 0 || last.Load() <= first.Load() {
		t.Errorf("between saw %d and then %d operations", first.Load(), last.Load())
	}
}

func TestLoadEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	var calls atomic.Int64
	_, err := load(t.Context(), 4, 1, time.Hour, time.Hour, nil, func(ctx context.Context, caller int, _ *rand.Rand) error {
		if caller == 2 && calls.Add(1) == 3 {
			return broken
		}
		return ctx.Err()
	})
	if !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
}

func TestLoadWithoutAnOperationIsNoResult(t *testing.T) {
	over := make(chan struct{})
	_, err := load(t.Context(), 1, 1, 0, time.Millisecond, func(last bool) error {
		if last {
			close(over)
		}
		return nil
	}, func(context.Context, int, *rand.Rand) error {
		<-over // longer than the measurement
		return nil
	})
	if !errors.Is(err, errNothingDone) {
		t.Errorf("%v, want %v", err, errNothingDone)
	}
}

func TestLoadIsRepeatable(t *testing.T) {
	draw := func() (out [8][2]int) {
		rnd := rand.New(rand.NewPCG(7, 3))
		for i := range out {
			out[i][0], out[i][1] = pair(rnd, 5)
			if out[i][0] == out[i][1] {
				t.Fatal("a character trades with itself")
			}
		}
		return out
	}
	if one, two := draw(), draw(); one != two {
		t.Errorf("%v and %v", one, two)
	}
}

func TestAllReportsAnError(t *testing.T) {
	broken := errors.New("broken")
	err := all(t.Context(), 1000, 4, func(_ context.Context, i int) error {
		if i == 17 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("%v, want %v", err, broken)
	}
	var n atomic.Int64
	if err := all(t.Context(), 100, 4, func(context.Context, int) error { n.Add(1); return nil }); err != nil || n.Load() != 100 {
		t.Errorf("%d of 100 calls, %v", n.Load(), err)
	}
}

func TestOptionsReportEveryFault(t *testing.T) {
	_, err := parseOptions([]string{"-workloads", "trade,nope", "-brokers", "rabbit", "-in-flight", "1,x", "-out", t.TempDir()})
	for _, want := range []string{`"nope"`, `"rabbit"`, `"x"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	o, err := parseOptions([]string{"-quick", "-out", t.TempDir()})
	if err != nil || o.Duration != time.Second || len(o.Workloads) != len(knownWorkloads()) || len(o.Brokers) != 2 {
		t.Errorf("%+v, %v", o, err)
	}
}
