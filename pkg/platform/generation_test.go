package platform_test

import (
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Another number of partitions is a new generation of the Concern's topics, which
// Apply refuses to make: that is done while the platform runs. A generation whose
// topics were made by an attempt with another number is passed over.
func TestGenerations(t *testing.T) {
	log := broker(t, 1)
	update(t, log, small)
	plan := func(partitions string) *platform.Update {
		t.Helper()
		u, err := platform.PrepareUpdate(t.Context(), log, parse(t, strings.Replace(small, "partitions: 2", "partitions: "+partitions, 1)))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	u := plan("3")
	r := u.Repartitions()
	if len(r) != 1 || r[0].String() != "move Concern player from 2 partitions (generation 0001) to 3 (generation 0002)" {
		t.Fatalf("got %v", r)
	}
	var text []string
	for _, a := range u.Actions {
		text = append(text, a.String())
	}
	all := strings.Join(text, "\n")
	for _, want := range []string{
		"create topic rkcy.rpg.dev.player.process.0002 (partitions 3", "create topic rkcy.rpg.dev.player.state.0002 (partitions 3",
		"create topic rkcy.rpg.dev.player.storage.0002 (partitions 3", "publish version 2: " + r[0].String(),
	} {
		if !strings.Contains(all, want) {
			t.Errorf("lacks %q:\n%s", want, all)
		}
	}
	if strings.Contains(all, "player.error.0002") {
		t.Errorf("a second error topic:\n%s", all)
	}
	if _, err := u.Apply(t.Context(), "test"); txn.CodeOf(err) != txn.CodeFailedPrecondition || !strings.Contains(err.Error(), "platform update") {
		t.Errorf("apply: %v", err)
	}
	if plan("2").Repartitions() != nil {
		t.Error("the same number is a change")
	}
}

// Of two who are about to publish, the one that began first is refused.
func TestPublishersFenceEachOther(t *testing.T) {
	log := broker(t, 1)
	update(t, log, small)
	first, err := platform.NewPublisher(t.Context(), log, parse(t, small).Names())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	update(t, log, small+"  - {name: guild}\n")
	current, err := platform.Current(t.Context(), log, parse(t, small).Names())
	if err != nil {
		t.Fatal(err)
	}
	current.Version = 9
	record, err := platform.VersionRecord(parse(t, small).Names(), current)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.CommitOnce(t.Context(), []stream.Record{record}, nil, nil); err == nil {
		t.Error("who was overtaken could publish")
	}
}
