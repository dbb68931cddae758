package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// rewrite changes the platform file.
func (s servers) rewrite(t *testing.T, from, to string) servers {
	t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(text), from, to)
	if changed == string(text) {
		t.Fatalf("the file has no %q", from)
	}
	s.file = filepath.Join(t.TempDir(), "platform.yaml")
	if err := os.WriteFile(s.file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// Misconfigurations are found and explained, each by itself.
func TestDoctorFinds(t *testing.T) {
	s := newServers(t)
	cfg, err := platform.Load(s.file, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	// Somebody has made a topic whose records go before the databases have them.
	admin, err := stream.NewAdmin(stream.Config{Bootstrap: s.kafka})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	topic := cfg.Names().StorageTopic("player")
	if _, err := admin.EnsureTopics(t.Context(), []stream.TopicSpec{{
		Name: topic, Partitions: 2, Replication: 1, Config: map[string]string{"retention.ms": "1000"},
	}}); err != nil {
		t.Fatal(err)
	}
	s.want(t, 0, nil, "platform", "update")
	empty := t.TempDir()
	doctor := func(s servers, dir string) map[string]string {
		t.Helper()
		found := map[string]string{}
		r := s.want(t, 1, nil, "doctor", "--json", "--data-dir", dir)
		for _, f := range decodeJSON[[]struct{ Check, Result, Text, Remedy string }](t, r.out) {
			found[f.Check] += fmt.Sprintf("%s: %s ► %s\n", f.Result, f.Text, f.Remedy)
		}
		return found
	}
	expect := func(found map[string]string, check string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(found[check], w) {
				t.Errorf("%s lacks %q: %s", check, w, found[check])
			}
		}
	}
	found := doctor(s, empty)
	expect(found, "topic settings", "failed: topic "+topic+" has retention.ms=1000, but needs -1")
	expect(found, "published version", "ok: version 1")
	expect(found, "replication", "warning", "one replica")
	expect(found, "storage target main", "failed", "table", "► game db migrate")
	expect(found, "processes", "no processor runs", "game edge serve")
	expect(found, "transactions", "ok")
	expect(found, "embedded data", "ok", "none")

	// A file that is older than what is published, and one that is newer.
	expect(doctor(s.rewrite(t, "partitions: 2", "partitions: 3"), empty), "published version", "warning", "from 2 partitions (generation 0001) to 3 (generation 0002)", "game platform update")
	more := s.rewrite(t, "targets: [", `targets: [{name: other, role: secondary, dsn: "postgres://anna:hidden@127.0.0.1:1/b"}, `)
	more = more.rewrite(t, "name: main,", "name: main, role: primary,")
	found = doctor(more, empty)
	expect(found, "published version", "warning", "add storage target other", "game platform update")
	expect(found, "storage target other", "failed", "127.0.0.1:1")
	if strings.Contains(fmt.Sprint(found), "hidden") {
		t.Errorf("a password is shown: %v", found)
	}

	// The database of an embedded run that was killed; this process plays its part.
	left := t.TempDir()
	for name, text := range map[string]string{"lock": "", "postgres/data/postmaster.pid": fmt.Sprintf("%d\n", os.Getpid())} {
		at := filepath.Join(left, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect(doctor(s, left), "embedded data", "warning", "still runs", fmt.Sprint(os.Getpid()))
}
