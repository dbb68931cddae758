package isolation

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// parse makes an operation of a line: when it began and ended ("!" after the
// end: failed, "?": unknown), and its steps: a appends, r reads a list, w
// writes a register, g reads one.
//
//	0-9 a x 1; r y 1 2
func parse(t testing.TB, line string) Operation {
	t.Helper()
	when, what, _ := strings.Cut(line, " ")
	from, to, _ := strings.Cut(when, "-")
	op := Operation{}
	switch to[len(to)-1] {
	case '!':
		op.Outcome = Failed
	case '?':
		op.Outcome = Unknown
	}
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		return n
	}
	op.Invoke = time.Duration(number(from))
	op.Return = time.Duration(number(strings.TrimRight(to, "!?")))
	for step := range strings.SplitSeq(what, ";") {
		words := strings.Fields(step)
		s := Step{Object: Object{Concern: "c", Key: words[1]}}
		var numbers []int64
		for _, w := range words[2:] {
			numbers = append(numbers, number(w))
		}
		switch words[0] {
		case "a":
			s.Verb, s.Value = Append, numbers[0]
		case "w":
			s.Verb, s.Value = Write, numbers[0]
		case "r":
			s.Verb, s.Seen = ReadList, numbers
		case "g":
			s.Verb, s.Seen = ReadRegister, numbers
		default:
			t.Fatalf("%q: what is %q?", line, words[0])
		}
		op.Steps = append(op.Steps, s)
	}
	return op
}

func history(t testing.TB, lines ...string) History {
	t.Helper()
	var h History
	for i, l := range lines {
		op := parse(t, l)
		op.Client = i
		h = append(h, op)
	}
	return h
}

