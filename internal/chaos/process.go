package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// patience bounds every wait for something that must happen.
const patience = 2 * time.Minute

// process is a child of the test.
type process struct {
	t       testing.TB
	name    string
	cmd     *exec.Cmd
	stdin   io.Closer
	logFile string
	started time.Time
	// served is closed once the child has said where it serves, done once it
	// has ended.
	served, done chan struct{}
	at           ready
	conn         *grpc.ClientConn
}

// launch starts this program again, as a child, and does not wait for it. env
// is added to its environment.
func launch(t testing.TB, name string, env ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{
		t: t, name: name, logFile: filepath.Join(t.TempDir(), "log"), started: time.Now(),
		served: make(chan struct{}), done: make(chan struct{}),
	}
	log, err := os.Create(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command(self) //nolint:noctx // killed by cleanup, and ends with its standard input
	p.cmd.Env = append(append(os.Environ(), "GOMAXPROCS=2"), env...)
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = endWithTest()
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r := bufio.NewReader(out)
		if line, err := r.ReadBytes('\n'); err == nil && json.Unmarshal(line, &p.at) == nil {
			close(p.served)
		}
		_, _ = io.Copy(io.Discard, r)
		_ = p.cmd.Wait() // how it ended is in ProcessState
		_ = log.Close()
		close(p.done)
	}()
	t.Cleanup(p.cleanup)
	return p
}

// await returns once the process serves.
func (p *process) await() *process {
	p.t.Helper()
	select {
	case <-p.served:
	case <-p.done:
		p.t.Fatalf("%s ended before it served: %v\n%s", p.name, p.cmd.ProcessState, p.log(4<<10))
	case <-time.After(patience):
		p.t.Fatalf("%s does not serve\n%s", p.name, p.log(4<<10))
	}
	return p
}

// connect returns a connection to the process' edge.
func (p *process) connect() *grpc.ClientConn {
	p.t.Helper()
	if p.conn == nil {
		p.await()
		var err error
		p.conn, err = grpc.NewClient(p.at.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second}}))
		if err != nil {
			p.t.Fatal(err)
		}
	}
	return p.conn
}

func (p *process) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
}

// kill ends the process as a crash does, and returns when it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stop interrupts the process and expects it to end in order.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGINT)
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			p.t.Errorf("%s: exit code %d after an interrupt\n%s", p.name, code, p.log(4<<10))
		}
	case <-time.After(patience):
		p.t.Errorf("%s does not end after an interrupt", p.name)
		p.kill()
	}
}

// crashed finds where a process says that it goes down, or has a data race.
var crashed = regexp.MustCompile(`(?m)^(panic: |fatal error: |SIG[A-Z]+: |WARNING: DATA RACE)|Assertion .* failed`)

// log returns the end of what the process has written.
func (p *process) log(most int) string {
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// says reports whether the process has written a text.
func (p *process) says(text string) bool { return strings.Contains(p.log(64<<20), text) }

func (p *process) cleanup() {
	if p.conn != nil {
		_ = p.conn.Close()
	}
	p.kill()
	log := []byte(p.log(64 << 20))
	if at := crashed.FindIndex(log); at != nil {
		p.t.Errorf("%s went down by itself:\n%s", p.name, log[max(0, at[0]-1000):min(len(log), at[0]+6000)])
	}
	if !p.t.Failed() {
		return
	}
	if dir := os.Getenv("RKCY_CHAOS_LOGS"); dir != "" {
		file := filepath.Join(dir, fmt.Sprintf("%s-%s-%d.log", strings.ReplaceAll(p.t.Name(), "/", "-"), p.name, p.cmd.Process.Pid))
		_ = os.WriteFile(file, log, 0o600) //nolint:gosec // named by the test
	}
	var kept [][]byte
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte("level=WARN")) || bytes.Contains(line, []byte("level=ERROR")) || bytes.HasPrefix(line, []byte("chaos:")) {
			kept = append(kept, line)
		}
	}
	p.t.Logf("%s (pid %d): the last warnings:\n%s", p.name, p.cmd.Process.Pid, bytes.Join(kept[max(0, len(kept)-12):], nil))
}

// eventually tries until check returns nil.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
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
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
	}
}
