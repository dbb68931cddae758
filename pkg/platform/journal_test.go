package platform_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func operation(t *testing.T, log stream.Config, names platform.Names, op *rkcyv1.Operation) {
	t.Helper()
	record := &rkcyv1.PlatformRecord{Kind: &rkcyv1.PlatformRecord_Operation{Operation: op}}
	if err := platform.Append(t.Context(), log, names, "operation", record); err != nil {
		t.Fatal(err)
	}
}

func state(t *testing.T, log stream.Config, names platform.Names) *platform.State {
	t.Helper()
	s, err := platform.Read(t.Context(), log, names)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Many operators publish at the same time, each of them what it has prepared: exactly
// one of those who prepared on the same version wins, on every broker.
func TestOperatorsAtTheSameTime(t *testing.T) {
	log := streamtest.Config(t)
	name := streamtest.Name("operators")
	text := "name: " + name + "\nedge: {slots: 3}\nconcerns:\n  - {name: player, partitions: 2}\n"
	update(t, log, text)
	for round := range 3 {
		const operators = 4
		updates := make([]*platform.Update, operators)
		for i := range updates {
			u, err := platform.PrepareUpdate(t.Context(), log, parse(t, fmt.Sprintf("%s    retention: {error: %dd}\n", strings.Replace(text, "- {name: player, partitions: 2}", "- name: player\n    partitions: 2", 1), 40+10*round+i)))
			if err != nil {
				t.Fatal(err)
			}
			updates[i] = u
		}
		errs := make([]error, operators)
		var all sync.WaitGroup
		for i, u := range updates {
			all.Go(func() { _, errs[i] = u.Apply(t.Context(), fmt.Sprint("operator ", i)) })
		}
		all.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won >= 0:
				t.Errorf("round %d: %d and %d won", round, won, i)
			case err == nil:
				won = i
			case txn.CodeOf(err) != txn.CodeAborted:
				t.Errorf("round %d: %v", round, err)
			}
		}
		s := state(t, log, parse(t, text).Names())
		if won < 0 || s.Current.GetVersion() != uint64(round+2) || s.Current.GetAuthor() != fmt.Sprint("operator ", won) {
			t.Fatalf("round %d: %d won, and the log has %v", round, won, s.Current)
		}
		// The winner's settings are those of the topic.
		admin, err := stream.NewAdmin(log)
		if err != nil {
			t.Fatal(err)
		}
		topic := parse(t, text).Names().ErrorTopic("player")
		settings, err := admin.TopicConfigs(t.Context(), []string{topic})
		admin.Close()
		if want := fmt.Sprint(s.Current.GetConfig().GetConcerns()[0].GetErrorRetentionMs()); err != nil || settings[topic]["retention.ms"] != want {
			t.Errorf("round %d: retention.ms is %s, want %s (%v)", round, settings[topic]["retention.ms"], want, err)
		}
	}
}

