package chaos

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/failpoint"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

func scenarios() []scenario {
	return []scenario{
		{"kill", true, killRoles},
		{"failpoints", true, killAtPoints},
		{"zombie", true, zombie},
	}
}

// killRoles kills one process after the other, of every role, and starts it
// again.
func killRoles(t *testing.T) {
	a := shared(t)
	roles := []struct {
		name  string
		roles node.Roles
	}{{"processor-1", processor}, {"processor-2", processor}, {"storage", storer}, {"edge-1", edger}, {"edge-2", edger}}
	running := make([]*process, len(roles))
	for i, r := range roles {
		running[i] = a.launch(r.name, r.roles)
	}
	for _, p := range running {
		p.await()
	}
	l := newLoad(t, *seed, running[3], running[4])
	l.create()
	l.start()
	rng := source(1)
	kills := 0
	var worst time.Duration
	during(t, *duration, func() {
		l.succeed(1 + rng.IntN(60))
		i := kills % len(roles)
		running[i].kill()
		kills++
		running[i] = a.launch(roles[i].name, roles[i].roles)
		if i >= 3 {
			l.replace(i-3, running[i])
		}
		worst = max(worst, l.succeed(5))
	})
	l.stop()
	for _, p := range running {
		p.await()
	}
	t.Logf("%d kills; at most %v until operations succeeded again", kills, worst)
	l.verify(a, 20*kills, running[3], running[4])
}

// killAtPoints lets a process kill itself at every failpoint, soon and later.
func killAtPoints(t *testing.T) {
	a := shared(t)
	steady := a.launch("processor", processor)
	edge := a.launch("edge", edger)
	writer := a.launch("storage", storer)
	steady.await()
	writer.await()
	l := newLoad(t, *seed, edge)
	l.create()
	l.start()
	rng := source(2)
	for _, point := range failpoint.Points() {
		database := point == failpoint.DatabaseBeforeCommit || point == failpoint.DatabaseAfterCommit
		victim := a.launch(string(point), both, func(s *site) {
			s.KillAt = map[failpoint.Name]int{point: 5 + rng.IntN(20)}
		})
		if database {
			// All of the work is the victim's.
			writer.kill()
		}
		select {
		case <-victim.done:
		case <-time.After(patience):
			t.Fatalf("nothing came to %s", point)
		}
		if !victim.says("chaos: killed at " + string(point)) {
			t.Fatalf("%s: %v", point, victim.cmd.ProcessState)
		}
		if state, _ := victim.cmd.ProcessState.Sys().(syscall.WaitStatus); state.Signal() != syscall.SIGKILL {
			t.Fatalf("%s: %v", point, victim.cmd.ProcessState)
		}
		if database {
			writer = a.launch("storage", storer)
		}
		t.Logf("%s: operations succeed again after %v", point, l.succeed(20).Round(10*time.Millisecond))
	}
	l.stop()
	l.verify(a, 100, edge)
}

// zombie freezes the owner of partitions beyond its session, so that another
// takes over, and lets it go on.
func zombie(t *testing.T) {
	a := shared(t)
	first := a.launch("first", both)
	edge := a.launch("edge", edger)
	first.await()
	second := a.launch("second", both)
	second.await()
	l := newLoad(t, *seed, edge)
	l.create()
	l.start()
	l.succeed(50)
	for i, frozen := range []*process{first, second, first} {
		frozen.signal(syscall.SIGSTOP)
		took := l.succeed(60) // the other one has all partitions
		frozen.signal(syscall.SIGCONT)
		l.succeed(60)
		t.Logf("freeze %d: operations succeed again after %v", i, took.Round(10*time.Millisecond))
		eventually(t, "the frozen one finds out", func() error {
			if !frozen.says("partitions revoked") {
				return fmt.Errorf("nothing was revoked")
			}
			return nil
		})
	}
	l.stop()
	l.verify(a, 250, edge)
}
