package inspect_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// types has a Concern "thing" whose instances, payloads and results are borrowed
// from the platform.
func types() inspect.Types {
	own := map[string]func() proto.Message{"Take": func() proto.Message { return new(rkcyv1.UniqueEntry) }}
	return inspect.Types{"thing": {Instance: func() proto.Message { return new(rkcyv1.UniqueEntry) }, Payload: own, Result: own}}
}

func topic(kind platform.Kind) string { return platform.TopicName("p", "e", "thing", kind, 1) }

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func entry(t testing.TB, owner string) []byte {
	return marshal(t, &rkcyv1.UniqueEntry{Value: "v", Owner: owner})
}

// What is in records as bytes is shown as what it is: payloads, results also of
// responses, which do not say themselves, instances, those of quarantined steps.
func TestDecodeBytes(t *testing.T) {
	id := txn.NewID()
	transaction := &rkcyv1.Transaction{
		Id: id[:], SubmitTimeMs: 1_700_000_000_123,
		Steps: []*rkcyv1.Step{
			{Concern: "thing", Key: "a", Command: "Take", Payload: entry(t, "payload")},
			{Concern: "thing", Key: "b", Command: txn.CommandUpdate, Payload: marshal(t, &rkcyv1.UpdatePayload{Value: entry(t, "updated"), Paths: []string{"owner"}})},
			{Concern: "other", Key: "c", Command: "Unknown", Payload: []byte("zzz")},
		},
		Visits: []*rkcyv1.VisitPlan{{Steps: []uint32{0}}, {Steps: []uint32{1}}, {Steps: []uint32{2}}},
	}
	d := inspect.NewDecoder(types())
	visit := &rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: &rkcyv1.Visit{
		Txn: transaction, Attempt: 2, Visit: 1, Results: []*rkcyv1.StepResult{{Value: entry(t, "result"), Version: 4}},
	}}}
	for _, c := range []struct {
		kind  platform.Kind
		value proto.Message
		what  string
		key   string
		words []string
	}{
		{platform.KindProcess, visit, "visit", "b", []string{`"owner":"payload"`, `"owner":"updated"`, `"paths":["owner"]`, `"owner":"result"`, "base64:enp6", "2023-11-14T22:13:20.123Z", id.String()}},
		{platform.KindResponse, &rkcyv1.Response{TxnId: id[:], Results: []*rkcyv1.StepResult{{Value: entry(t, "answered")}}}, "answer", "", []string{`"owner":"answered"`}},
		{platform.KindResponse, &rkcyv1.Response{TxnId: id[:], Error: &rkcyv1.Error{Code: rkcyv1.Code_CODE_NOT_FOUND, Message: "gone"}}, "refusal", "", []string{"gone"}},
		{platform.KindStorage, &rkcyv1.Change{Key: "a", TxnId: id[:], After: &rkcyv1.Instance{Version: 3, Value: entry(t, "after")}}, "change", "a", []string{`"owner":"after"`}},
		{platform.KindStorage, &rkcyv1.Change{Key: "a", TxnId: id[:]}, "deleted", "a", nil},
		{platform.KindState, &rkcyv1.StateRecord{Kind: &rkcyv1.StateRecord_Hold{Hold: &rkcyv1.Hold{TxnId: id[:], Key: "a", Pending: &rkcyv1.Instance{Version: 1, Value: entry(t, "pending")}}}}, "hold", "a", []string{`"owner":"pending"`}},
		{platform.KindState, &rkcyv1.StateRecord{Kind: &rkcyv1.StateRecord_Parked{Parked: &rkcyv1.Parked{Key: "b", Visit: visit.GetVisit(), Stuck: true}}}, inspect.StateStuck, "b", []string{`"owner":"payload"`}},
		{platform.KindError, &rkcyv1.Quarantined{Topic: "t", Reason: "why", TxnId: id[:], Key: []byte("a"), Value: marshal(t, transaction.GetSteps()[0])}, "quarantined", "a", []string{`"owner":"payload"`, `"reason":"why"`}},
		{platform.KindError, &rkcyv1.Quarantined{Topic: "t", Reason: "why", Value: marshal(t, visit)}, "quarantined", "", []string{`"owner":"payload"`}},
		{platform.KindStorage, &rkcyv1.Change{Key: "a", After: &rkcyv1.Instance{Version: 3, Value: []byte{0xff}}}, "change", "a", []string{`"undecodable":"base64:/w=="`, "not a rkcy.v1.UniqueEntry"}},
	} {
		e := d.Decode(stream.Record{Topic: topic(c.kind), Value: marshal(t, c.value), Time: time.Now()})
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if e.What != c.what || e.Key != c.key {
			t.Errorf("%s of %q, want %s of %q", e.What, e.Key, c.what, c.key)
		}
		for _, w := range c.words {
			if !strings.Contains(string(raw), w) {
				t.Errorf("%s lacks %s: %s", c.what, w, raw)
			}
		}
	}
}

