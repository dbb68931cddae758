package configset_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/configset"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

const limitsProto = `syntax = "proto3";
package configsettest;
import "google/protobuf/timestamp.proto";
enum Mode { MODE_NONE = 0; MODE_HARD = 1; }
message Range { int64 low = 1; int64 high = 2; }
message Limits {
  string id = 1;
  int32 max_characters = 2;
  Mode mode = 3;
  Range gold = 4;
  repeated Range tiers = 5;
  repeated string tags = 6;
  map<string, int64> by_name = 7;
  optional double factor = 8;
  google.protobuf.Timestamp since = 9;
  oneof who { string one = 10; string other = 11; }
  bool strict = 12;
}`

// limits is the definition of a config Concern with a field of every form.
func limits(t testing.TB) configset.Definition {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"limits.proto": limitsProto}),
	})}
	files, err := compiler.Compile(context.Background(), "limits.proto")
	if err != nil {
		t.Fatal(err)
	}
	desc := files[0].Messages().ByName("Limits")
	get := func(m proto.Message, name protoreflect.Name) protoreflect.Value {
		return m.ProtoReflect().Get(desc.Fields().ByName(name))
	}
	return configset.Definition{
		Name: "limits", New: func() proto.Message { return dynamicpb.NewMessage(desc) },
		KeyOf: func(m proto.Message) string { return get(m, "id").String() },
		Validate: func(m proto.Message) error {
			if n := get(m, "max_characters").Int(); n > 100 {
				return txn.Errorf(txn.CodeInvalidArgument, "max_characters is %d; at most 100 make sense", n)
			}
			return nil
		},
	}
}