func mustCheck(t testing.TB, h History) *Report {
	t.Helper()
	r, err := Check(h)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Every kind of anomaly, alone or with those that it implies.
func TestCheckNamesAnomalies(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  []Kind
	}{
		{"G0", []string{"0-9 a x 1; a y 1", "0-9 a x 2; a y 2", "0-9 r x 1 2; r y 2 1"}, []Kind{G0}},
		{"G0 with an unknown writer", []string{"0-9? a x 1; a y 1", "0-9 a x 2; a y 2", "0-9 r x 1 2; r y 2 1"}, []Kind{G0}},
		{"G0 by what nobody saw", []string{"0-9 a x 1; a y 1", "0-9 a x 2; a y 2", "0-9 r x 1; r y 2"}, []Kind{GSingle, G0}},
		{"G0-realtime", []string{"0-1 a x 1", "2-3 a x 2", "2-9 r x 2 1"}, []Kind{"G0-realtime"}},
		{"G1a", []string{"0-1! a x 1", "0-9 r x 1"}, []Kind{G1a}},
		{"G1a below others", []string{"0-1! a x 1", "0-9 a x 2", "0-9 r x 1 2"}, []Kind{G1a}},
		{"G1a of a register", []string{"0-1! w p 1", "0-9 g p 1"}, []Kind{G1a}},
		{"G1b", []string{"0-9 a x 1; a x 2", "0-9 r x 1"}, []Kind{"G-single", G1b}},
		{"G1b before an own append", []string{"0-9 a x 1; a x 2", "0-9 r x 1; a x 3"}, []Kind{"G-single", G1b}},
		{"G1b of a register", []string{"0-9 w p 1; w p 2", "0-9 g p 1"}, []Kind{G1b}},
		{"G1c", []string{"0-9 a x 1; r y 1", "0-9 a y 1; r x 1"}, []Kind{G1c}},
		{"G1c with ww", []string{"0-9 a x 1; r y 1", "0-9 a x 2; a y 1", "0-9 r x 1 2"}, []Kind{G1c}},
		{"G1c over three", []string{"0-9 a x 1; r z 1", "0-9 r x 1; a y 1", "0-9 r y 1; a z 1"}, []Kind{G1c}},
		{"G1c of registers", []string{"0-9 w p 1; g q 1", "0-9 w q 1; g p 1"}, []Kind{G1c}},
		{"G1c-realtime", []string{"0-1 r x 1", "2-3 a x 1"}, []Kind{"G1c-realtime"}},
		{"G-single", []string{"0-9 r x; r y 1", "0-9 a x 1; a y 1", "0-9 r x 1"}, []Kind{GSingle}},
		{"G-single by what nobody saw", []string{"0-9 r x; r y 1", "0-9 a x 1; a y 1"}, []Kind{GSingle}},
		{"G-single with an unknown writer", []string{"0-9 r x; r y 1", "0-9? a x 1; a y 1"}, []Kind{GSingle}},
		{"G-single of registers", []string{"0-9 g p; g q 1", "0-9 w p 1; w q 1"}, []Kind{GSingle}},
		{"G-single-realtime", []string{"0-1 a x 1", "2-3 r x", "4-5 r x 1"}, []Kind{"G-single-realtime"}},
		{"G-single-realtime of a register", []string{"0-1 w p 1", "2-3 g p", "4-5 g p 1"}, []Kind{"G-single-realtime"}},
		{"G2-item", []string{"0-9 r x; a y 1", "0-9 r y; a x 1"}, []Kind{G2}},
		{"G2-item, read of both", []string{"0-9 r x 1; r y", "0-9 r x; r y 1", "0-9 a x 1", "0-9 a y 1"}, []Kind{G2}},
		{"G2-item of registers", []string{"0-9 g p; w q 1", "0-9 g q; w p 1"}, []Kind{G2}},
		{"G2-item-realtime", []string{"0-20 r x; r y 1", "2-3 a x 1", "4-20 r y", "0-20 a y 1"}, []Kind{"G2-item-realtime"}},
		{"lost update", []string{"0-9 r x; a x 1", "0-9 r x; a x 2", "0-9 r x 1 2"}, []Kind{GSingle, LostUpdate}},
		{"lost update, one unseen", []string{"0-9 r x; a x 1", "0-9 r x; a x 2", "0-9 r x 1"}, []Kind{GSingle, LostUpdate}},
		{"lost update, both unseen", []string{"0-9 r x; a x 1", "0-9 r x; a x 2"}, []Kind{G2, LostUpdate}},
		{"lost update of a register", []string{"0-9 w p 1", "0-9 g p 1; w p 2", "0-9 g p 1; w p 3"}, []Kind{G2, LostUpdate}},
		{"lost write", []string{"0-1 a x 1", "2-3 r x"}, []Kind{"G-single-realtime", LostWrite}},
		{"duplicate", []string{"0-9 a x 1", "0-9 r x 1 1"}, []Kind{Duplicate}},
		{"incompatible", []string{"0-9 a x 1", "0-9 a x 2", "0-9 r x 1 2", "0-9 r x 2"}, []Kind{Incompatible}},
		{"garbage", []string{"0-9 a x 1", "0-9 r x 1 7"}, []Kind{Garbage}},
		{"garbage in a register", []string{"0-9 g p 7"}, []Kind{Garbage}},
		{"internal: own append not seen", []string{"0-9 a x 1; r x"}, []Kind{Internal}},
		{"internal: two versions", []string{"0-9 a x 1", "0-9 r x; r x 1"}, []Kind{GSingle, Internal}},
		{"internal: append after a read", []string{"0-9 r x; a x 1; r x 2 1", "0-9 a x 2"}, []Kind{GSingle, Internal}},
		{"internal of a register", []string{"0-9 w p 1; g p 2", "0-9 w p 2"}, []Kind{Internal}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := mustCheck(t, history(t, c.lines...))
			want := slices.Clone(c.want)
			slices.Sort(want)
			if got := r.Kinds(); !slices.Equal(got, want) {
				t.Errorf("found %v, want %v\n%v", got, want, r)
			}
		})
	}
}

