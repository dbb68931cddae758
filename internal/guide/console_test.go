package guide

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// game is "rpg run --embedded", and a shell beside it.
type game struct {
	t    *testing.T
	dir  string // where commands are run: beside build/bin/rpg and examples
	http string
	env  []string
}

// run starts the real program on free ports, in a folder where the README's
// paths are right.
func run(t *testing.T) *game {
	t.Helper()
	dir := t.TempDir()
	// PostgreSQL runs as another user, who has to come by.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { //nolint:gosec // a test's folder
		t.Fatal(err)
	}
	program := filepath.Join(dir, "build", "bin", "rpg")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./examples/rpg")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	examples, err := filepath.Abs(filepath.Join(root, "examples"))
	if err == nil {
		err = os.Symlink(examples, filepath.Join(dir, "examples"))
	}
	if err != nil {
		t.Fatal(err)
	}
	ready := filepath.Join(dir, "ready.json")
	cmd := exec.Command(program, "run", "--embedded", "--data-dir", filepath.Join(dir, ".rpg"), //nolint:gosec,noctx // interrupted below
		"--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--ready-file", ready)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("rpg run: %v", err)
			}
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			t.Error("rpg run does not end")
		}
	})
	var at struct{ HTTP, GRPC, Kafka, Postgres string }
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(2 * time.Minute); at.HTTP == ""; {
		select {
		case <-tick.C:
			if raw, err := os.ReadFile(ready); err == nil {
				if err := json.Unmarshal(raw, &at); err != nil {
					t.Fatal(err)
				}
			}
		case err := <-ended:
			ended <- nil
			t.Fatalf("rpg run ended: %v", err)
		case <-late:
			t.Fatal("rpg run is not ready")
		}
	}
	return &game{t: t, dir: dir, http: at.HTTP, env: append(os.Environ(),
		"RPG_EDGE="+at.GRPC, "RKCY_KAFKA_BOOTSTRAP="+at.Kafka, "RKCY_POSTGRES_DSN="+at.Postgres,
		"PATH="+filepath.Dir(program)+string(filepath.ListSeparator)+os.Getenv("PATH"))}
}

// shell runs a command and returns what it writes, and its exit code.
func (g *game) shell(command string) (string, int) {
	g.t.Helper()
	command = strings.ReplaceAll(command, "localhost:11370", g.http)
	if url, ok := strings.CutPrefix(command, "curl -s "); ok { // not everybody has it
		return g.get(strings.Trim(url, "'\"")), 0
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir, cmd.Env = g.dir, g.env
	out, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		g.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (g *game) get(url string) string {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, "http://"+url, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(raw)
}

var id = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// answers reports whether got is what a page shows: the same lines, where "…"
// is anything, and ids are those that ids says or, once, may become.
func answers(shown []string, got string, ids map[string]string) bool {
	var pattern strings.Builder
	var named []string
	pattern.WriteString(`(?s)^\s*`)
	text := strings.TrimSpace(strings.Join(shown, "\n"))
	for at := 0; at < len(text); {
		if loc := id.FindStringIndex(text[at:]); loc != nil && loc[0] == 0 {
			name := text[at : at+loc[1]]
			if real, ok := ids[name]; ok {
				pattern.WriteString(regexp.QuoteMeta(real))
			} else {
				pattern.WriteString("(" + id.String() + ")")
				named = append(named, name)
			}
			at += loc[1]
			continue
		}
		if rest, ok := strings.CutPrefix(text[at:], "…"); ok {
			pattern.WriteString(`.*?`)
			at = len(text) - len(rest)
			continue
		}
		pattern.WriteString(regexp.QuoteMeta(text[at : at+1]))
		at++
	}
	pattern.WriteString(`\s*$`)
	found := regexp.MustCompile(pattern.String()).FindStringSubmatch(got)
	for i, name := range named {
		if found != nil {
			ids[name] = found[i+1]
		}
	}
	return found != nil
}

// exits is the comment behind a command that is refused.
var exits = regexp.MustCompile(` +# exit ([0-9]+)$`)

// What the pages type is answered as they show it. The README is first, so the
// guide finds what it has made.
func TestConsole(t *testing.T) {
	g := run(t)
	n := 0
	for _, page := range pages(t) {
		ids := map[string]string{}
		for _, f := range fences(t, page) {
			if f.language != "console" {
				continue
			}
			for i := 0; i < len(f.text); i++ {
				command, ok := strings.CutPrefix(f.text[i], "$ ")
				if !ok {
					continue
				}
				end := i + 1
				for end < len(f.text) && !strings.HasPrefix(f.text[end], "$ ") {
					end++
				}
				shown := slices.DeleteFunc(slices.Clone(f.text[i+1:end]), func(s string) bool { return strings.TrimSpace(s) == "" })
				want := 0
				if m := exits.FindStringSubmatch(command); m != nil {
					want, _ = strconv.Atoi(m[1])
					command = strings.TrimSuffix(command, m[0])
				}
				for name, real := range ids {
					command = strings.ReplaceAll(command, name, real)
				}
				out, code := g.shell(command)
				n++
				if code != want || len(shown) > 0 && !answers(shown, out, ids) {
					t.Errorf("%v: %s\nexit code %d, want %d\n%s", f, command, code, want, out)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("%d commands only", n)
	}
	ids := map[string]string{}
	const one, two = "01a21087-63e2-78b8-ae7b-ab96c9fa1e37", "01a210d3-315d-72fd-97d6-f1c1a6bb905b"
	if !answers([]string{"id: " + one, "name: …"}, "id: "+two+"\nname: x\n", ids) || ids[one] != two ||
		answers([]string{"id: " + one}, "id: "+one, ids) || answers([]string{"name: a"}, "name: b", ids) {
		t.Error("answers are not told apart")
	}
}
