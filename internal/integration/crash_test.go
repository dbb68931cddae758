package integration

import "testing"

// trades returns how many trades a test makes.
func trades(t testing.TB, full int) int {
	if testing.Short() {
		t.Logf("short: %d trades instead of %d", full/10, full)
		return full / 10
	}
	return full
}

// Random trades, the process killed in the middle and started again.

func TestEmbeddedKillUnderLoad(t *testing.T) {
	t.Parallel()
	killUnderLoad(t, newEmbedded(t))
}

func TestServersKillUnderLoad(t *testing.T) {
	t.Parallel()
	killUnderLoad(t, newServers(t))
}

func killUnderLoad(t *testing.T, s *system) {
	n := trades(t, 20_000)
	p := s.start()
	w := newWorkload(t, p.client(), 100, n)
	w.edges.add(p.client())
	done := make(chan error, 1)
	go func() { done <- w.run(0, n) }()

	w.after(n / 2)
	p.kill()
	w.edges.remove(p.client())
	again := s.start()
	w.edges.add(again.client())
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.verify(s, n/2, again.client())
	again.stop()
}