func parse(t *testing.T, d configset.Definition, text string) []proto.Message {
	t.Helper()
	instances, err := configset.Parse(d, []byte(text), "limits.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return instances
}

// world is a published platform.
func world(t *testing.T) (stream.Config, platform.Names) {
	t.Helper()
	log := streamtest.Config(t)
	cfg := platform.Config{Name: streamtest.Name("configset"), Concerns: []platform.Concern{{Name: "player", Partitions: 1}}}.WithDefaults()
	update, err := platform.PrepareUpdate(t.Context(), log, cfg)
	if err == nil {
		_, err = update.Apply(t.Context(), "test")
	}
	if err != nil {
		t.Fatal(err)
	}
	return log, cfg.Names()
}

func replace(t *testing.T, log stream.Config, names platform.Names, d configset.Definition, text, author string) *rkcyv1.ConfigVersion {
	t.Helper()
	r, err := configset.PrepareReplace(t.Context(), log, names, d, parse(t, d, text))
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.Apply(t.Context(), author)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestReplace(t *testing.T) {
	log, names := world(t)
	d := limits(t)
	if v := replace(t, log, names, d, "- {id: low, max_characters: 3}\n- {id: high, max_characters: 9, gold: {low: 1}}\n", "anna"); v.GetVersion() != 1 {
		t.Errorf("version %d, want 1", v.GetVersion())
	}
	r, err := configset.PrepareReplace(t.Context(), log, names, d, parse(t, d, "- {id: low, max_characters: 5, one: a, factor: 0.5}\n- {id: new}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range r.Changes {
		lines = append(lines, c.String())
	}
	want := `remove high: {"id":"high","max_characters":9,"gold":{"low":"1"}}
change low: max_characters: 3 -> 5, factor: (not set) -> 0.5, one: (not set) -> "a"
add new: {"id":"new"}`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if r.Current.GetVersion() != 1 || r.Current.GetAuthor() != "anna" {
		t.Errorf("current: %v", r.Current)
	}
	// Nothing was changed by looking; and the same again is no version.
	if v := replace(t, log, names, d, "- {id: high, gold: {low: 1}, max_characters: 9}\n- {id: low, max_characters: 3}\n", "ben"); v.GetVersion() != 1 || v.GetAuthor() != "anna" {
		t.Errorf("the same set made version %v", v)
	}
	if v, err := r.Apply(t.Context(), "ben"); err != nil || v.GetVersion() != 2 {
		t.Errorf("%v, %v", v, err)
	}
	// Another Concern shares the chain, and has a set of its own.
	other := d
	other.Name = "prices"
	if v := replace(t, log, names, other, "- id: a\n", "carl"); v.GetVersion() != 3 {
		t.Errorf("version %d, want 3", v.GetVersion())
	}
	if v := replace(t, log, names, d, "[]", "dora"); v.GetVersion() != 4 || len(v.GetInstances()) != 0 {
		t.Errorf("%v", v)
	}
}

// Of two people who replace something at the same time one wins, even if others
// have gone on before the loser looks.
func TestReplaceAtTheSameTime(t *testing.T) {
	log, names := world(t)
	d := limits(t)
	for round := range 3 {
		const operators = 4
		replacements := make([]*configset.Replacement, operators)
		for i := range replacements {
			instances := parse(t, d, fmt.Sprintf("- {id: of-%d, max_characters: %d}\n", i, round))
			var err error
			if replacements[i], err = configset.PrepareReplace(t.Context(), log, names, d, instances); err != nil {
				t.Fatal(err)
			}
		}
		errs := make([]error, operators)
		var wg sync.WaitGroup
		for i, r := range replacements {
			wg.Go(func() { _, errs[i] = r.Apply(t.Context(), fmt.Sprintf("operator-%d", i)) })
		}
		wg.Wait()
		var latest *rkcyv1.ConfigVersion
		if err := configset.Read(t.Context(), log, names, func(v *rkcyv1.ConfigVersion) { latest = v }); err != nil {
			t.Fatal(err)
		}
		if latest.GetVersion() != uint64(round+1) { //nolint:gosec // small
			t.Fatalf("version %d after round %d", latest.GetVersion(), round)
		}
		for i, err := range errs {
			if won := latest.GetAuthor() == fmt.Sprintf("operator-%d", i); won != (err == nil) {
				t.Errorf("operator %d: won %v, error %v", i, won, err)
			}
			if err != nil && (txn.CodeOf(err) != txn.CodeAborted || !strings.Contains(err.Error(), latest.GetAuthor())) {
				t.Errorf("operator %d: %v", i, err)
			}
		}
	}
	// A loser that wakes up when two versions lie between.
	late, err := configset.PrepareReplace(t.Context(), log, names, d, parse(t, d, "- id: late\n"))
	if err != nil {
		t.Fatal(err)
	}
	replace(t, log, names, d, "- id: x\n", "quick")
	replace(t, log, names, d, "- id: y\n", "quicker")
	if _, err := late.Apply(t.Context(), "late"); txn.CodeOf(err) != txn.CodeAborted || !strings.Contains(err.Error(), "quick ") {
		t.Errorf("late: %v", err)
	}
}

func send(t *testing.T, log stream.Config, names platform.Names, value []byte) {
	t.Helper()
	p, err := stream.NewProducer(log)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Send(t.Context(), names.ConfigTopic(), 0, []byte("limits"), value); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	log, names := world(t)
	var logged lockedBuffer
	log.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	d := limits(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	follow := func() (<-chan *configset.State, <-chan error) {
		states, done := make(chan *configset.State, 100), make(chan error, 1)
		go func() {
			done <- configset.Follow(ctx, log, names, []configset.Definition{d}, func(s *configset.State) { states <- s })
		}()
		return states, done
	}
	next := func(states <-chan *configset.State, version uint64, keys int) {
		t.Helper()
		select {
		case s := <-states:
			if s.Version != version || len(s.Sets["limits"].Instances) != keys {
				t.Errorf("version %d with %d instances, want %d with %d", s.Version, len(s.Sets["limits"].Instances), version, keys)
			}
		case <-time.After(time.Minute):
			t.Fatalf("version %d did not come", version)
		}
	}
	early, earlyDone := follow()
	next(early, 0, 0) // an empty topic is an answer, too
	replace(t, log, names, d, "- id: a\n", "anna")
	next(early, 1, 1)
	replace(t, log, names, d, "- id: a\n- id: b\n", "anna")
	next(early, 2, 2)

	// What cannot be used is passed over: it is no version at all; it lost; an
	// instance of it is broken; it has another key than it says.
	marshal := func(v *rkcyv1.ConfigVersion) []byte {
		raw, err := proto.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	send(t, log, names, []byte{0xff, 0xff})
	send(t, log, names, nil)
	send(t, log, names, marshal(&rkcyv1.ConfigVersion{Version: 2, Concern: "limits"}))
	send(t, log, names, marshal(&rkcyv1.ConfigVersion{Version: 3, Concern: "limits", Author: "vandal", Instances: []*rkcyv1.ConfigInstance{{Key: "a", Value: []byte{0xff}}}}))
	send(t, log, names, marshal(&rkcyv1.ConfigVersion{Version: 4, Concern: "limits", Instances: []*rkcyv1.ConfigInstance{{Key: "a"}}}))
	send(t, log, names, marshal(&rkcyv1.ConfigVersion{Version: 5, Concern: "not ours"}))
	late, lateDone := follow()
	next(late, 2, 2)
	if v := replace(t, log, names, d, "- id: c\n", "ben"); v.GetVersion() != 6 {
		t.Errorf("version %d, want 6", v.GetVersion())
	}
	next(early, 6, 1)
	next(late, 6, 1)
	stop()
	for _, done := range []<-chan error{earlyDone, lateDone} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"is not a version", "version=3", "vandal", "version=4", "the one before stays"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, logged.String())
		}
	}
}

func TestNotSetUp(t *testing.T) {
	log := streamtest.Config(t)
	names := platform.Config{Name: streamtest.Name("nowhere")}.WithDefaults().Names()
	_, err := configset.PrepareReplace(t.Context(), log, names, limits(t), nil)
	if txn.CodeOf(err) != txn.CodeNotFound || !strings.Contains(err.Error(), "platform update") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	log.Bootstrap = "127.0.0.1:1"
	if err := configset.Read(ctx, log, names, func(*rkcyv1.ConfigVersion) {}); txn.CodeOf(err) != txn.CodeUnavailable {
		t.Errorf("got %v", err)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
