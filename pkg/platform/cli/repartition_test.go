package cli_test

import (
	"strings"
	"testing"
)

// Another number of partitions is shown by a dry run, which changes nothing, then
// made, and shown by those who ask.
func TestUpdatePartitions(t *testing.T) {
	s := newServers(t)
	s.want(t, 0, nil, "platform", "update")
	more := s.rewrite(t, "partitions: 2", "partitions: 5")
	r := more.want(t, 0, nil, "platform", "update", "--dry-run")
	for _, want := range []string{"create topic", ".process.0002 (partitions 5", "from 2 partitions (generation 0001) to 5 (generation 0002)", "dry run"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("the dry run lacks %q:\n%s", want, r.out)
		}
	}
	if r := s.want(t, 0, nil, "platform", "show"); strings.Contains(r.out, "0002") || !strings.Contains(r.out, "2 partitions, generation 0001") {
		t.Errorf("after the dry run:\n%s", r.out)
	}
	r = more.want(t, 0, nil, "platform", "update")
	for _, want := range []string{"processors stopped after", "done: version 2", "no processor was running"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("the update lacks %q:\n%s", want, r.out)
		}
	}
	if r := s.want(t, 0, nil, "platform", "show"); !strings.Contains(r.out, "5 partitions, generation 0002") {
		t.Errorf("after the update:\n%s", r.out)
	}
	if r := more.want(t, 0, nil, "platform", "update"); !strings.Contains(r.out, "nothing to do") {
		t.Errorf("once more:\n%s", r.out)
	}
}
