package cli_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli"
	"github.com/rocketcycle/rocketcycle/pkg/stream/streamtest"
)

// patience bounds waits for what must happen; nothing is measured.
const patience = 2 * time.Minute

// servers are a broker and a database, and a platform file that names them.
type servers struct {
	kafka, postgres, file string
}

func newServers(t *testing.T) servers {
	t.Helper()
	s := servers{kafka: streamtest.Broker(t), postgres: devpostgres.Test(t).NewDatabase(t), file: filepath.Join(t.TempDir(), "platform.yaml")}
	text := fmt.Sprintf("name: %s\nkafka: {bootstrap: \"%s\"}\nconcerns: [{name: player, partitions: 2}, {name: character, partitions: 2}]\n"+
		"storage: {targets: [{name: main, dsn: \"%s\"}]}\n", streamtest.Name("cli"), s.kafka, s.postgres)
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// game is a process of the program.
type game struct {
	t     *testing.T
	cmd   *exec.Cmd
	ready string
	at    cli.Addresses
	out   lockedBuffer
	done  chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Args[0] = "game" // which is what TestMain goes by
	return cmd
}

// start starts the program, until the test ends.
func start(t *testing.T, args ...string) *game {
	t.Helper()
	g := &game{t: t, ready: filepath.Join(t.TempDir(), "ready.json"), done: make(chan struct{})}
	g.cmd = command(t, append(args, "--ready-file", g.ready, "--log-level", "info")...)
	g.cmd.Stdout, g.cmd.Stderr = &g.out, &g.out
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.cmd.Wait(); close(g.done) }()
	t.Cleanup(func() {
		if !g.ended() {
			g.stop()
		}
		if t.Failed() {
			t.Logf("%v:\n%s", g.cmd.Args, g.out.String())
		}
	})
	return g
}

func (g *game) ended() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

func (g *game) awaitReady() *game {
	g.t.Helper()
	eventually(g.t, "a ready file", func() error {
		if g.ended() {
			g.t.Fatalf("it ended before it was ready: %v", g.cmd.ProcessState)
		}
		raw, err := os.ReadFile(g.ready)
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &g.at)
	})
	return g
}

// exit returns the exit code, -1 after a signal.
func (g *game) exit() int {
	g.t.Helper()
	select {
	case <-g.done:
	case <-time.After(patience):
		_ = g.cmd.Process.Kill()
		g.t.Fatal("it does not end")
	}
	return g.cmd.ProcessState.ExitCode()
}

func (g *game) stop() {
	g.t.Helper()
	_ = g.cmd.Process.Signal(os.Interrupt)
	if code := g.exit(); code != 0 {
		g.t.Errorf("%v: exit code %d, want 0", g.cmd.Args[1:], code)
	}
}

func (g *game) client() rpgv1.RpgServiceClient {
	g.t.Helper()
	conn, err := grpc.NewClient(g.at.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = conn.Close() })
	return rpgv1.NewRpgServiceClient(conn)
}

// create makes a player and reads it, which takes every role but storage.
func (g *game) create(name string) error {
	c := g.client()
	if _, err := c.CreatePlayer(g.t.Context(), &rpgv1.CreatePlayerRequest{Player: &rpgv1.Player{Id: name, Username: name}}); err != nil {
		return err
	}
	_, err := c.ReadPlayer(g.t.Context(), &rpgv1.ReadPlayerRequest{Id: name})
	return err
}

var startedChild = regexp.MustCompile(`a child was started" role=([a-z]+) pid=([0-9]+)`)

// children returns the processes of each role, the last one being the current.
func (g *game) children() map[string][]int {
	out := map[string][]int{}
	for _, m := range startedChild.FindAllStringSubmatch(g.out.String(), -1) {
		pid, _ := strconv.Atoi(m[2])
		out[m[1]] = append(out[m[1]], pid)
	}
	return out
}

// alive says whether a process does anything; one that nobody has waited for yet
// does not.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not in time: %v", what, err)
		}
	}
}

