package edgecmd_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	edgev1 "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1"
)

// batchServer runs batches of ReadPlayer: an id that begins with "bad" is not
// found. It keeps what it was sent.
func batchServer(t *testing.T) (*server, *[]*edgev1.BatchRequest) {
	var sent []*edgev1.BatchRequest
	s := serve(t, edgev1.File_rkcy_edge_v1_batch_proto.Services().ByName("BatchService"))
	s.answer = func(_ string, in proto.Message) (proto.Message, error) {
		b := &edgev1.BatchRequest{}
		raw, err := proto.Marshal(in)
		if err == nil {
			err = proto.Unmarshal(raw, b)
		}
		if err != nil {
			return nil, err
		}
		sent = append(sent, b)
		out := &edgev1.BatchResponse{}
		for _, e := range b.GetItems() {
			var p rpgv1.ReadPlayerRequest
			if err := proto.Unmarshal(e.GetBody(), &p); err != nil {
				return nil, err
			}
			a := &edgev1.Answer{RequestId: e.GetRequestId()}
			if strings.HasPrefix(p.GetId(), "bad") {
				a.Outcome = &edgev1.Answer_Error{Error: status.New(codes.NotFound, "no \u009b").Proto()}
			} else {
				body, err := proto.Marshal(&rpgv1.PlayerView{Id: p.GetId(), Username: "a\x1b"})
				if err != nil {
					return nil, err
				}
				a.Outcome = &edgev1.Answer_Body{Body: body}
			}
			out.Results = append(out.Results, a)
		}
		return out, nil
	}
	return s, &sent
}

func fileOf(t *testing.T, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "requests.jsonl")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func readLine(i int, id string) string {
	return fmt.Sprintf(`{"method":"ReadPlayer","request_id":"%d","idempotency_key":"k%d","body":{"id":%q}}`, i, i, id)
}

type line struct {
	ID    string                     `json:"request_id"`
	Body  *struct{ Username string } `json:"body"`
	Error *struct{ Code int }        `json:"error"`
}

func linesOf(t *testing.T, out string) (all []line) {
	t.Helper()
	printableOnly(t, out)
	for text := range strings.Lines(out) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		all = append(all, l)
	}
	return all
}

func TestBatch(t *testing.T) {
	s, sent := batchServer(t)
	file := fileOf(t, readLine(0, "p"), "", `{"method":"/rpg.v1.RpgService/ReadPlayer","body":{"id":"bad"}}`, readLine(2, "q"))
	o := s.run(t, rpg(), "batch", "-f", file, "--mode", "parallel", "--max-parallel", "7")
	got := linesOf(t, o.out)
	if o.code != 3 || o.err != "1 of 3 requests failed" || len(got) != 3 || got[0].Body.Username != "a\x1b" || got[1].Error.Code != int(codes.NotFound) || got[2].ID != "2" {
		t.Errorf("exit %d %s\n%s", o.code, o.err, o.out)
	}
	b := (*sent)[0]
	if b.GetMode() != edgev1.BatchRequest_PARALLEL || b.GetMaxParallel() != 7 || b.GetItems()[0].GetMethod() != "rpg.v1.RpgService/ReadPlayer" || b.GetItems()[2].GetIdempotencyKey() != "k2" {
		t.Errorf("sent %v", b)
	}
	if o := s.run(t, rpg(), "batch", "-f", fileOf(t, readLine(0, "p"))); o.code != 0 || (*sent)[1].GetMode() != edgev1.BatchRequest_ORDERED {
		t.Errorf("exit %d %s", o.code, o.err)
	}
}

// A long file goes in several batches; with --mode stop none follows one that
// failed, and every request still has its line.
func TestLongBatch(t *testing.T) {
	s, sent := batchServer(t)
	lines := make([]string, 1203)
	for i := range lines {
		lines[i] = readLine(i, "p")
	}
	lines[700] = readLine(700, "bad")
	for mode, want := range map[string]struct{ batches, failed int }{"ordered": {3, 1}, "stop": {2, 1 + 203}} {
		*sent = nil
		o := s.run(t, rpg(), "batch", "-f", fileOf(t, lines...), "--mode", mode)
		got := linesOf(t, o.out)
		if o.code != 3 || len(got) != len(lines) || len(*sent) != want.batches || o.err != fmt.Sprintf("%d of 1203 requests failed", want.failed) {
			t.Fatalf("%s: exit %d %s, %d lines, %d batches", mode, o.code, o.err, len(got), len(*sent))
		}
		for i, l := range got {
			if l.ID != fmt.Sprint(i) {
				t.Fatalf("%s: line %d is of %s", mode, i, l.ID)
			}
		}
	}
}

// Nothing is sent if a line cannot be meant.
func TestBatchUsage(t *testing.T) {
	s, sent := batchServer(t)
	good := fileOf(t, readLine(0, "p"))
	bad := fileOf(t, `{"method":"ReadPlayr"}`, readLine(1, "p"), `{`, `{"method":"ReadPlayer","body":{"ide":"1"}}`, `{"method":"other.v1.S/Do"}`, `{"mthod":""}`)
	o := s.run(t, rpg(), "batch", "-f", bad)
	for _, want := range []string{`line 1: "ReadPlayr"`, `did you mean "ReadPlayer"`, "line 3: ", "line 4: body: ", "line 5: ", "line 6: unknown field"} {
		if o.code != 2 || !strings.Contains(o.err, want) {
			t.Errorf("exit %d, %q is not in %s", o.code, want, o.err)
		}
	}
	for _, args := range [][]string{
		{}, {"-f", filepath.Join(t.TempDir(), "none")}, {"-f", fileOf(t)}, {"-f", good, "--mode", "atomic"}, {"-f", good, "--max-parallel", "2"},
		{"-f", good, "x"}, {"-f", good, "--idempotency-key", "k"}, {"-f", good, "--timeout", "0s"},
	} {
		if o := s.run(t, rpg(), append([]string{"batch"}, args...)...); o.code != 2 {
			t.Errorf("%v: exit %d %s", args, o.code, o.err)
		}
	}
	if len(*sent) != 0 {
		t.Errorf("sent %v", *sent)
	}
	if o := command(t.Context(), rpg(), nil, "edge", "batch", "-f", good, "--edge", "127.0.0.1:1"); o.code != 4 {
		t.Errorf("nobody serves: exit %d %s", o.code, o.err)
	}
}