// A file that was written for another version, and an operator that expects another
// one, are refused.
func TestExpectedVersion(t *testing.T) {
	log := broker(t, 1)
	update(t, log, small)
	update(t, log, small+"  - {name: guild}\n")
	older := "version: 1\n" + small + "  - {name: guild}\n  - {name: late}\n"
	if _, err := platform.PrepareUpdate(t.Context(), log, parse(t, older)); txn.CodeOf(err) != txn.CodeAborted || !strings.Contains(err.Error(), "version 1 is expected, but version 2 is published, by tester") {
		t.Errorf("an older file: %v", err)
	}
	u, err := platform.PrepareUpdate(t.Context(), log, parse(t, strings.Replace(older, "version: 1", "version: 2", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Expect(1); txn.CodeOf(err) != txn.CodeAborted {
		t.Errorf("expected 1: %v", err)
	}
	if err := u.Expect(2); err != nil {
		t.Errorf("expected 2: %v", err)
	}
	if s := state(t, log, parse(t, small).Names()); s.Current.GetVersion() != 2 {
		t.Errorf("the platform is at %d", s.Current.GetVersion())
	}
}

func TestRollback(t *testing.T) {
	log := broker(t, 1)
	names := parse(t, small).Names()
	if _, err := platform.PrepareRollback(t.Context(), log, names, 1); txn.CodeOf(err) != txn.CodeNotFound {
		t.Errorf("nothing is published: %v", err)
	}
	update(t, log, small)
	update(t, log, strings.Replace(small, "partitions: 2", "partitions: 2, retention: {error: 1d}", 1))
	u, err := platform.PrepareRollback(t.Context(), log, names, 1)
	if err != nil {
		t.Fatal(err)
	}
	u.Reason = "too short"
	v, err := u.Apply(t.Context(), "tester")
	if err != nil {
		t.Fatal(err)
	}
	s := state(t, log, names)
	if v.GetVersion() != 3 || v.GetRollbackTo() != 1 || v.GetReason() != "too short" || !proto.Equal(v.GetConfig(), s.Version(1).GetConfig()) {
		t.Errorf("%v", v)
	}
	update(t, log, small+"  - {name: guild}\n")
	for version, want := range map[uint64]string{1: "Concern guild cannot be removed", 4: "is the published one", 9: "there is no version 9; there are 1 to 4"} {
		if _, err := platform.PrepareRollback(t.Context(), log, names, version); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", version, err)
		}
	}
}

// The platform topic stays short, and says the same afterwards.
func TestCompact(t *testing.T) {
	log := broker(t, 1)
	_, v := update(t, log, small)
	names := parse(t, small).Names()
	old, now := time.Now().Add(-2*platform.AuditRetention).UnixMilli(), time.Now().UnixMilli()
	for i := range 30 {
		op := &rkcyv1.Operation{Id: fmt.Sprint(i), TimeMs: old, Action: "cancel"}
		if i >= 20 {
			op.TimeMs = now
		}
		operation(t, log, names, op)
	}
	operation(t, log, names, &rkcyv1.Operation{Id: "p", TimeMs: old, Action: platform.ActionPause, Reason: "why", Scope: &rkcyv1.PauseScope{Concern: "player", Partition: -1}})
	operation(t, log, names, &rkcyv1.Operation{Id: "29", Outcome: "done"})
	if did, err := platform.Compact(t.Context(), log, names, 1000, time.Now()); did || err != nil {
		t.Errorf("too early: %v %v", did, err)
	}
	if did, err := platform.Compact(t.Context(), log, names, 10, time.Now()); !did || err != nil {
		t.Fatalf("%v %v", did, err)
	}
	admin, err := stream.NewAdmin(log)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	tp := stream.TopicPartition{Topic: names.PlatformTopic()}
	low, err := admin.LowWatermarks(t.Context(), []stream.TopicPartition{tp})
	if err != nil || low[tp] < 30 {
		t.Errorf("the log begins at %d: %v", low[tp], err)
	}
	s := state(t, log, names)
	if !proto.Equal(s.Current, v) || len(s.Operations) != 10 || s.Operations[9].GetOutcome() != "done" {
		t.Errorf("version %v, %d operations", s.Current, len(s.Operations))
	}
	if op := s.Paused("player", 1); op.GetReason() != "why" {
		t.Errorf("paused: %v", op)
	}
	// A snapshot that something came before does not count.
	late := &rkcyv1.PlatformSnapshot{Offset: s.Next}
	operation(t, log, names, &rkcyv1.Operation{Id: "between", TimeMs: now})
	if err := platform.Append(t.Context(), log, names, "snapshot", &rkcyv1.PlatformRecord{Kind: &rkcyv1.PlatformRecord_Snapshot{Snapshot: late}}); err != nil {
		t.Fatal(err)
	}
	if s = state(t, log, names); s.Current.GetVersion() != 1 || len(s.Operations) != 11 {
		t.Errorf("a late snapshot: %v", s.Current)
	}
	// Versions go on behind a snapshot.
	if _, v := update(t, log, small+"  - {name: guild}\n"); v.GetVersion() != 2 {
		t.Errorf("version %d", v.GetVersion())
	}
	operation(t, log, names, &rkcyv1.Operation{Id: "r", TimeMs: now, Action: platform.ActionResume, Scope: &rkcyv1.PauseScope{Concern: "player", Partition: -1}})
	if s = state(t, log, names); s.Paused("player", 1) != nil || !slices.ContainsFunc(s.Operations, func(op *rkcyv1.Operation) bool { return op.GetId() == "r" }) {
		t.Errorf("resumed: %v", s.Pauses)
	}
}
