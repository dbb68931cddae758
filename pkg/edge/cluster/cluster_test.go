package cluster

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg Config) (*Cluster, error) {
	t.Helper()
	if cfg.Label == "" {
		cfg.Label = "rpg.test"
	}
	if cfg.Role == "" {
		cfg.Role = "edge"
	}
	cfg.pace = 200 * time.Millisecond
	c, err := Open(cfg)
	if err == nil {
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return c, err
}

func mustOpen(t *testing.T, cfg Config) *Cluster {
	t.Helper()
	c, err := open(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal(what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// told collects events.
type told struct {
	mu   sync.Mutex
	list []string
}

func (o *told) add(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, e.Kind.String()+" "+e.Node.ID)
}

func (o *told) has(what string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.list, what)
}

func TestMembership(t *testing.T) {
	a := mustOpen(t, Config{ID: "a", Tunnel: "127.0.0.1:1", ReplicaSets: []string{"edge/one"}})
	join := []string{a.Self().Addr}
	var seen, slow told
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	release := make(chan struct{})
	wg.Go(func() { a.Follow(ctx, seen.add) })
	wg.Go(func() {
		a.Follow(ctx, func(e Event) { // holds up no other
			select {
			case <-release:
			case <-ctx.Done():
			}
			slow.add(e)
		})
	})
	b := mustOpen(t, Config{ID: "b", Role: "process", Join: join, Tunnel: "127.0.0.1:2", ReplicaSets: []string{"process/one", "edge/one"}})
	c := mustOpen(t, Config{ID: "c", Join: join})
	for _, n := range []*Cluster{a, b, c} {
		eventually(t, "three nodes do not know each other", func() bool { return len(n.Nodes()) == 3 })
	}
	if n, ok := c.Find("b"); !ok || n.Role != "process" || n.Tunnel != "127.0.0.1:2" {
		t.Errorf("%+v, %v", n, ok)
	}
	if set := c.ReplicaSet("edge/one"); len(set) != 2 || set[0].ID != "a" || set[1].ID != "b" {
		t.Errorf("%+v", set)
	}
	// b dies, c goes in order.
	b.Own(map[string][]int32{"topic": {3}})
	eventually(t, "b owns nothing", func() bool { n, _, ok := a.Owner("topic", 3); return ok && n.ID == "b" })
	b.mu.Lock()
	b.closed = true // its Close has nothing to do
	b.mu.Unlock()
	if err := b.list.Shutdown(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a dead node stays", func() bool { return seen.has("fail b") })
	if _, ok := a.Find("b"); ok {
		t.Error("a dead node is found")
	}
	if _, _, ok := a.Owner("topic", 3); ok {
		t.Error("a dead node owns something")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nobody was told of c", func() bool { return seen.has("leave c") })
	close(release)
	eventually(t, "the slow follower lost events", func() bool {
		return slow.has("join a") && slow.has("join b") && slow.has("fail b") && slow.has("leave c")
	})
}

func TestOwnershipSpreads(t *testing.T) {
	a := mustOpen(t, Config{ID: "a"})
	b := mustOpen(t, Config{ID: "b", Join: []string{a.Self().Addr}})
	var even []int32
	for p := int32(0); p < maxPartitions; p += 2 {
		even = append(even, p)
	}
	a.Own(map[string][]int32{"small": {0, 1}, "large": even})
	owner := func(at *Cluster, topic string, p int32, want string) func() bool {
		return func() bool { n, _, ok := at.Owner(topic, p); return ok && n.ID == want || !ok && want == "" }
	}
	eventually(t, "b does not know of a", owner(b, "large", 4094, "a"))
	eventually(t, "b does not know of a", owner(b, "small", 1, "a"))
	if !owner(b, "large", 4095, "")() || !owner(b, "small", 2, "")() || !owner(b, "small", -1, "")() || !owner(b, "other", 0, "")() {
		t.Error("a partition that nobody owns has an owner")
	}
	// b takes one over before a gives it up: the later word counts.
	b.own.set(map[string][]int32{"small": {1}}, time.Now().Add(time.Minute).UnixMilli())
	eventually(t, "a does not know of b", owner(a, "small", 1, "b"))
	a.own.set(map[string][]int32{"small": {0}}, time.Now().Add(2*time.Minute).UnixMilli())
	eventually(t, "a still owns what it gave up", owner(b, "large", 0, ""))
	if !owner(b, "small", 0, "a")() && !owner(b, "small", 1, "b")() {
		t.Error("what was kept is lost")
	}
	// One that comes later is told of all.
	c := mustOpen(t, Config{ID: "c", Join: []string{b.Self().Addr}})
	eventually(t, "c does not know of a", owner(c, "small", 0, "a"))
}

func TestForgedNodeIsRefused(t *testing.T) {
	keys, err := ParseKeys([]byte("# the key\n" + NewKey() + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := ParseKeys([]byte(NewKey()))
	a := mustOpen(t, Config{ID: "a", Keys: keys})
	join := []string{a.Self().Addr}
	for name, forged := range map[string]Config{
		"another key":      {ID: "forged", Keys: other, Join: join},
		"no key":           {ID: "forged", Join: join},
		"another platform": {ID: "forged", Keys: keys, Join: join, Label: "rpg.prod"},
	} {
		if _, err := open(t, forged); txn.CodeOf(err) != txn.CodeUnavailable {
			t.Errorf("%s: %v", name, err)
		}
		if n := len(a.Nodes()); n != 1 {
			t.Errorf("%s: there are %d nodes", name, n)
		}
	}
	mustOpen(t, Config{ID: "b", Keys: keys, Join: join})
	eventually(t, "one with the key is not let in", func() bool { return len(a.Nodes()) == 2 })
}

func TestKeysRotate(t *testing.T) {
	both, err := ParseKeys([]byte(NewKey() + "\n" + NewKey()))
	if err != nil {
		t.Fatal(err)
	}
	before, after := both[:1], both[1:]
	a := mustOpen(t, Config{ID: "a", Keys: before})
	b := mustOpen(t, Config{ID: "b", Keys: before, Join: []string{a.Self().Addr}})
	for _, keys := range [][][]byte{both, {both[1], both[0]}, after} {
		for _, n := range []*Cluster{a, b} {
			if err := n.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := mustOpen(t, Config{ID: "c", Keys: after, Join: []string{b.Self().Addr}})
	for _, n := range []*Cluster{a, b, c} {
		eventually(t, "a node was lost with the old key", func() bool { return len(n.Nodes()) == 3 })
	}
	if _, err := open(t, Config{ID: "late", Keys: before, Join: []string{a.Self().Addr}}); txn.CodeOf(err) != txn.CodeUnavailable {
		t.Errorf("the old key: %v", err)
	}
	plain := mustOpen(t, Config{})
	if err := plain.SetKeys(after); txn.CodeOf(err) != txn.CodeFailedPrecondition {
		t.Errorf("a node without keys: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for want, cfg := range map[string]Config{
		"label and role":     {},
		"key file":           {Label: "l", Role: "r", Listen: "0.0.0.0:0"},
		"not host:port":      {Label: "l", Role: "r", Listen: "nonsense"},
		"not an IP":          {Label: "l", Role: "r", Listen: "localhost:0"},
		"join":               {Label: "l", Role: "r", Join: []string{"host"}},
		"key 1":              {Label: "l", Role: "r", Keys: [][]byte{[]byte("short")}},
		"at most 512":        {Label: "l", Role: "r", ReplicaSets: []string{strings.Repeat("x", 600)}},
		"the label has 300 ": {Label: strings.Repeat("l", 300), Role: "r"},
	} {
		if _, err := Open(cfg); txn.CodeOf(err) != txn.CodeInvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	for _, file := range []string{"", "# nothing\n", "not base64!", "c2hvcnQ="} {
		if _, err := ParseKeys([]byte(file)); txn.CodeOf(err) != txn.CodeInvalidArgument || strings.Contains(err.Error(), "c2hvcnQ") {
			t.Errorf("%q: %v", file, err)
		}
	}
}
