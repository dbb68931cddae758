package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// operation is one unit of work. Callers are numbered from 0; rnd is the
// caller's own. It reports whether the operation did what it was asked, or was
// refused by the rules of the game, which counts as done, too.
type operation func(ctx context.Context, caller int, rnd *rand.Rand) error

// measured is what a load saw.
type measured struct {
	Ops     int           `json:"ops"`
	Seconds float64       `json:"seconds"`
	Rate    float64       `json:"per_second"`
	P50     time.Duration `json:"p50_ns"`
	P99     time.Duration `json:"p99_ns"`
	Max     time.Duration `json:"max_ns"`

	all int // operations, with those of the warm-up
}

// errNothingDone says that the time was not enough for a single operation.
var errNothingDone = errors.New("not one operation was done")

// load keeps inFlight callers busy with op for a duration (closed loop), after a
// warm-up whose operations do not count. between is called when the warm-up
// ends and when the time is up, while the callers go on. The first error ends
// it: a benchmark in which something fails has no result.
func load(ctx context.Context, inFlight int, seed uint64, warm, d time.Duration, between func(last bool) error, op operation) (measured, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	type sample struct{ at, took time.Duration }
	samples := make([][]sample, inFlight)
	began := time.Now()
	end := make(chan struct{})
	for caller := range inFlight {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(caller))) //nolint:gosec // repeatable on purpose
			for {
				select {
				case <-end:
					return
				case <-ctx.Done():
					return
				default:
				}
				t := time.Now()
				if err := op(ctx, caller, rnd); err != nil {
					cancel(err)
					return
				}
				now := time.Now()
				samples[caller] = append(samples[caller], sample{now.Sub(began), now.Sub(t)})
			}
		})
	}
	var err error
	from, to := time.Duration(0), time.Duration(0)
	sleep(ctx, warm)
	if between != nil {
		err = between(false)
	}
	from = time.Since(began)
	if err == nil {
		sleep(ctx, d)
		to = time.Since(began)
		if between != nil {
			err = between(true)
		}
	}
	close(end)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = errors.Join(err, cause)
	}
	if err != nil {
		return measured{}, err
	}
	var took []time.Duration
	total := 0
	for _, s := range samples {
		total += len(s)
		for _, one := range s {
			if one.at >= from && one.at < to {
				took = append(took, one.took)
			}
		}
	}
	m, err := summary(took, to-from)
	m.all = total
	return m, err
}

func summary(took []time.Duration, d time.Duration) (measured, error) {
	if len(took) == 0 {
		return measured{}, errNothingDone
	}
	slices.Sort(took)
	m := measured{Ops: len(took), Seconds: d.Seconds(), P50: took[len(took)/2], P99: took[len(took)*99/100], Max: took[len(took)-1]}
	m.Rate = float64(m.Ops) / m.Seconds
	return m, nil
}

// loadUntil does the same without a warm-up until stop is closed. It is no error
// if nothing was done until then.
func loadUntil(ctx context.Context, inFlight int, stop <-chan struct{}, op operation) (measured, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	took := make([][]time.Duration, inFlight)
	began := time.Now()
	for caller := range inFlight {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(caller))) //nolint:gosec // repeatable on purpose
			for ctx.Err() == nil {
				select {
				case <-stop:
					return
				default:
				}
				t := time.Now()
				if err := op(ctx, caller, rnd); err != nil {
					cancel(err)
					return
				}
				took[caller] = append(took[caller], time.Since(t))
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return measured{}, err
	}
	m, err := summary(slices.Concat(took...), time.Since(began))
	if errors.Is(err, errNothingDone) {
		err = nil
	}
	return m, err
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// all calls op for 0 to n-1, inFlight at a time.
func all(ctx context.Context, n, inFlight int, op func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, inFlight) {
		wg.Go(func() {
			for i := range next {
				if err := op(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// pair draws two different numbers below n.
func pair(rnd *rand.Rand, n int) (int, int) {
	a, b := rnd.IntN(n), rnd.IntN(n-1)
	if b >= a {
		b++
	}
	return a, b
}
