package configset_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/configset"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

func TestParse(t *testing.T) {
	d := limits(t)
	const text = `# all of it
- id: full
  max_characters: 0x10
  mode: MODE_HARD
  gold: &range {low: -5, high: 9007199254740993}
  tiers:
    - *range
    - {high: 2}
  tags: [a, "1", 'true']
  by_name: {x: 1, y: 2}
  factor: 0.1
  since: "2026-01-02T03:04:05Z"
  one: left
  strict: true
- {id: empty, tags: null, maxCharacters: 7}
`
	got := parse(t, d, text)
	want := []string{
		`{"id":"full","max_characters":16,"mode":"MODE_HARD","gold":{"low":"-5","high":"9007199254740993"},` +
			`"tiers":[{"low":"-5","high":"9007199254740993"},{"high":"2"}],"tags":["a","1","true"],"by_name":{"x":"1","y":"2"},` +
			`"factor":0.1,"since":"2026-01-02T03:04:05Z","one":"left","strict":true}`,
		`{"id":"empty","max_characters":7}`,
	}
	if len(got) != 2 {
		t.Fatalf("%d instances", len(got))
	}
	for i := range got {
		if configset.JSON(got[i]) != want[i] {
			t.Errorf("got  %s\nwant %s", configset.JSON(got[i]), want[i])
		}
	}
	// What is shown can be read again, as JSON and as YAML.
	for _, file := range []string{"x.json", "x.yaml"} {
		again, err := configset.Parse(d, []byte("["+strings.Join(want, ",\n")+"]"), file)
		if err != nil || len(again) != 2 || !proto.Equal(again[0], got[0]) || !proto.Equal(again[1], got[1]) {
			t.Errorf("%s: %v, %v", file, again, err)
		}
	}
	if none, err := configset.Parse(d, []byte("[]"), "x.yaml"); err != nil || none == nil || len(none) != 0 {
		t.Errorf("%v, %v", none, err)
	}
}

// laughs returns a short file with 10 to the power of n values.
func laughs(n int) string {
	levels := []string{"&l0 [" + strings.Repeat("x, ", 9) + "x]"}
	for i := 1; i < n; i++ {
		levels = append(levels, fmt.Sprintf("&l%d [%s]", i, strings.Join(slices.Repeat([]string{fmt.Sprintf("*l%d", i-1)}, 10), ", ")))
	}
	return "- {id: x, since: [" + strings.Join(levels, ", ") + "]}\n"
}

// Every fault is told, with its line.
func TestParseFaults(t *testing.T) {
	d := limits(t)
	for name, c := range map[string]struct {
		file, text string
		want       []string
	}{
		"all at once": {"limits.yaml", `- id: a
  max_charakters: 3
  mode: MODE_SOFT
  strict: "yes"
- id: b
  max_characters: many
  gold:
    low: 1.5
    hihg: 3
  tiers: [{low: x}]
- max_characters: 5
- id: c
  max_characters: 101
- {id: d}
- {id: d}
- 17
`, []string{
			`limits.yaml:2: [0].max_charakters: there is no such field (did you mean "max_characters"?); allowed are id, max_characters`,
			`limits.yaml:3: [0].mode: invalid value for enum`,
			`limits.yaml:4: [0].strict: invalid value for bool`,
			`limits.yaml:6: [1].max_characters: invalid value for int32`,
			`limits.yaml:8: [1].gold.low: invalid value for int64`,
			`limits.yaml:9: [1].gold.hihg: there is no such field (did you mean "high"?)`,
			`limits.yaml:10: [1].tiers[0].low: invalid value for int64`,
			`limits.yaml:11: [2]: the key is empty`,
			`limits.yaml:12: [3]: max_characters is 101; at most 100 make sense`,
			`limits.yaml:15: [5]: the key "d" is there twice, first in line 14`,
			`limits.yaml:16: [6]: a number stands where the fields id, max_characters`,
		}},
		"kinds": {"l.yaml", `- id: [x]
- {id: y, tags: z}
- {id: z, by_name: [1]}
- {id: u, by_name: {n: x}}
- {id: v, one: a, other: b}
- {id: w, since: yesterday}
- {id: 5}
- {id: t, gold: 3}
- {id: s, max_characters: 3000000000}
`, []string{
			"l.yaml:1: [0].id: ", "l.yaml:2: [1].tags: text stands where a list", "l.yaml:3: [2].by_name: a list stands where a set of names",
			"l.yaml:4: [3].by_name.n: invalid value", "l.yaml:5: [4].other: it takes the place of one", "l.yaml:6: [5].since: ",
			"l.yaml:7: [6].id: invalid value for string", "l.yaml:8: [7].gold: a number stands where the fields low, high",
			"l.yaml:9: [8].max_characters: invalid value for int32",
		}},
		"empty":        {"l.yaml", "# nothing\n", []string{"l.yaml: the file is empty"}},
		"no list":      {"l.yaml", "id: a\n", []string{"l.yaml:1: a set of fields stands where the list of all instances of limits"}},
		"two":          {"l.yaml", "- id: a\n---\n- id: b\n", []string{"second document"}},
		"twice":        {"l.yaml", "- id: a\n  id: b\n", []string{"l.yaml:2: "}},
		"syntax":       {"l.yaml", "- id: a\n  max_characters: [1\n", []string{"l.yaml:2: "}},
		"json":         {"l.json", "[\n{\"id\": \"a\"},\n]", []string{"l.json:3: not valid JSON"}},
		"yaml in json": {"l.json", "- id: a", []string{"not valid JSON"}},
		"alias":        {"l.yaml", "- id: *nothing\n", []string{"no anchor"}},
		"circle":       {"l.yaml", "- &a\n  id: x\n  gold: *a\n", []string{"l.yaml:2: ", "l.yaml:3: "}},
		"circle again": {"l.yaml", "- {id: x, since: &a [*a, *a]}\n", []string{"[0].since: nested too deep"}},
		"laughs":       {"l.yaml", laughs(8), []string{"too large", "[0].since: "}},
		"not UTF-8":    {"l.yaml", "- id: \"\xff\"\n", []string{"UTF-8"}},
		"long key":     {"l.yaml", "- id: " + strings.Repeat("k", txn.MaxKeyBytes+1), []string{"l.yaml:1: [0]: the key has"}},
		"too large":    {"l.yaml", "- id: a\n  one: " + strings.Repeat("x", configset.MaxBytes), []string{"the set has"}},
	} {
		t.Run(name, func(t *testing.T) {
			instances, err := configset.Parse(d, []byte(c.text), c.file)
			faults, ok := errors.AsType[platform.Faults](err)
			if !ok || instances != nil {
				t.Fatalf("got %v, %v", instances, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("it lacks %q:\n%v", want, err)
				}
			}
			if len(faults) != len(c.want) {
				t.Errorf("%d faults, want %d:\n%v", len(faults), len(c.want), err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"- id: a\n", "[{\"id\":\"a\",\"tiers\":[{}]}]", "- &a {id: x, gold: *a}\n", "- ? [a]\n  : b\n", "- <<: {id: a}\n", "? ", "- {by_name: {? a}}", "- {since: &a [*a, *a]}"} {
		f.Add([]byte(text))
	}
	d := limits(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		instances, err := configset.Parse(d, data, "x.yaml")
		if (err == nil) != (instances != nil) {
			t.Fatalf("%v, %v", instances, err)
		}
		for _, m := range instances {
			if d.KeyOf(m) == "" {
				t.Error("an empty key")
			}
		}
	})
}
