package concern

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Recordings are what programs of the past have left in logs. They are made
// once, of what is new, and are never changed.
var record = flag.Bool("record", false, "record what testdata/wire does not have yet")

const wireDir = "testdata/wire"

// wireMessages returns every message that is written to a topic, by the name
// of its recording. A record of several kinds is there once for each.
func wireMessages() map[string]proto.Message {
	out := map[string]proto.Message{
		"change": &rkcyv1.Change{}, "response": &rkcyv1.Response{}, "quarantined": &rkcyv1.Quarantined{},
		"platform": &rkcyv1.PlatformVersion{}, "config": &rkcyv1.ConfigVersion{},
		"unique": &rkcyv1.UniqueEntry{}, "update": &rkcyv1.UpdatePayload{},
	}
	for prefix, m := range map[string]proto.Message{
		"process": &rkcyv1.ProcessRecord{}, "state": &rkcyv1.StateRecord{}, "journal": &rkcyv1.PlatformRecord{},
	} {
		kinds := m.ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
		for i := range kinds.Len() {
			one := m.ProtoReflect().New()
			one.Mutable(kinds.Get(i))
			out[prefix+"."+string(kinds.Get(i).Name())] = one.Interface()
		}
	}
	return out
}

// Every envelope that was ever recorded is understood: its fields have the
// meaning that they had. It is recorded with every field set.
func TestRecordedEnvelopes(t *testing.T) {
	seen := map[string]bool{}
	for name, empty := range wireMessages() {
		file := filepath.Join(wireDir, name)
		if *record {
			recordEnvelope(t, file, empty)
		}
		files, err := filepath.Glob(file + "*.pb") // more than one if fields were added later
		if err != nil || len(files) == 0 {
			t.Errorf("%s was never recorded; run go test ./pkg/concern -run RecordedEnvelopes -record (%v)", name, err)
		}
		for _, f := range files {
			seen[f] = true
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(strings.TrimSuffix(f, ".pb") + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			got, want := empty.ProtoReflect().New().Interface(), empty.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(raw, got); err != nil {
				t.Errorf("%s: %v", f, err)
				continue
			}
			if err := prototext.Unmarshal(text, want); err != nil {
				t.Errorf("%s: a field that it has is not known any more: %v", f, err)
				continue
			}
			if !proto.Equal(got, want) {
				t.Errorf("%s was\n%v\nand is now\n%v", f, want, got)
			}
		}
	}
	have, err := filepath.Glob(wireDir + "/*.pb")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range have {
		if !seen[f] {
			t.Errorf("nobody reads %s any more", f)
		}
	}
}

// recordEnvelope records a message with every field set, unless a recording has
// them all.
func recordEnvelope(t *testing.T, file string, empty proto.Message) {
	t.Helper()
	full := proto.Clone(empty)
	fillKind(full.ProtoReflect())
	for n := 1; ; n++ {
		at := file
		if n > 1 {
			at = fmt.Sprintf("%s.%d", file, n)
		}
		raw, err := os.ReadFile(at + ".pb")
		if err == nil {
			have := empty.ProtoReflect().New().Interface()
			if proto.Unmarshal(raw, have) == nil && proto.Equal(have, full) {
				return
			}
			continue
		}
		if raw, err = (proto.MarshalOptions{Deterministic: true}).Marshal(full); err != nil {
			t.Fatal(err)
		}
		text, err := prototext.MarshalOptions{Multiline: true}.Marshal(full)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(wireDir, 0o755); err != nil { //nolint:gosec // part of the repository
			t.Fatal(err)
		}
		for suffix, data := range map[string][]byte{".pb": raw, ".txt": text} {
			if err := os.WriteFile(at+suffix, data, 0o644); err != nil { //nolint:gosec // part of the repository
				t.Fatal(err)
			}
		}
		return
	}
}

// fillKind sets every field; of a oneof that is set, the member that is.
func fillKind(m protoreflect.Message) {
	kind := m.Descriptor().Oneofs().ByName("kind")
	if kind == nil {
		fill(m)
		return
	}
	fill(m.Mutable(m.WhichOneof(kind)).Message())
}

// logLine is a record of a recorded log.
type logLine struct {
	Topic      string `json:"topic"`
	Key, Value []byte
}

// recordedLog is a log in whose middle the programs of the past ended: a rename
// that holds a parent and a name, one that waits for it, a child on its way to
// its parent.
const recordedLog = wireDir + "/log.json"

func recordLog(t *testing.T) {
	t.Helper()
	k := newKin(t, false)
	k.run(0, create("parent", "p1", "anna", ""))
	k.run(0, create("parent", "p2", "bert", ""))
	k.run(0, create("child", "c1", "x", "p1"))
	k.submitSteps(rename("parent", "p1", "zoe"), rename("child", "c1", "y"))
	k.work("parent", false)
	k.submitSteps(rename("parent", "p1", "yvonne"))
	k.work("parent", false)
	k.submit(addTo("p2", "c2", "z"))
	var lines []logLine
	for _, c := range kinConcerns {
		for _, topic := range []string{"process.", "state.", "storage."} {
			for _, r := range k.log[tpOfTopic(topic+c)] {
				lines = append(lines, logLine{topic + c, r.Key, r.Value})
			}
		}
	}
	for tp, offset := range k.committed {
		lines = append(lines, logLine{"committed", []byte(tp.Topic), fmt.Append(nil, offset)})
	}
	raw, err := json.MarshalIndent(lines, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(recordedLog, raw, 0o644); err != nil { //nolint:gosec // part of the repository
		t.Fatal(err)
	}
}

// What programs of the past left unfinished is finished.
func TestRecordedLog(t *testing.T) {
	if _, err := os.Stat(recordedLog); err != nil && *record {
		recordLog(t)
	}
	raw, err := os.ReadFile(recordedLog)
	if err != nil {
		t.Fatal(err)
	}
	var lines []logLine
	if err := json.Unmarshal(raw, &lines); err != nil {
		t.Fatal(err)
	}
	inBothLayouts(t, func(k *kin) {
		held := 0
		for _, l := range lines {
			if l.Topic == "committed" {
				var offset int64
				if _, err := fmt.Sscan(string(l.Value), &offset); err != nil {
					t.Fatal(err)
				}
				k.committed[tpOfTopic(string(l.Key))] = offset
				continue
			}
			if strings.HasPrefix(l.Topic, "state.") && len(l.Value) > 0 {
				held++
			}
			k.append(stream.Record{Topic: l.Topic, Key: l.Key, Value: l.Value})
		}
		if held < 2 {
			t.Fatalf("the log has %d state records; it shows nothing", held)
		}
		k.takeOver(kinConcerns...)
		k.rest()
		for n, code := range map[byte]txn.Code{4: 0, 5: 0, 6: 0} {
			k.ended(txn.ID{15: n}, code)
		}
		k.knows("p1", "c1:y")
		k.knows("p2", "c2:z")
		k.taken("bert=p2 yvonne=p1")
		k.consistent()
		k.free()
	})
}
