package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// share returns how many partitions each worker of a process was given last;
// -1 if that has not happened.
func (p *process) share() int {
	share := -1
	for line := range strings.Lines(p.log()) {
		if _, after, found := strings.Cut(line, `msg="partitions assigned" partitions=`); found {
			if _, err := fmt.Sscan(after, &share); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	return share
}

// Two processes started by hand share the partitions; one is killed under load,
// and the other takes over.
func TestServersTakeover(t *testing.T) {
	t.Parallel()
	s := newServers(t)
	n := trades(t, 6_000)
	first := s.start()
	all := 0 // what each of its workers has now
	eventually(t, "the first process has all", func() error {
		if all = first.share(); all < 2*partitions/2 {
			return fmt.Errorf("a worker has %d", all)
		}
		return nil
	})
	second := s.start()
	for _, p := range []*process{first, second} {
		eventually(t, "both have their share", func() error {
			if got := p.share(); got <= 0 || got >= all {
				return fmt.Errorf("a worker has %d, of %d before", got, all)
			}
			return nil
		})
	}
	w := newWorkload(t, first.client(), 40, n)
	// Both edges answer for every key, whoever owns it.
	for _, p := range []*process{first, second} {
		for _, id := range w.ids {
			if _, err := p.client().ReadCharacter(t.Context(), &rpgv1.ReadCharacterRequest{Id: id}); err != nil {
				t.Fatal(err)
			}
		}
		w.edges.add(p.client())
	}
	done := make(chan error, 1)
	go func() { done <- w.run(0, n) }()
	w.after(n / 3)
	w.edges.remove(first.client())
	first.kill()
	w.after(2 * n / 3) // the survivor does all of it
	third := s.start() // and gets help
	w.edges.add(third.client())
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.verify(s, n/2, second.client(), third.client())
	second.stop()
	w.verify(s, n/2, third.client())
	third.stop()
}

// A process that was stopped for longer than its session, and so has lost its
// partitions to another, goes on as if nothing had happened. It must not do any
// harm, and works again.
func TestServersZombie(t *testing.T) {
	t.Parallel()
	s := newServers(t)
	n := trades(t, 6_000)
	owner := s.start() // owns everything
	w := newWorkload(t, owner.client(), 40, n)
	w.edges.add(owner.client())
	done := make(chan error, 1)
	go func() { done <- w.run(0, n) }()
	w.after(n / 4)

	w.edges.remove(owner.client())
	owner.signal(syscall.SIGSTOP)
	heir := s.start() // ready once it serves its share, which is all
	w.edges.add(heir.client())
	w.after(n / 2)
	owner.signal(syscall.SIGCONT)
	w.after(3 * n / 4)
	w.edges.add(owner.client())
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.verify(s, n/2, owner.client(), heir.client())
	heir.stop()
	w.verify(s, n/2, owner.client())
	owner.stop()
}
