package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
)

// A platform file with two databases: both get every row, also what was written
// while one of them was away and the program was started without it.
func TestServersTwoTargets(t *testing.T) {
	t.Parallel()
	s := newBareServers(t)
	s.dsn = devpostgres.Test(t).NewDatabase(t)
	second := devpostgres.Own(t)
	file, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.write(strings.Replace(string(file), "    - name: main\n", fmt.Sprintf(
		"    - {name: main, role: primary}\n    - {name: copy, role: secondary, dsn: %q}\n", second.DSN()), 1))
	s.prepare()
	inCopy := &system{t: t, dsn: second.DSN()}

	p := s.start()
	const n = 10
	id := func(i int) string { return fmt.Sprintf("p%02d", i) }
	for i := range n {
		create(t, p.client(), id(i))
	}
	for i := range n {
		s.awaitPlayer(id(i), "first", 1)
		inCopy.awaitPlayer(id(i), "first", 1)
	}
	if err := second.Kill(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		revise(t, p.client(), id(i), "second")
		s.awaitPlayer(id(i), "second", 2)
	}
	told := func(p *process, words ...string) {
		t.Helper()
		eventually(t, "the log", func() error {
			text, err := os.ReadFile(p.logFile)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(text)) {
				found := strings.Contains(line, "target=copy")
				for _, w := range words {
					found = found && strings.Contains(line, w)
				}
				if found {
					return nil
				}
			}
			return fmt.Errorf("no line has target=copy and %q", words)
		})
	}
	told(p, "storage is held up", "concern=player")
	p.stop()
	p = s.start()
	told(p, "starting without it")
	for i := range n {
		revise(t, p.client(), id(i), "third")
		s.awaitPlayer(id(i), "third", 3)
	}
	if err := second.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		inCopy.awaitPlayer(id(i), "third", 3)
	}
	told(p, "storage goes on", "concern=player")
	p.stop()
}
