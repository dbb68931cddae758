package chaos

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/audit"
	"github.com/rocketcycle/rocketcycle/internal/isolation"
	"github.com/rocketcycle/rocketcycle/internal/isolation/workload"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/edge"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// storm lets a processor join or leave every 2 s, in order or killed.
func storm(t *testing.T) {
	a := shared(t)
	edge := a.launch("edge", edger)
	a.launch("storage", storer)
	a.launch("steady", processor).await()
	l := newLoad(t, *seed, edge)
	l.create()
	l.start()
	rng := source(6)
	var others []*process
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	changes := 0
	during(t, 2**duration, func() {
		<-tick.C
		changes++
		if n := len(others); n > 0 && (n == 2 || rng.IntN(2) == 0) {
			p := others[0]
			others = others[1:]
			if rng.IntN(3) == 0 {
				p.kill()
			} else {
				p.await().stop()
			}
			return
		}
		others = append(others, a.launch(fmt.Sprintf("member-%d", changes), processor))
	})
	recovery := l.succeed(40)
	t.Logf("%d members came or went; after that operations succeed within %v", changes, recovery.Round(10*time.Millisecond))
	l.stop()
	l.verify(a, 10*changes, edge)
}

// poison: handlers that panic, results that are too large, and records that are
// no messages.
func poison(t *testing.T) {
	a := shared(t)
	edge := a.launch("edge", edger)
	a.launch("storage", storer)
	a.launch("processor", processor).await()
	l := newLoad(t, *seed, edge)
	l.create()
	l.start()
	l.succeed(30)
	names := a.site.platform().Names()
	producer, err := stream.NewProducer(a.stream())
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	const each = 5
	garbage := 0
	for i := range each {
		for _, c := range concerns {
			for _, f := range []struct {
				command string
				want    codes.Code
			}{{commandPanic, codes.Internal}, {commandHuge, codes.ResourceExhausted}} {
				// Behind another step, so that something is prepared by then.
				_, err := call(t.Context(), edge.connect(), []step{
					{Concern: counter, Key: key(i), Command: commandLook}, {Concern: c, Key: key(i), Command: f.command},
				})
				if status.Code(err) != f.want {
					t.Errorf("%s: %v, want %v", f.command, err, f.want)
				}
			}
			for p := range int32(partitions) {
				garbage++
				if err := producer.Send(t.Context(), names.ProcessTopic(c), p, []byte("k"), []byte(fmt.Sprintf("\xff no message %d", i))); err != nil {
					t.Fatal(err)
				}
			}
		}
		l.succeed(20)
	}
	reasons := map[string]int{}
	eventually(t, "poison is in the error topics", func() error {
		clear(reasons)
		n := 0
		for _, c := range concerns {
			if err := audit.ReadAll(t.Context(), a.stream(), names.ErrorTopic(c), 1, func(r stream.Record) error {
				q := &rkcyv1.Quarantined{}
				n++
				if err := proto.Unmarshal(r.Value, q); err != nil {
					return err
				}
				if q.GetReason() == "" || q.GetTopic() != names.ProcessTopic(c) {
					return fmt.Errorf("a quarantined record of %q without a reason: %q", q.GetTopic(), q.GetReason())
				}
				reasons[q.GetReason()]++
				return nil
			}); err != nil {
				return err
			}
		}
		if want := garbage + each*len(concerns); n < want {
			return fmt.Errorf("%d records, want %d: %v", n, want, reasons)
		}
		return nil
	})
	t.Logf("%d undecodable records, %d panics, %d oversized results", garbage, each*len(concerns), each*len(concerns))
	l.succeed(30)
	l.stop()
	l.verify(a, 100, edge)
}

// blocked: a handler never returns. Its worker stands still and says so; others
// go on; a new process goes on where the deadline has passed.
func blocked(t *testing.T) {
	a := shared(t)
	edge := a.launch("edge", edger)
	a.launch("storage", storer)
	a.launch("processor-1", processor).await()
	a.launch("processor-2", processor).await()
	l := newLoad(t, *seed, edge)
	l.create()
	l.start()
	l.succeed(30)
	var stuck *process
	_, err := call(t.Context(), edge.connect(), []step{{Concern: counter, Key: key(0), Command: commandBlock}})
	if code := status.Code(err); code != codes.DeadlineExceeded {
		t.Errorf("a handler that does not return: %v, want %v", err, codes.DeadlineExceeded)
	}
	eventually(t, "somebody is told", func() error {
		for _, p := range a.processes {
			if p.says("a handler does not come back") && p.says("command=Block") {
				stuck = p
				return nil
			}
		}
		return fmt.Errorf("nothing is said")
	})
	l.succeed(10) // on partitions of the other one
	began := time.Now()
	stuck.kill()
	a.launch("processor-3", processor).await()
	recovery := l.succeed(30)
	t.Logf("after the process was killed operations succeed within %v; all partitions are served after %v", recovery.Round(10*time.Millisecond), time.Since(began).Round(10*time.Millisecond))
	l.stop()
	l.verify(a, 70, edge)
}

