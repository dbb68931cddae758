package node_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/examples/rpg/logic"
	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform/configset"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// quota is a config Concern; its instances are borrowed from the platform.
var quota = concern.ConfigDefinition{
	Name: "quota", New: func() proto.Message { return new(rkcyv1.ConcernConfig) },
	KeyOf: func(m proto.Message) string { return m.(*rkcyv1.ConcernConfig).GetName() },
}

// observant tells what a handler sees of the quotas: in gold the value that
// all of them must have, in faction_0 the version.
type observant struct {
	logic.Character
	mixes atomic.Int64
}

func (o *observant) Fund(ctx concern.Context, to *rpgv1.Character, in *rpgv1.Funds) (*rpgv1.Character, error) {
	left, ok := concern.ConfigOf[*rkcyv1.ConcernConfig](ctx, "quota", "left")
	right, both := concern.ConfigOf[*rkcyv1.ConcernConfig](ctx, "quota", "right")
	if ok != both || left.GetPartitions() != right.GetPartitions() {
		o.mixes.Add(1)
		return nil, txn.Errorf(txn.CodeInternal, "left is %v, right %v", left, right)
	}
	to.Currency = &rpgv1.Currency{Gold: int64(left.GetPartitions()), Faction_0: int64(ctx.ConfigVersion())} //nolint:gosec // small
	return to, nil
}

func (w *world) replaceQuotas(t *testing.T, value int32) *rkcyv1.ConfigVersion {
	t.Helper()
	r, err := configset.PrepareReplace(t.Context(), w.stream, w.cfg.Names(), configset.Definition(quota), []proto.Message{
		&rkcyv1.ConcernConfig{Name: "left", Partitions: value}, &rkcyv1.ConcernConfig{Name: "right", Partitions: value},
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.Apply(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Handlers in two processors see one whole set or the next, never a mix and
// never an older one again; and none works before it knows the latest set.
func TestConfigConcerns(t *testing.T) {
	w := newWorld(t)
	seen := &observant{}
	app := application()
	app.Concerns[1].Definition = rpgv1.NewCharacter(seen)
	app.ConfigConcerns = []concern.ConfigDefinition{quota}
	start := func() (*node.Node, func()) { return w.startApplication(t, app, node.AllRoles()) }
	one, stopOne := start()
	two, stopTwo := start()
	clients := []rpgv1.RpgServiceClient{client(t, one), client(t, two)}
	const characters = 8
	if _, err := clients[0].CreatePlayer(t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: "p", Username: "anna"}}); err != nil {
		t.Fatal(err)
	}
	for i := range characters {
		if _, err := clients[0].CreateCharacter(t.Context(), &rpgv1.CreateCharacterRequest{Character: &rpgv1.Character{
			Id: fmt.Sprint(i), PlayerId: "p", Fullname: "x", Currency: &rpgv1.Currency{},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	look := func(c rpgv1.RpgServiceClient, character int) (value, version int64) {
		got, err := c.FundCharacter(t.Context(), &rpgv1.FundCharacterRequest{Id: fmt.Sprint(character), Currency: &rpgv1.Currency{Gold: 1}})
		if err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		return got.GetCurrency().GetGold(), got.GetCurrency().GetFaction_0()
	}
	for i := range characters {
		if value, version := look(clients[i%2], i); value != 0 || version != 0 {
			t.Errorf("before anything was published: %d in version %d", value, version)
		}
	}

	// Version n has the value 10 n.
	const last = 15
	done := make(chan struct{})
	var wg sync.WaitGroup
	for i := range characters {
		wg.Go(func() {
			before := int64(0)
			for before < last && !t.Failed() {
				value, version := look(clients[i%2], i)
				if value != 10*version || version < before {
					t.Errorf("character %d saw %d in version %d, after version %d", i, value, version, before)
					return
				}
				before = version
			}
		})
	}
	for n := range last {
		if v := w.replaceQuotas(t, int32(10*(n+1))); v.GetVersion() != uint64(n+1) { //nolint:gosec // small
			t.Fatalf("version %d, want %d", v.GetVersion(), n+1)
		}
	}
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the last version did not reach every character")
	}
	for name, n := range map[string]*node.Node{"one": one, "two": two} {
		if s, ok := n.ProcessorStatus(); !ok || s.Records == 0 || n.ConfigVersion() != last {
			t.Errorf("node %s: %+v, config version %d", name, s, n.ConfigVersion())
		}
	}
	if n := seen.mixes.Load(); n != 0 {
		t.Errorf("%d mixes", n)
	}

	// What is broken changes nothing, for those who run and those who start.
	p, err := stream.NewProducer(w.stream)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	torn, err := proto.Marshal(&rkcyv1.ConfigVersion{Version: last + 1, Concern: "quota", Instances: []*rkcyv1.ConfigInstance{
		{Key: "left", Value: []byte("\x0a\x04left\x10\x63")}, {Key: "right", Value: []byte{0xff}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range [][]byte{[]byte("\xff\xff"), torn} {
		if err := p.Send(t.Context(), w.cfg.Names().ConfigTopic(), 0, []byte("quota"), value); err != nil {
			t.Fatal(err)
		}
	}
	stopTwo()
	three, _ := start()
	for i := range characters {
		if value, version := look(client(t, three), i); value != 10*last || version != last {
			t.Errorf("after a broken record character %d saw %d in version %d", i, value, version)
		}
	}
	stopOne()
	w.replaceQuotas(t, 10*(last+2))
	four, _ := start()
	// The first that a new processor does is right already. (three may own
	// some of the partitions, and hear of it a moment later.)
	if four.ConfigVersion() != last+2 {
		t.Errorf("a node is ready with version %d, want %d", four.ConfigVersion(), last+2)
	}
}