// With --runner process every role is a process, which is started again when it
// is killed, and they end in order.
func TestRunnerProcess(t *testing.T) {
	s := newServers(t)
	g := start(t, "run", "--runner", "process", "--update", "-f", s.file, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0",
		"--session-timeout", "1s").awaitReady()
	if err := g.create("before"); err != nil {
		t.Fatal(err)
	}
	first := g.children()
	for _, role := range []string{"process", "storage", "edge"} {
		if len(first[role]) != 1 || !alive(first[role][0]) {
			t.Fatalf("the children are %v", first)
		}
	}
	for _, role := range []string{"process", "storage", "edge"} {
		if err := syscall.Kill(first[role][0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, role+" is started again", func() error {
			if now := g.children()[role]; len(now) < 2 || !alive(now[len(now)-1]) {
				return fmt.Errorf("%v", now)
			}
			return nil
		})
		// At the same address, with what there was before.
		tries := 0
		eventually(t, role+" serves again", func() error { tries++; return g.create(fmt.Sprintf("%s%d", role, tries)) })
		if _, err := g.client().ReadPlayer(t.Context(), &rpgv1.ReadPlayerRequest{Id: "before"}); err != nil {
			t.Error(err)
		}
	}
	out := g.out.String()
	if strings.Contains(out, strings.TrimPrefix(s.postgres, "postgres://")) {
		t.Error("the output has the database's password")
	}
	if !regexp.MustCompile(`(?m)^ready http=127\.0\.0\.1:\d+ grpc=127\.0\.0\.1:\d+ kafka=.* postgres=postgres://`).MatchString(out) {
		t.Error("there is no line that begins with ready")
	}
	if !regexp.MustCompile(`(?m)^edge    \| ready role=edge http=`).MatchString(out) {
		t.Error("the output of the edge has not its role in front")
	}
	all := g.children()
	g.stop()
	var order []string
	for _, m := range regexp.MustCompile(`a child has ended" role=([a-z]+)`).FindAllStringSubmatch(g.out.String(), -1) {
		order = append(order, m[1])
	}
	if !slices.Equal(order, []string{"edge", "process", "storage"}) {
		t.Errorf("they ended in the order %q", order)
	}
	for role, pids := range all {
		for _, pid := range pids {
			if alive(pid) {
				t.Errorf("%s %d is still there", role, pid)
			}
		}
	}
}

// No child outlives its parent, however that ends.
func TestRunnerKilled(t *testing.T) {
	s := newServers(t)
	g := start(t, "run", "--runner", "process", "--update", "-f", s.file, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0").awaitReady()
	children := g.children()
	if len(children) != 3 {
		t.Fatalf("the children are %v", children)
	}
	if err := g.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-g.done
	for role, pids := range children {
		eventually(t, role+" ends with its parent", func() error {
			if alive(pids[0]) {
				return fmt.Errorf("%d is alive", pids[0])
			}
			return nil
		})
	}
}

// A role that cannot begin ends the whole, with its exit code and reason.
func TestRunnerRefused(t *testing.T) {
	s := newServers(t)
	g := start(t, "run", "--runner", "process", "-f", s.file, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
	if code := g.exit(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	if !strings.Contains(g.out.String(), "platform update") || !strings.Contains(g.out.String(), "ended before it served") {
		t.Error("the output does not say what is wrong")
	}
}

// Each role runs alone, and more of them share the work.
func TestRolesAlone(t *testing.T) {
	s := newServers(t)
	for _, args := range [][]string{{"platform", "update", "-f", s.file}, {"db", "migrate", "-f", s.file}} {
		if out, err := command(t, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	start(t, "storage", "-f", s.file, "--target", "main").awaitReady()
	start(t, "process", "-f", s.file, "--concern", "player").awaitReady()
	one := start(t, "process", "-f", s.file, "--session-timeout", "1s").awaitReady()
	two := start(t, "process", "-f", s.file).awaitReady()
	e := start(t, "edge", "serve", "-f", s.file, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0").awaitReady()
	if e.at.HTTP == "" || e.at.Kafka != s.kafka || e.at.Postgres != "" || two.at.GRPC != "" || two.at.Postgres != s.postgres {
		t.Errorf("the addresses are %+v and %+v", e.at, two.at)
	}
	if err := e.create("a"); err != nil {
		t.Fatal(err)
	}
	if err := one.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-one.done
	tries := 0
	eventually(t, "others take over", func() error { tries++; return e.create(fmt.Sprintf("b%d", tries)) })
	if line := e.out.String(); !strings.Contains(line, "ready role=edge http=127.0.0.1:") {
		t.Errorf("the edge says %q", line)
	}
}
