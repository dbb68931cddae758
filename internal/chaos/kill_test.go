package chaos

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketcycle/rocketcycle/internal/failpoint"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

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
	for end := time.Now().Add(*duration); kills < len(roles) || time.Now().Before(end); {
		l.succeed(1 + rng.IntN(20))
		i := kills % len(roles)
		running[i].kill()
		kills++
		running[i] = a.launch(roles[i].name, roles[i].roles)
		if i >= 3 {
			l.replace(i-3, running[i])
		}
		worst = max(worst, l.succeed(5))
	}
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
// takes over, and lets it go on: at points where it is in the middle of a
// transaction of Kafka or PostgreSQL.
func zombie(t *testing.T) {
	a := shared(t)
	steady := a.launch("steady", both)
	edge := a.launch("edge", edger)
	steady.await()
	l := newLoad(t, *seed, edge)
	l.create()
	l.start()
	rng := source(3)
	for _, point := range failpoint.Points() {
		victim := a.launch(string(point), both, func(s *site) {
			s.FreezeAt = map[failpoint.Name]int{point: 5 + rng.IntN(20)}
		})
		eventually(t, "it freezes", func() error {
			if !victim.says("chaos: frozen at " + string(point)) {
				return fmt.Errorf("nothing came to %s", point)
			}
			return nil
		})
		began := time.Now()
		// Somebody else serves its partitions, and writes its rows, before it
		// wakes up.
		eventually(t, "others take over", func() error {
			if n := members(steady); n != len(concerns)*partitions {
				return fmt.Errorf("the other one has %d partitions", n)
			}
			return nil
		})
		l.succeed(60)
		logs := time.Since(began)
		rows(a, 15)
		t.Logf("%s: frozen; operations go on after %v, rows after %v", point, logs.Round(10*time.Millisecond), time.Since(began).Round(10*time.Millisecond))
		before := strings.Count(victim.log(64<<20), "partitions revoked")
		victim.signal(syscall.SIGCONT)
		eventually(t, "the frozen one finds out", func() error {
			if strings.Count(victim.log(64<<20), "partitions revoked") == before {
				return fmt.Errorf("nothing was revoked")
			}
			return nil
		})
		l.succeed(20)
		victim.kill()
	}
	l.stop()
	l.verify(a, 300, edge)
}

// members returns how many partitions a process said last that it has.
func members(p *process) int {
	n := 0
	for line := range strings.Lines(p.log(64 << 20)) {
		if _, rest, ok := strings.Cut(line, `msg="partitions assigned" partitions=`); ok {
			n, _ = strconv.Atoi(strings.TrimSpace(rest))
		}
		if strings.Contains(line, `msg="partitions revoked"`) {
			n = 0
		}
	}
	return n
}

// rows waits until the database has n more changes of every Concern.
func rows(a *arena, n int64) {
	a.t.Helper()
	var start map[string]int64
	eventually(a.t, fmt.Sprintf("%d more changes of every Concern reach the database", n), func() error {
		conn, err := pgx.Connect(a.t.Context(), a.directDSN)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(a.t.Context()) }()
		found, err := conn.Query(a.t.Context(), "SELECT concern, sum(next_offset)::bigint FROM rkcy_watermark GROUP BY concern")
		if err != nil {
			return err
		}
		now := map[string]int64{}
		var name string
		var sum int64
		if _, err := pgx.ForEachRow(found, []any{&name, &sum}, func() error { now[name] = sum; return nil }); err != nil {
			return err
		}
		if start == nil {
			start = now
		}
		for _, c := range concerns {
			if got := now[c] - start[c]; got < n {
				return fmt.Errorf("%s has %d", c, got)
			}
		}
		return nil
	})
}
