package chaos

import (
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/internal/isolation"
)

// The judge must be able to find each kind of fault.
func TestJudgeFinds(t *testing.T) {
	at := func(c string) isolation.Object { return isolation.Object{Concern: c, Key: "k0"} }
	world := func() (*load, *feed) {
		l := &load{t: t}
		f := &feed{last: map[isolation.Object]row{}, ops: map[int64]map[isolation.Object]string{}}
		for _, o := range objects() {
			f.last[o] = row{firstEntry(o.Concern), 1}
		}
		for i, outcome := range []isolation.Outcome{isolation.OK, isolation.Failed, isolation.Unknown, isolation.Unknown} {
			o := l.begin([]step{{Concern: left, Key: "k0", Command: commandEnter, Entry: "-5"}, {Concern: right, Key: "k0", Command: commandEnter, Entry: "5"}})
			o.outcome = outcome
			if i == 0 || i == 2 {
				f.ops[o.number] = map[isolation.Object]string{at(left): o.steps[0].Entry, at(right): o.steps[1].Entry}
			}
		}
		f.last[at(left)], f.last[at(right)] = row{"0:1000 1:-5 3:-5", 3}, row{"0:1000 1:5 3:5", 3}
		return l, f
	}
	l, f := world()
	if wrong := l.judge(f); len(wrong) > 0 {
		t.Errorf("nothing is wrong, and it says %q", wrong)
	}
	for name, c := range map[string]struct {
		spoil func(*feed)
		want  string
	}{
		"lost":      {func(f *feed) { delete(f.ops, 1) }, "lost"},
		"half lost": {func(f *feed) { delete(f.ops[1], at(left)) }, "1 of 2 effects are lost"},
		"refused":   {func(f *feed) { f.ops[2] = map[isolation.Object]string{at(left): "2:-5"} }, "was refused"},
		"torn":      {func(f *feed) { delete(f.ops[3], at(right)) }, "torn"},
		"elsewhere": {func(f *feed) { f.ops[1][at(counter)] = "1:5" }, "asked for was"},
		"altered":   {func(f *feed) { f.ops[1][at(left)] = "1:-6" }, "not \"1:-5\""},
		"invented":  {func(f *feed) { f.ops[9] = map[isolation.Object]string{at(left): "9:1"} }, "nobody asked for"},
		"sum":       {func(f *feed) { f.last[at(left)] = row{"0:1000", 1} }, "all accounts together have"},
		"negative":  {func(f *feed) { f.last[at(list)] = row{"0:-1", 1} }, "has -1"},
		"feed":      {func(f *feed) { f.fault("gap") }, "gap"},
	} {
		l, f := world()
		c.spoil(f)
		if wrong := strings.Join(l.judge(f), "\n"); !strings.Contains(wrong, c.want) {
			t.Errorf("%s: it says %q", name, wrong)
		}
	}
}