// duplicates sends every operation several times with an idempotency key: at the
// same time, through two edges, and again after processes were killed.
func duplicates(t *testing.T) {
	a := shared(t)
	edges := []*process{a.launch("edge-1", edger), a.launch("edge-2", edger)}
	a.launch("storage", storer)
	victim := a.launch("processor-1", processor).await()
	a.launch("processor-2", processor).await()
	l := newLoad(t, *seed, edges...)
	l.create()
	conns := l.edges
	var wg sync.WaitGroup
	var repeats, conflicts atomic.Int64
	run := make(chan struct{})
	time.AfterFunc(*duration, func() { close(run) })
	for i := range 8 {
		wg.Go(func() {
			rng := source(uint64(200 + i))
			for {
				select {
				case <-run:
					return
				default:
				}
				o := l.begin(l.choose(rng))
				pending := l.recorder.Begin(i, recorded(o)...)
				ctx := metadata.AppendToOutgoingContext(context.Background(), edge.IdempotencyKey, rand.Text())
				type result struct {
					answer [][]string
					err    error
				}
				results := make(chan result, 3)
				send := func(n int) {
					c := conns[n%2]
					answer, err := call(ctx, c, o.steps)
					results <- result{answer, err}
				}
				for n := range 3 {
					go send(n)
				}
				var first *result
				for left, tries := 3, 0; left > 0; left-- {
					r := <-results
					outcome, _ := audit.Outcome(r.err)
					switch {
					case outcome == isolation.Unknown && tries < 6:
						tries++
						left++
						go send(tries) // the key makes that safe
					case outcome == isolation.Unknown:
					case first == nil:
						first = &r
					default:
						repeats.Add(1)
						if fmt.Sprint(first.answer, status.Code(first.err)) != fmt.Sprint(r.answer, status.Code(r.err)) {
							// An outcome without effect that may be tried again is
							// not kept, so the next one may do better.
							if status.Code(first.err) == codes.FailedPrecondition || first.err == nil && r.err != nil {
								conflicts.Add(1)
								t.Errorf("operation %d was answered with %v, %v and with %v, %v", o.number, first.answer, first.err, r.answer, r.err)
							}
							if first.err != nil && r.err == nil {
								first = &r
							}
						}
					}
				}
				var answer [][]string
				err := status.Error(codes.Unavailable, "no answer")
				if first != nil {
					answer, err = first.answer, first.err
				}
				if err := l.finish(o, pending, answer, err); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	<-time.After(*duration / 3)
	victim.kill()
	a.launch("processor-1", processor).await()
	wg.Wait()
	t.Logf("%d answers to repeated requests, %d of them not the same", repeats.Load(), conflicts.Load())
	l.verify(a, 40, edges...)
}

// overload sends far more than the edge takes, and all of it to one key.
func overload(t *testing.T) {
	a := shared(t)
	const most = 24
	edge := a.launch("edge", edger, func(s *site) { s.MaxInFlight = most })
	a.launch("storage", storer)
	a.launch("processor", processor).await()
	l := newLoad(t, *seed, edge)
	l.create()
	c := edge.connect()
	var mu sync.Mutex
	var took []time.Duration
	shed, other := 0, map[codes.Code]int{}
	ctx, cancel := context.WithTimeout(t.Context(), *duration)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 3 * most {
		wg.Go(func() {
			rng := source(uint64(300 + i))
			for ctx.Err() == nil {
				steps := []step{{Concern: counter, Key: key(0), Command: commandEnter, Entry: "1"}}
				if rng.IntN(4) == 0 {
					steps = l.choose(rng)
				}
				began := time.Now()
				o, err := l.do(i, c, steps)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				switch code := status.Code(o.err); code {
				case codes.OK, codes.FailedPrecondition:
					took = append(took, time.Since(began))
				case codes.ResourceExhausted:
					shed++
				default:
					other[code]++
				}
				mu.Unlock()
				if o.err != nil {
					<-time.After(10 * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	slices.SortFunc(took, cmp.Compare)
	if len(took) == 0 || shed == 0 {
		t.Fatalf("%d accepted, %d shed, others %v", len(took), shed, other)
	}
	l.start()
	recovery := l.succeed(1)
	l.succeed(30)
	t.Logf("%d accepted (p50 %v, p99 %v), %d shed with RESOURCE_EXHAUSTED, other codes %v; after the end the first operation succeeds within %v", len(took),
		took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond), shed, other, recovery.Round(10*time.Millisecond))
	l.stop()
	l.verify(a, 60, edge)
}

// clocks lets the clock of processors jump by an hour, in either direction, under
// the workload of package isolation.
func clocks(t *testing.T) {
	var offset atomic.Int64
	tick := time.NewTicker(1500 * time.Millisecond)
	defer tick.Stop()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
				offset.Store(int64([]time.Duration{-time.Hour, 0, time.Hour, 0}[i%4]))
			}
		}
	}()
	h, stats, err := workload.Run(t.Context(), workload.Config{
		Stream: stream.Config{Bootstrap: broker(t)}, Prefix: streamtest.Name("clocks"), Seed: *seed, Duration: *duration + 5*time.Second,
		Session: session, Disturb: 4 * time.Second,
		Configure: func(c concern.Config) concern.Config {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
			return c
		},
	})
	if err != nil {
		t.Error(err)
	}
	report, err := isolation.Check(h)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Valid() {
		t.Error(report)
	}
	if report.OK < 100 {
		t.Errorf("%d operations succeeded", report.OK)
	}
	t.Logf("MEASURED clocks: %d ok, %d failed, %d unknown (%d of them seen); %d anomalies; %+v", report.OK, report.Failed, report.Unknown, report.Observed, len(report.Anomalies), stats)
}
