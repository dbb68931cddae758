package chaos

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
)

// brokers kills each of three brokers in turn, so that controller and
// coordinators move, freezes one, and takes two away at once, so that there are
// too few replicas in sync.
func brokers(t *testing.T) {
	k, err := devbroker.StartKafka(t.Context(), devbroker.KafkaConfig{Brokers: 3, HeapMB: 320})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	a := newArena(t, k.Bootstrap(), devpostgres.Test(t).NewDatabase(t))
	edge := a.launch("edge", edger)
	a.launch("processor-1", both).await()
	a.launch("processor-2", both).await()
	l := newLoad(t, *seed, edge)
	l.create()
	l.start()
	l.succeed(100)
	report := func(what string, began time.Time) {
		took := l.succeed(1)
		l.succeed(40)
		t.Logf("%s: operations succeed again %v after it, the first after %v more", what, time.Since(began).Round(10*time.Millisecond), took.Round(10*time.Millisecond))
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		began := time.Now()
		must(k.KillBroker(i))
		report(fmt.Sprintf("broker %d killed", i+1), began)
		began = time.Now()
		must(k.StartBroker(t.Context(), i))
		report(fmt.Sprintf("broker %d started again", i+1), began)
	}
	began := time.Now()
	must(k.PauseBroker(1))
	report("broker 2 frozen", began)
	must(k.KillBroker(2))
	at := l.ok.Load()
	for range 30 { // until requests under way have ended
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("two of three away: %d operations succeeded in 3 s", l.ok.Load()-at)
	began = time.Now()
	must(errors.Join(k.ResumeBroker(1), k.StartBroker(t.Context(), 2)))
	report("all are back", began)
	l.stop()
	l.verify(a, 300, edge)
}