func TestCheckAcceptsValid(t *testing.T) {
	for name, lines := range map[string][]string{
		"nothing":                         nil,
		"one after another":               {"0-1 a x 1", "2-3 a x 2", "4-5 r x 1 2"},
		"concurrent either way":           {"0-9 a x 1", "0-9 r x", "0-9 r x 1"},
		"own appends":                     {"0-9 a x 1; r x 1; a x 2; r x 1 2", "0-9 r x 1 2; a x 3", "0-9 r x 1 2 3"},
		"own append without a look":       {"0-9 a x 1", "0-9 a x 2; r x 1 2"},
		"failed and not seen":             {"0-1! a x 1", "2-3 r x"},
		"unknown and not seen":            {"0-1? a x 1; a y 1", "2-3 r x; r y"},
		"unknown and seen late":           {"0-1? a x 1; a y 1", "2-3 r x; r y", "5-6 r x 1; r y 1"},
		"unknown, ended after its client": {"0-1? a x 1", "2-3 r x", "4-5 a x 2", "6-7 r x 2", "8-9 r x 2 1"},
		"the same instant":                {"0-5 a x 1", "5-9 r x"},
		"registers":                       {"0-1 w p 1", "2-3 g p 1; w p 2", "4-5 g p 2; w p 3; g p 3", "6-7 g p 3"},
		"blind writes":                    {"0-9 w p 1", "0-9 w p 2", "0-9 g p 1", "0-9 g p 2"},
		"a register that was never set":   {"0-9 g p", "0-9 g q"},
		"no reads":                        {"0-9 a x 1; a y 1", "0-9 a y 2; a x 2"},
	} {
		t.Run(name, func(t *testing.T) {
			h := history(t, lines...)
			if r := mustCheck(t, h); !r.Valid() {
				t.Error(r)
			}
			if l := Linearizable(h, time.Second); !l.Valid() || len(l.Undecided) > 0 {
				t.Error(l)
			}
		})
	}
}

// Values from different Concerns are different objects.
func TestCheckKeepsConcernsApart(t *testing.T) {
	h := history(t, "0-1 a x 1", "2-3 r x")
	h[1].Steps[0].Object.Concern = "other"
	if r := mustCheck(t, h); !r.Valid() || r.Objects != 2 {
		t.Error(r)
	}
}

func TestCheckRefusesBadHistories(t *testing.T) {
	for name, lines := range map[string][]string{
		"twice":             {"0-9 a x 1", "0-9 a x 1"},
		"list and register": {"0-9 a x 1", "0-9 w x 2"},
	} {
		if _, err := Check(history(t, lines...)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestReportIsReadable(t *testing.T) {
	r := mustCheck(t, history(t, "0-9 r x; r y 1", "0-9 a x 1; a y 1", "0-9 r x 1"))
	text := r.String()
	for _, want := range []string{
		"3 operations ok", "NOT strictly serializable", "G-single",
		"T0 client 0, 0s to 9ns, ok: read c/x: [], read c/y: [1]",
		"T0 -rw-> T1: T0 did not see 1 in c/x, which T1 put there",
		"T1 -wr-> T0: T0 saw 1 in c/y, which T1 put there",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if text := mustCheck(t, history(t, "0-9 r x")).String(); !strings.HasSuffix(text, "dependencies: strictly serializable") {
		t.Error(text)
	}
}

// A kind that is found many times is listed a few times and counted.
func TestReportIsBounded(t *testing.T) {
	var lines []string
	for i := range 20 {
		lines = append(lines, fmt.Sprintf("0-9! a k%d 1", i), fmt.Sprintf("0-9 r k%d 1", i))
	}
	r := mustCheck(t, history(t, lines...))
	if len(r.Anomalies) != most || r.More[G1a] != 20-most {
		t.Error(r)
	}
}

func TestHistoryIsWrittenAndRead(t *testing.T) {
	h := history(t, "0-9 a x 1; r x 1", "3-4? w p 5", "5-6! g p")
	h[0].Client = 3
	var file bytes.Buffer
	if err := h.Write(&file); err != nil {
		t.Fatal(err)
	}
	got, err := ReadHistory(&file)
	if err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := ReadHistory(strings.NewReader("{\n")); err == nil {
		t.Error("half a line was read")
	}
}

func TestRecorder(t *testing.T) {
	r := NewRecorder()
	x, p := Object{"list", "x"}, Object{"register", "p"}
	first := r.Begin(1, Step{Verb: Append, Object: x, Value: 1}, Step{Verb: ReadList, Object: x})
	second := r.Begin(2, Step{Verb: ReadRegister, Object: p})
	r.Begin(3, Step{Verb: Write, Object: p, Value: 4})
	first.End(OK, []int64{1})
	second.End(Failed)
	h := r.History()
	if h.Count(OK) != 1 || h.Count(Failed) != 1 || h.Count(Unknown) != 1 {
		t.Fatal(h)
	}
	if h[0].Steps[1].Seen[0] != 1 || h[0].Return < h[0].Invoke || h[1].Invoke < h[0].Invoke {
		t.Error(h[0])
	}
	if rep := mustCheck(t, h); !rep.Valid() {
		t.Error(rep)
	}
}
