package platform_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func example(t *testing.T) *rkcyv1.PlatformConfig {
	t.Helper()
	c, err := platform.Parse([]byte(strings.Replace(good, "name: main", "name: main\n      role: primary", 1)), "good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c.Proto()
}

func TestNames(t *testing.T) {
	n := platform.NewNames(example(t))
	for got, want := range map[string]string{
		n.ProcessTopic("character"):         "rkcy.rpg.test.character.process.0001",
		n.StateTopic("character"):           "rkcy.rpg.test.character.state.0001",
		n.StorageTopic("character"):         "rkcy.rpg.test.character.storage.0001",
		n.ErrorTopic("character"):           "rkcy.rpg.test.character.error.0001",
		n.ResponseTopic():                   "rkcy.rpg.test.platform.response.0001",
		n.PlatformTopic():                   "rkcy.rpg.test.platform.platform.0001",
		n.ConfigTopic():                     "rkcy.rpg.test.platform.config.0001",
		n.ProcessGroup():                    "rkcy.rpg.test.process",
		n.StorageGroup("character", "main"): "rkcy.rpg.test.storage.character.main",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	p, e, c, k, g, ok := platform.ParseTopic("rkcy.rpg.test.character.process.0012")
	if !ok || p != "rpg" || e != "test" || c != "character" || k != platform.KindProcess || g != 12 {
		t.Error(p, e, c, k, g, ok)
	}
	for _, other := range []string{"", "x", "rkcy.a.b.c.d", "rkcy.a.b.c.d.1", "rkcy.a.b.c.d.xxxx", "other.a.b.c.d.0001"} {
		if _, _, _, _, _, ok := platform.ParseTopic(other); ok {
			t.Errorf("%q is taken for ours", other)
		}
	}
}

func TestRouter(t *testing.T) {
	var r txn.Router = platform.NewRouter(example(t))
	used := map[int32]bool{}
	for i := range 1000 {
		topic, p, err := r.Route("player", fmt.Sprint("key", i))
		if err != nil || topic != "rkcy.rpg.test.player.process.0001" || p < 0 || p >= 8 {
			t.Fatal(topic, p, err)
		}
		used[p] = true
	}
	if len(used) != 8 {
		t.Errorf("only %d of 8 partitions are used", len(used))
	}
	_, _, err := r.Route("plyer", "x")
	if txn.CodeOf(err) != txn.CodeUnimplemented || !strings.Contains(err.Error(), "it has player, character") {
		t.Errorf("unknown Concern: %v", err)
	}
}

// The home of idempotency keys stays where it was published, also by versions
// that do not name it.
func TestIdempotencyHomeStays(t *testing.T) {
	log := broker(t, 1)
	_, first := update(t, log, small)
	if home := platform.NewRouter(first.GetConfig()).IdempotencyHome(); home != "player" {
		t.Errorf("at first %q", home)
	}
	_, second := update(t, log, "name: rpg\nedge: {slots: 3}\nconcerns:\n  - {name: ally, partitions: 2}\n  - {name: player, partitions: 2}\n")
	if home := platform.NewRouter(second.GetConfig()).IdempotencyHome(); home != "player" || second.GetVersion() != 2 {
		t.Errorf("then %q, version %d", home, second.GetVersion())
	}
	old := proto.CloneOf(first.GetConfig())
	old.IdempotencyHome = ""
	if home := platform.NewRouter(old).IdempotencyHome(); home != "player" {
		t.Errorf("by default %q", home)
	}
}

func TestRouterWhileUpdated(t *testing.T) {
	one := example(t)
	two := proto.Clone(one).(*rkcyv1.PlatformConfig)
	two.Concerns[0].Generation, two.Concerns[0].Partitions = 2, 16
	r := platform.NewRouter(one)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 1000 {
				topic, p, err := r.Route("player", fmt.Sprint(i))
				if err != nil || strings.HasSuffix(topic, "0001") && p >= 8 {
					t.Error(topic, p, err)
				}
			}
		})
	}
	r.Update(two)
	group.Wait()
	if r.Partitions("player") != 16 || r.Names().Generation("player") != 2 || r.Config() != two {
		t.Error("not updated")
	}
}
