package platform_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func broker(t *testing.T, n int) stream.Config {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(n))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return stream.Config{Bootstrap: strings.Join(c.ListenAddrs(), ",")}
}

func parse(t *testing.T, text string) platform.Config {
	t.Helper()
	c, err := platform.Parse([]byte(text), "test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const small = "name: rpg\nedge: {slots: 3}\nconcerns:\n  - {name: player, partitions: 2}\n"

func update(t *testing.T, log stream.Config, text string) (*platform.Update, *rkcyv1.PlatformVersion) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	u, err := platform.PrepareUpdate(ctx, log, parse(t, text))
	if err != nil {
		t.Fatal(err)
	}
	v, err := u.Apply(ctx, "tester")
	if err != nil {
		t.Fatal(err)
	}
	return u, v
}

func TestUpdate(t *testing.T) {
	log := broker(t, 1)
	names := parse(t, small).Names()
	if _, err := platform.Current(t.Context(), log, names); txn.CodeOf(err) != txn.CodeNotFound {
		t.Errorf("before: %v", err)
	}
	u, v := update(t, log, small)
	if v.GetVersion() != 1 || v.GetAuthor() != "tester" || v.GetConfig().GetReplicationFactor() != 1 || len(u.Actions) != 3+4+1 {
		t.Errorf("first: %v\n%v", v, u.Actions)
	}
	shown := make([]string, len(u.Actions))
	for i, a := range u.Actions {
		shown[i] = a.String()
	}
	for _, want := range []string{
		"create topic rkcy.rpg.dev.player.process.0001 (partitions 2, replicas 1, retention 7d)",
		"create topic rkcy.rpg.dev.player.storage.0001 (partitions 2, replicas 1, retention forever)",
		"publish version 1: new platform rpg in dev; add Concern player with 2 partitions",
	} {
		if !slices.Contains(shown, want) {
			t.Errorf("not shown: %s\n%s", want, strings.Join(shown, "\n"))
		}
	}
	admin, err := stream.NewAdmin(log)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topics, err := admin.Topics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{
		names.ProcessTopic("player"): 2, names.StateTopic("player"): 2, names.StorageTopic("player"): 2, names.ErrorTopic("player"): 1,
		names.ResponseTopic(): 3, names.PlatformTopic(): 1, names.ConfigTopic(): 1,
	} {
		if topics[name] != n {
			t.Errorf("%s has %d partitions, want %d", name, topics[name], n)
		}
	}

	// Once more changes nothing.
	if u, again := update(t, log, small); len(u.Actions) != 0 || !proto.Equal(again, v) {
		t.Errorf("again: %v %v", again, u.Actions)
	}
	// A Concern can be added.
	u, v = update(t, log, small+"  - {name: guild}\n")
	if v.GetVersion() != 2 || len(u.Actions) != 5 || len(v.GetConfig().GetConcerns()) != 2 {
		t.Errorf("second: %v\n%v", v, u.Actions)
	}
	if got, err := platform.Current(t.Context(), log, names); err != nil || !proto.Equal(got, v) {
		t.Errorf("current: %v %v", got, err)
	}
}

// What cannot be changed is refused, all of it at once, before anything is
// done.
func TestChangesThatAreRefused(t *testing.T) {
	log := broker(t, 1)
	update(t, log, small+"  - {name: guild}\n")
	_, err := platform.PrepareUpdate(t.Context(), log, parse(t,
		"name: rpg\nedge: {slots: 4}\nconcerns:\n  - {name: player, partitions: 3, retention: {error: 1d}}\n"))
	for _, want := range []string{
		"edge.slots cannot be changed from 3 to 4",
		"Concern guild cannot be removed",
	} {
		if txn.CodeOf(err) != txn.CodeFailedPrecondition || !strings.Contains(err.Error(), want) {
			t.Errorf("not refused: %s\n%v", want, err)
		}
	}
	_, err = platform.PrepareUpdate(t.Context(), log, parse(t, "replication_factor: 3\n"+small))
	if txn.CodeOf(err) != txn.CodeFailedPrecondition || !strings.Contains(err.Error(), "only 1 brokers") {
		t.Errorf("too many replicas: %v", err)
	}
	other := strings.Replace(small, "name: rpg", "name: other", 1)
	admin, err := stream.NewAdmin(log)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topic := parse(t, other).Names().StateTopic("player")
	if _, err := admin.EnsureTopics(t.Context(), []stream.TopicSpec{{Name: topic, Partitions: 7, Replication: 1}}); err != nil {
		t.Fatal(err)
	}
	_, err = platform.PrepareUpdate(t.Context(), log, parse(t, other))
	if txn.CodeOf(err) != txn.CodeFailedPrecondition || !strings.Contains(err.Error(), topic+" exists with 7 partitions, but 2 are wanted") {
		t.Errorf("a topic in the way: %v", err)
	}
}

func TestReplicationIsChosenByTheCluster(t *testing.T) {
	_, v := update(t, broker(t, 3), small)
	if c := v.GetConfig(); c.GetReplicationFactor() != 3 || c.GetMinInsyncReplicas() != 2 {
		t.Errorf("%v", c)
	}
}

// Of two updates at the same time one wins, and the other one is told.
func TestUpdatesAtTheSameTime(t *testing.T) {
	log := broker(t, 1)
	update(t, log, small)
	prepare := func(concern string) *platform.Update {
		u, err := platform.PrepareUpdate(t.Context(), log, parse(t, small+"  - {name: "+concern+"}\n"))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	one, two := prepare("one"), prepare("two")
	var group sync.WaitGroup
	errs := make([]error, 2)
	for i, u := range []*platform.Update{one, two} {
		group.Go(func() { _, errs[i] = u.Apply(t.Context(), u.Wanted.GetConcerns()[1].GetName()) })
	}
	group.Wait()
	v, err := platform.Current(t.Context(), log, parse(t, small).Names())
	if err != nil || v.GetVersion() != 2 {
		t.Fatal(v, err)
	}
	winner := 0
	if v.GetAuthor() == "two" {
		winner = 1
	}
	if errs[winner] != nil || txn.CodeOf(errs[1-winner]) != txn.CodeAborted || v.GetConfig().GetConcerns()[1].GetName() != v.GetAuthor() {
		t.Errorf("%v won; errors %v", v.GetAuthor(), errs)
	}
}

// Who lost is told so also when others have gone on meanwhile.
func TestUpdateAfterTwoOthers(t *testing.T) {
	log := broker(t, 1)
	update(t, log, small)
	late, err := platform.PrepareUpdate(t.Context(), log, parse(t, small+"  - {name: late}\n"))
	if err != nil {
		t.Fatal(err)
	}
	update(t, log, small+"  - {name: one}\n")
	update(t, log, small+"  - {name: one}\n  - {name: two}\n")
	if _, err := late.Apply(t.Context(), "late"); txn.CodeOf(err) != txn.CodeAborted || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("got %v", err)
	}
}

func TestWatch(t *testing.T) {
	log := broker(t, 1)
	update(t, log, small)
	names := parse(t, small).Names()
	ctx, stop := context.WithCancel(t.Context())
	seen := make(chan *rkcyv1.PlatformVersion, 10)
	done := make(chan error, 1)
	go func() { done <- platform.Watch(ctx, log, names, func(v *rkcyv1.PlatformVersion) { seen <- v }) }()
	await := func(version uint64) {
		t.Helper()
		select {
		case v := <-seen:
			if v.GetVersion() != version {
				t.Errorf("version %d, want %d", v.GetVersion(), version)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("version %d was not seen", version)
		}
	}
	await(1)
	// Neither rubbish nor a version out of line disturbs it.
	producer, err := stream.NewProducer(log)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	stale, err := proto.Marshal(&rkcyv1.PlatformVersion{Version: 1, Author: "late"})
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range [][]byte{[]byte("\xff\xffrubbish"), stale, nil} {
		if err := producer.Send(t.Context(), names.PlatformTopic(), 0, []byte("config"), value); err != nil {
			t.Fatal(err)
		}
	}
	update(t, log, small+"  - {name: guild}\n")
	await(2)
	stop()
	if err := <-done; err != nil {
		t.Errorf("Watch: %v", err)
	}
}

func TestBrokersAway(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	log := stream.Config{Bootstrap: "127.0.0.1:1"}
	if _, err := platform.PrepareUpdate(ctx, log, parse(t, small)); txn.CodeOf(err) != txn.CodeUnavailable {
		t.Errorf("update: %v", err)
	}
	if _, err := platform.Current(ctx, log, parse(t, small).Names()); txn.CodeOf(err) != txn.CodeUnavailable {
		t.Errorf("current: %v", err)
	}
}

// Storage targets come and go; the published version says whom the change feed
// is kept for. The brokers delete nothing of it by themselves.
func TestStorageTargets(t *testing.T) {
	log := broker(t, 1)
	text := strings.Replace(small, "partitions: 2", "partitions: 2, retention: {storage: 30d}", 1)
	_, v := update(t, log, text+"storage: {targets: [{name: main}]}\n")
	if got := v.GetConfig().GetStorageTargets(); !slices.Equal(got, []string{"main"}) {
		t.Errorf("targets %q", got)
	}
	u, v := update(t, log, text+"storage: {targets: [{name: other, role: primary}, {name: copy, role: secondary}]}\n")
	want := []string{"add storage target copy", "add storage target other", "remove storage target main, for which nothing is kept any more"}
	if got := v.GetConfig().GetStorageTargets(); v.GetVersion() != 2 || !slices.Equal(got, []string{"copy", "other"}) || !slices.Equal(u.Actions[0].Changes, want) {
		t.Errorf("version %d, targets %q, changes %q", v.GetVersion(), got, u.Actions[0].Changes)
	}
	for _, topic := range platform.Topics(v.GetConfig()) {
		if strings.Contains(topic.Name, ".storage.") && topic.Config["retention.ms"] != "-1" {
			t.Errorf("%s has %v", topic.Name, topic.Config)
		}
	}
}
