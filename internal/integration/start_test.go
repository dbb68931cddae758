package integration

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
)

// silent returns an address where nobody listens.
func silent(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// refusedStart starts a process that must end by itself, with an exit code and
// an explanation that has every word.
func (s *system) refusedStart(code int, words ...string) {
	s.t.Helper()
	p := s.launch()
	if got := p.exit(); got != code {
		s.t.Errorf("exit code %d, want %d", got, code)
	}
	for _, w := range words {
		if !strings.Contains(p.log(), w) {
			s.t.Errorf("the message lacks %q:\n%s", w, p.log())
		}
	}
}

func TestBrokerDownAtStart(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.kafka, s.dsn = silent(t), "postgres://nobody:x@"+silent(t)+"/none"
	s.refusedStart(4, "UNAVAILABLE", s.kafka)
	rpg(t, s.env(), "platform", "update", "-f", s.file, "--timeout", "2s").want(t, 4, "UNAVAILABLE", s.kafka)
	rpg(t, s.env(), "platform", "show", "-f", s.file, "--timeout", "2s").want(t, 4, "UNAVAILABLE", s.kafka)
	rpg(t, s.env(), "db", "migrate", "-f", s.file).want(t, 4, "UNAVAILABLE")
	rpg(t, s.env(), "db", "status", "-f", s.file).want(t, 4, "UNAVAILABLE")
}

func TestServersNeverPublished(t *testing.T) {
	t.Parallel()
	s := newBareServers(t)
	s.dsn = devpostgres.Test(t).NewDatabase(t)
	s.refusedStart(3, s.name, "platform update")
	rpg(t, s.env(), "platform", "show", "-f", s.file).want(t, 3, s.name, "platform update")
}

func TestServersTablesMissing(t *testing.T) {
	t.Parallel()
	s := newBareServers(t)
	s.dsn = devpostgres.Test(t).NewDatabase(t)
	rpg(t, s.env(), "platform", "update", "-f", s.file).want(t, 0)
	s.refusedStart(3, "player", "character", "db migrate")
	rpg(t, s.env(), "db", "status", "-f", s.file).want(t, 3, "player", "character", "db migrate")
	// The script of the example makes them, and more than once.
	script := filepath.Join("..", "..", "examples", "rpg", "db", "init.sh")
	for range 2 {
		cmd := exec.CommandContext(t.Context(), script, "-f", s.file, "--postgres", s.dsn)
		cmd.Env = append(cmd.Environ(), "RPG="+program(t))
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "main: up to date") {
			t.Fatalf("%v: %s", err, out)
		}
	}
	rpg(t, s.env(), "db", "status", "-f", s.file).want(t, 0, "every table is as it must be")
	s.start().stop()
}

// "run --update" does both.
func TestServersRunUpdate(t *testing.T) {
	t.Parallel()
	s := newBareServers(t)
	s.dsn = devpostgres.Test(t).NewDatabase(t)
	p := s.start("--update")
	create(t, p.client(), "p1")
	s.awaitPlayer("p1", "first", 1)
	p.stop()
}

func TestWrongPlatformFile(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.kafka, s.dsn = silent(t), "postgres://nobody:x@"+silent(t)+"/none"
	s.write(`name: Bad Name
colour: red
concerns:
  - name: player
    partitions: 0x
  - name: player
storage:
  targets:
    - name: main
      type: oracle
processor:
  workers: 1000
`)
	words := []string{"Bad Name", "colour", "partitions", "player", "oracle", "1000", s.file + ":"}
	s.refusedStart(2, words...)
	for _, command := range [][]string{{"platform", "update"}, {"platform", "show"}, {"db", "migrate"}, {"db", "status"}} {
		rpg(t, s.env(), append(command, "-f", s.file)...).want(t, 2, words...)
	}
	rpg(t, s.env(), "run", "-f", filepath.Join(t.TempDir(), "nowhere.yaml")).want(t, 2, "nowhere.yaml", "does not exist")
}

// A published platform that does not fit the program.
func TestServersOtherApplication(t *testing.T) {
	t.Parallel()
	s := newBareServers(t)
	s.dsn = devpostgres.Test(t).NewDatabase(t)
	s.write(fmt.Sprintf("name: %s\nconcerns: [{name: player}, {name: monster}]\nstorage: {targets: [{name: main}]}\n", s.name))
	rpg(t, s.env(), "platform", "update", "-f", s.file).want(t, 0)
	rpg(t, s.env(), "db", "migrate", "-f", s.file).want(t, 0)
	s.refusedStart(3, "monster", "character", "platform update")
}

func TestServersPlatformUpdate(t *testing.T) {
	t.Parallel()
	s := newBareServers(t)
	update := func(args ...string) result {
		return rpg(t, s.env(), append([]string{"platform", "update", "-f", s.file}, args...)...)
	}
	topic := s.names().ProcessTopic("player")
	for range 2 { // a dry run does nothing, so a second one tells the same
		update("--dry-run").want(t, 0, "create topic "+topic+" (partitions 4", "publish version 1", "none was done")
	}
	update().want(t, 0, "create topic "+topic, "done: version 1 of "+s.name)
	update().want(t, 0, "nothing to do", "version 1")
	update("--dry-run").want(t, 0, "nothing to do")
	rpg(t, s.env(), "platform", "show", "-f", s.file).want(t, 0, s.name+" in dev, version 1", "player", "character", "4 partitions", "generation 0001")
	rpg(t, s.env(), "platform", "show", "-f", s.file, "--json").want(t, 0, `"version"`, s.name)
	// The flag goes before the variable, which goes before the file.
	rpg(t, []string{"RKCY_KAFKA_BOOTSTRAP=" + silent(t)}, "platform", "show", "-f", s.file, "--kafka", s.kafka).want(t, 0, s.name)
	rpg(t, nil, "platform", "show", "-f", s.file).want(t, 2, "kafka.bootstrap", "RKCY_KAFKA_BOOTSTRAP")
	// What cannot be done is said, and nothing is done.
	s.write(fmt.Sprintf("name: %s\nconcerns: [{name: player}]\nstorage: {targets: [{name: main}]}\n", s.name))
	update().want(t, 3, "character", "cannot be removed")
	rpg(t, s.env(), "platform", "show", "-f", s.file).want(t, 0, "version 1")
}
