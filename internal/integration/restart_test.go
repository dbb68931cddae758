package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// A second start on the same data directory finds everything again, whichever
// way the first one ended.
func TestEmbeddedRestart(t *testing.T) {
	t.Parallel()
	s := newEmbedded(t)
	p := s.start()
	for i := range 20 {
		create(t, p.client(), fmt.Sprintf("p%02d", i))
	}
	p.stop()
	p = s.start()
	for i := range 20 {
		if got := revision(t, p.client(), fmt.Sprintf("p%02d", i)); got != "first" {
			t.Errorf("p%02d is %q", i, got)
		}
		revise(t, p.client(), fmt.Sprintf("p%02d", i), "second")
	}
	p.kill()
	p = s.start()
	for i := range 20 {
		id := fmt.Sprintf("p%02d", i)
		if got := revision(t, p.client(), id); got != "second" {
			t.Errorf("%s is %q", id, got)
		}
		s.awaitPlayer(id, "second", 2)
	}
	p.stop()
}

// A data directory is for one process.
func TestEmbeddedDirectoryInUse(t *testing.T) {
	t.Parallel()
	s := newEmbedded(t)
	p := s.start()
	create(t, p.client(), "p1")
	second := s.launch()
	if code := second.exit(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	for _, want := range []string{s.dataDir, "in use", "--data-dir"} {
		if !strings.Contains(second.log(), want) {
			t.Errorf("the message lacks %q: %s", want, second.log())
		}
	}
	if got := revision(t, p.client(), "p1"); got != "first" {
		t.Errorf("p1 is %q", got)
	}
	p.stop()
}

// No process outlives rpg, however it ends.
func TestEmbeddedNoOrphans(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*process){"interrupt": (*process).stop, "kill": (*process).kill} {
		t.Run(name, func(t *testing.T) {
			s := newEmbedded(t)
			p := s.start()
			postmaster := s.postmaster()
			if err := syscall.Kill(postmaster, 0); err != nil {
				t.Fatalf("the database (pid %d) does not run: %v", postmaster, err)
			}
			end(p)
			eventually(t, "the database ends", func() error {
				if !errors.Is(syscall.Kill(postmaster, 0), syscall.ESRCH) {
					return fmt.Errorf("pid %d is there", postmaster)
				}
				return nil
			})
		})
	}
}

// postmaster returns the process id of the embedded database.
func (s *system) postmaster() int {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dataDir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		s.t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// held starts a request that cannot be answered yet: the Concern's storage has
// to be asked, and the database does not answer. It returns once the edge has
// it.
func held(t *testing.T, s *system, p *process) <-chan error {
	t.Helper()
	if err := s.database.Pause(); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := p.client().ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{Id: "nobody"})
		answer <- err
	}()
	return answer
}

// The first interrupt lets requests under way finish.
func TestServersInterruptDrains(t *testing.T) {
	t.Parallel()
	s := newServersOwnDatabase(t)
	p := s.start()
	answer := held(t, s, p)
	eventually(t, "the request is under way", func() error { return s.processed("player", 1) })
	p.interrupt()
	select {
	case err := <-answer:
		// The database was waited for, as long as a read may take.
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "database") {
			t.Errorf("the request under way got %v, want the processor's own answer", err)
		}
	case <-time.After(patience):
		t.Fatal("the request under way got no answer")
	}
	if err := s.database.Resume(); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A second interrupt ends it at once.
func TestServersInterruptTwice(t *testing.T) {
	t.Parallel()
	s := newServersOwnDatabase(t)
	p := s.start()
	answer := held(t, s, p)
	eventually(t, "the request is under way", func() error { return s.processed("player", 1) })
	// One that comes before the first is taken notice of counts as the first.
	eventually(t, "it ends", func() error {
		p.interrupt()
		if !p.ended() {
			return errors.New("it runs")
		}
		return nil
	})
	if code := p.exit(); code != -1 {
		t.Errorf("exit code %d, want the end by a signal", code)
	}
	if err := <-answer; status.Code(err) != codes.Unavailable {
		t.Errorf("the request under way got %v, want %v", err, codes.Unavailable)
	}
	if err := s.database.Resume(); err != nil {
		t.Fatal(err)
	}
}

// processed returns an error until a process topic has n records.
func (s *system) processed(concern string, n int) error {
	ends, err := s.ends(s.names().ProcessTopic(concern))
	if err == nil && ends < n {
		err = fmt.Errorf("%d of %d records", ends, n)
	}
	return err
}
