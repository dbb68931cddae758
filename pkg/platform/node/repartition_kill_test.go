package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/exec"
	"testing"

	"github.com/rocketcycle/rocketcycle/internal/failpoint"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

var everyPoint = flag.Bool("repartition.all", false, "kill who changes partitions at every point, not only at three")

// childConfig tells a process that a test has started what to do, in envChild.
type childConfig struct {
	Platform   platform.Config
	Partitions int
	Point      failpoint.Name
	// Processor: be one, until somebody kills it.
	Processor bool
}

const envChild = "RKCY_TEST_REPARTITION"

// TestRepartitionChild is what such a process runs.
func TestRepartitionChild(t *testing.T) {
	text := os.Getenv(envChild)
	if text == "" {
		return // not one
	}
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	w := &world{cfg: c.Platform, stream: stream.Config{Bootstrap: c.Platform.Kafka.Bootstrap, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}}
	if c.Processor {
		w.start(t, node.Roles{Processor: true})
		<-t.Context().Done()
		select {}
	}
	failpoint.Set(c.Point, 1, func() {
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Kill()
		}
		select {}
	})
	_, err := w.repartition(t, t.Context(), c.Partitions)
	t.Fatalf("%s was not reached: %v", c.Point, err)
}

func child(t *testing.T, c childConfig) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestRepartitionChild$", "-test.v") //nolint:gosec // this very program
	cmd.Env = append(os.Environ(), envChild+"="+string(text))
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

func (w *world) version(t *testing.T) uint64 {
	t.Helper()
	v, err := platform.Current(t.Context(), w.stream, w.cfg.Names())
	if err != nil {
		t.Fatal(err)
	}
	return v.GetVersion()
}

// Whoever changes the partitions dies at some point: before the switch nothing has
// happened, and it can be done again; after it, it is done.
func TestRepartitionKilled(t *testing.T) {
	w := newWorld(t)
	n, _ := w.start(t, node.AllRoles())
	b := newBank(t, client(t, n), 20)
	load, stop := context.WithCancel(t.Context())
	defer stop()
	b.run(load, t, 4)
	b.progress(t, 50)
	type point struct {
		at   failpoint.Name
		done bool
	}
	points := []point{{failpoint.RepartitionOwned, false}, {failpoint.TxnBeforeCommit, false}, {failpoint.TxnAfterCommit, true}}
	if *everyPoint {
		points = append(points, point{failpoint.RepartitionAnnounced, false}, point{failpoint.RepartitionRead, false},
			point{failpoint.TxnProduced, false}, point{failpoint.RepartitionCommitted, true})
	}
	for i, p := range points {
		before, partitions := w.version(t), 3+i
		err := child(t, childConfig{Platform: w.cfg, Partitions: partitions, Point: p.at}).Wait()
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != -1 {
			t.Fatalf("%s: %v", p.at, err)
		}
		switch now := w.version(t); {
		case p.done && now != before+1:
			t.Errorf("%s: version %d after %d", p.at, now, before)
		case !p.done && now != before:
			t.Errorf("%s: version %d after %d", p.at, now, before)
		case !p.done && i == 0:
			// By themselves.
			b.progress(t, 20)
		}
		if !p.done {
			done, err := w.repartition(t, t.Context(), partitions)
			if err != nil {
				t.Fatalf("%s: once more: %v", p.at, err)
			}
			t.Logf("%s: done once more, pause %v", p.at, done.Pause)
		}
		b.progress(t, 50)
	}
	stop()
	b.wg.Wait()
	b.check(t, w.cfg.Storage.Targets[0].DSN)
}

// A processor that is killed while the partitions change is waited for until its
// session ends.
func TestRepartitionProcessorKilled(t *testing.T) {
	w := newWorld(t)
	n, _ := w.start(t, node.AllRoles())
	b := newBank(t, client(t, n), 20)
	load, stop := context.WithCancel(t.Context())
	defer stop()
	b.run(load, t, 4)
	processor := child(t, childConfig{Platform: w.cfg, Processor: true})
	eventually(t, "the processes share the partitions", func() bool {
		s, ok := n.ProcessorStatus()
		return ok && s.Partitions > 0 && s.Partitions < 6
	})
	b.progress(t, 50)
	if err := processor.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	done, err := w.repartition(t, t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("pause %v", done.Pause)
	b.progress(t, 50)
	stop()
	b.wg.Wait()
	b.check(t, w.cfg.Storage.Targets[0].DSN)
}

// While the database is not written, what it lacks goes along, and arrives in
// order in the end.
func TestRepartitionWithoutStorage(t *testing.T) {
	w := newWorld(t)
	n, _ := w.start(t, node.Roles{Processor: true, Edge: true})
	b := newBank(t, client(t, n), 20)
	load, stop := context.WithCancel(t.Context())
	defer stop()
	b.run(load, t, 4)
	b.progress(t, 50)
	for _, partitions := range []int{5, 3} {
		done, err := w.repartition(t, t.Context(), partitions)
		if err != nil {
			t.Fatal(err)
		}
		if done.Moved["character"].Changes < b.characters {
			t.Errorf("%d changes were taken along, but nothing was persisted of %d characters", done.Moved["character"].Changes, b.characters)
		}
		b.progress(t, 50)
	}
	stop()
	b.wg.Wait()
	w.start(t, node.Roles{Storage: true})
	b.check(t, w.cfg.Storage.Targets[0].DSN)
}