// Every record that processors have ever written can be decoded.
func TestDecodeRecorded(t *testing.T) {
	files, err := filepath.Glob("../../concern/testdata/wire/*.pb")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d recorded records, %v", len(files), err)
	}
	for _, file := range files {
		kind := map[string]platform.Kind{
			"process": platform.KindProcess, "state": platform.KindState, "change": platform.KindStorage, "response": platform.KindResponse,
			"quarantined": platform.KindError, "platform": platform.KindPlatform, "journal": platform.KindPlatform, "config": platform.KindConfig,
		}[strings.Split(filepath.Base(file), ".")[0]]
		if kind == "" {
			continue // a payload
		}
		key := "k"
		if kind == platform.KindPlatform && strings.HasPrefix(filepath.Base(file), "platform.") {
			key = "config" // what tells a version from the other records
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e := inspect.NewDecoder(types()).Decode(stream.Record{Topic: topic(kind), Key: []byte(key), Value: raw})
		if e.What == "undecodable" || e.What == "" || e.Record == nil {
			t.Errorf("%s: %q %q", file, e.What, e.Text)
		}
	}
}

// Whatever is in a topic, a decoder says something that a terminal can show.
func FuzzDecode(f *testing.F) {
	id := txn.NewID()
	f.Add("state", append(append([]byte{'h'}, id[:]...), 0, 0, 0, 1, 0, 0, 0, 0), []byte(nil))
	f.Add("state", []byte("s"), []byte(nil))
	f.Add("process", []byte("k\x1b[2J"), []byte("\xff\xfe"))
	f.Add("error", []byte(nil), marshal(f, &rkcyv1.Quarantined{Reason: "\x1b]0;x\x07", Key: id[:]}))
	f.Add("process", []byte(nil), marshal(f, &rkcyv1.ProcessRecord{Kind: &rkcyv1.ProcessRecord_Visit{Visit: &rkcyv1.Visit{
		Txn: &rkcyv1.Transaction{Steps: []*rkcyv1.Step{{}}, Visits: []*rkcyv1.VisitPlan{{Steps: []uint32{7}}}}, Visit: 4_000_000_000,
	}}}))
	f.Add("nosuch", []byte("k"), []byte("v"))
	f.Fuzz(func(t *testing.T, kind string, key, value []byte) {
		d := inspect.NewDecoder(types())
		e := d.Decode(stream.Record{Topic: fmt.Sprintf("rkcy.p.e.thing.%s.0001", kind), Key: key, Value: value})
		if e.What == "" {
			t.Error("it says nothing")
		}
		for _, r := range e.Line() {
			if !unicode.IsPrint(r) {
				t.Errorf("the line has %q", r)
			}
		}
		for _, r := range e.Details("  ") {
			if !unicode.IsPrint(r) && r != '\n' {
				t.Errorf("the details have %q", r)
			}
		}
	})
}
