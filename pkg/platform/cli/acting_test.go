package cli_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

// Operators change the platform, pause and resume, and all of it is in the audit log.
// What is wrong is refused, and changes nothing.
func TestOperators(t *testing.T) {
	s := newServers(t)
	s.want(t, 0, []string{"done: version 1", "acknowledged by 0 members"}, "platform", "update")
	s.want(t, 0, nil, "db", "migrate")
	s.node(t, node.AllRoles())

	for _, c := range []struct {
		words []string
		args  []string
	}{
		{[]string{"--reason"}, []string{"pause", "character"}},
		{[]string{"a Concern and a partition"}, []string{"pause", "--reason", "x"}},
		{[]string{"a Concern and a partition"}, []string{"pause", "character", "--target", "main", "--reason", "x"}},
		{[]string{`"-1" is not a partition`}, []string{"pause", "--reason", "x", "character", "--", "-1"}},
		{[]string{`did you mean "character"`}, []string{"pause", "charakter", "--reason", "x"}},
		{[]string{"it has 0 to 1"}, []string{"pause", "character", "7", "--reason", "x"}},
		{[]string{`no storage target "mein"`}, []string{"pause", "--target", "mein", "--reason", "x"}},
		{[]string{"name a filter, or --all"}, []string{"txn", "cancel-all", "--reason", "x"}},
		{[]string{"--reason"}, []string{"txn", "cancel-all", "--all"}},
		{[]string{`did you mean "player"`}, []string{"txn", "retry-all", "--concern", "plaier", "--dry-run"}},
		{[]string{"allowed are 1 to 10000"}, []string{"txn", "cancel-all", "--all", "--dry-run", "--limit", "-2"}},
		{[]string{`"storage" cannot be purged`}, []string{"purge", "--kind", "storage", "--dry-run"}},
		{[]string{"is not the number of a version"}, []string{"platform", "rollback", "zero"}},
		{[]string{"takes the number of a version"}, []string{"platform", "rollback"}},
		{[]string{"--since"}, []string{"audit", "--since", "yesterday"}},
		{[]string{"at least 1"}, []string{"instance", "history", "character", "c1", "--count", "0"}},
	} {
		s.wantArgs(t, 2, c.words, c.args)
	}
	s.want(t, 3, []string{"is not paused; paused is nothing"}, "resume", "player", "--reason", "x")
	s.want(t, 3, []string{"keeps records for"}, "purge", "--kind", "process", "--older-than", "1m", "--dry-run")
	s.want(t, 3, []string{"version 1 is the published one"}, "platform", "rollback", "1")
	s.want(t, 3, []string{"version 7 is expected, but version 1 is published"}, "platform", "update", "--expected-version", "7")
	s.want(t, 0, []string{"update"}, "audit") // none of it is in the log
	if out := s.want(t, 0, nil, "audit", "--json").out; strings.Count(out, `"id"`) != 1 {
		t.Errorf("audit: %s", out)
	}

	s.want(t, 0, []string{"paused: Concern character", "bad release"}, "pause", "character", "--reason", "bad release")
	s.want(t, 0, []string{"paused: partition 1 of Concern player"}, "pause", "player", "1", "--reason", "hot")
	s.want(t, 0, []string{"paused: Concern character, by ", "bad release"}, "status")
	s.want(t, 0, []string{"warning", "paused: Concern character"}, "doctor", "--data-dir", t.TempDir())
	s.want(t, 0, []string{"paused: partition 1 of Concern player"}, "resume", "character", "--reason", "mended")
	s.want(t, 0, []string{"nothing is paused"}, "resume", "player", "1", "--reason", "cold")

	// A change of the configuration, and back.
	longer := s.rewrite(t, "partitions: 2}", "partitions: 2, retention: {error: 60d}}")
	diff := longer.want(t, 0, []string{"retention.error: 60d instead of 30d"}, "platform", "diff").out
	if !strings.Contains(diff, "concerns[") {
		t.Errorf("diff: %s", diff)
	}
	longer.want(t, 0, []string{"dry run", "change topic"}, "platform", "update", "--dry-run")
	longer.want(t, 0, []string{"done: version 2", "acknowledged by 1 member"}, "platform", "update", "--reason", "more time", "--ack-timeout", "1m")
	s.want(t, 0, []string{"retention.error: 60d instead of 30d"}, "platform", "diff", "1", "2")
	s.want(t, 0, []string{"done: version 3", "acknowledged by 1 member"}, "platform", "rollback", "1", "--reason", "too long", "--ack-timeout", "1m")
	s.want(t, 3, []string{"there is no version 9; there are 1 to 3"}, "platform", "diff", "9")
	s.want(t, 0, []string{"back to version 1: ", "too long", "more time"}, "platform", "history")
	s.want(t, 0, []string{"rollback", "version 3, back to 1", "pause", "Concern character", "bad release", "hot"}, "audit", "--since", "1h")
	s.want(t, 0, []string{"no transaction matches"}, "txn", "cancel-all", "--all", "--reason", "none")
	s.want(t, 0, []string{"dry run: 0 transactions"}, "txn", "retry-all", "--all", "--dry-run")
	s.want(t, 0, []string{"dry run"}, "purge", "--dry-run")
	s.want(t, 0, []string{"the change feed has nothing"}, "instance", "history", "character", "c1")
	var entries []struct{ Action, Author, Reason string }
	if err := json.Unmarshal([]byte(s.want(t, 0, nil, "audit", "--json").out), &entries); err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range entries {
		if e.Author == "" {
			t.Errorf("%v has no author", e)
		}
		actions = append(actions, e.Action)
	}
	if got, want := fmt.Sprint(actions), "[rollback update resume resume pause pause update]"; got != want {
		t.Errorf("audit %s, want %s", got, want)
	}
}

// wantArgs is want with the flags before what may be "--".
func (s servers) wantArgs(t *testing.T, code int, words, args []string) {
	t.Helper()
	full := append([]string{}, args...)
	for i, a := range full {
		if a == "--" {
			full = append(append(append([]string{}, full[:i]...), "-f", s.file), full[i:]...)
			break
		}
	}
	if len(full) == len(args) {
		full = append(full, "-f", s.file)
	}
	r := s.game(t.Context(), full...)
	if r.code != code {
		t.Errorf("%v: exit code %d, want %d\n%s%s", args, r.code, code, r.out, r.err)
	}
	for _, w := range words {
		if !strings.Contains(r.out+r.err, w) {
			t.Errorf("%v: the output lacks %q\n%s%s", args, w, r.out, r.err)
		}
	}
}
