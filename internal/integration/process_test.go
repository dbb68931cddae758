package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
)

// patience bounds every wait for something that must happen. No test measures
// how long it takes.
const patience = 2 * time.Minute

// addresses is the content of a ready file.
type addresses struct {
	HTTP, GRPC, Kafka, Postgres string
	PID                         int
}

// process is a running "rpg run".
type process struct {
	t         testing.TB
	cmd       *exec.Cmd
	readyFile string
	logFile   string
	at        addresses
	done      chan struct{} // closed when it has ended
	conn      *grpc.ClientConn
}

// launch starts "rpg run" with the arguments and does not wait until it serves.
// When the test fails, the end of the log is shown.
func launch(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	dir := t.TempDir()
	p := &process{
		t: t, readyFile: filepath.Join(dir, "ready.json"), logFile: filepath.Join(dir, "log"), done: make(chan struct{}),
	}
	log, err := os.Create(p.logFile)
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"run", "--ready-file", p.readyFile, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--log-level", "info"}, args...)
	p.cmd = exec.Command(program(t), args...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = endWithTest()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its exit code is what counts
		_ = log.Close()
		close(p.done)
	}()
	t.Cleanup(p.cleanup)
	return p
}

func (p *process) cleanup() {
	if p.conn != nil {
		_ = p.conn.Close()
	}
	if !p.ended() {
		p.signal(syscall.SIGCONT)
		p.interrupt()
		select {
		case <-p.done:
		case <-time.After(patience):
			p.t.Errorf("rpg (pid %d) did not stop after an interrupt", p.cmd.Process.Pid)
			p.kill()
		}
	}
	log := p.log()
	crash := crashed.FindStringIndex(log)
	if crash != nil {
		p.t.Error("there is a data race or a crash in the log of rpg")
	}
	if !p.t.Failed() {
		return
	}
	const most = 16 << 10
	if crash != nil {
		log = log[max(0, crash[0]-most/4):]
		log = log[:min(len(log), most)]
	}
	p.t.Logf("log of rpg, pid %d, %v:\n%s", p.cmd.Process.Pid, p.cmd.ProcessState, log[max(0, len(log)-most):])
}

// crashed finds where a process says that it goes down, or has a data race.
var crashed = regexp.MustCompile(`(?m)^(panic: |fatal error: |SIG[A-Z]+: |WARNING: DATA RACE)|Assertion .* failed`)

// log returns what the process has written.
func (p *process) log() string {
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		p.t.Error(err)
	}
	return string(text)
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// awaitReady returns once the process serves.
func (p *process) awaitReady() *process {
	p.t.Helper()
	eventually(p.t, "rpg is ready", func() error {
		raw, err := os.ReadFile(p.readyFile)
		switch {
		case errors.Is(err, fs.ErrNotExist) && p.ended():
			p.t.Fatalf("rpg ended before it was ready: %v", p.cmd.ProcessState)
		case err != nil:
			return err
		}
		return json.Unmarshal(raw, &p.at)
	})
	if p.at.HTTP == "" || p.at.GRPC == "" || p.at.Kafka == "" || p.at.Postgres == "" || p.at.PID != p.cmd.Process.Pid {
		p.t.Fatalf("the ready file lacks something: %+v", p.at)
	}
	return p
}

// client returns a client of the process' gRPC edge.
func (p *process) client() rpgv1.RpgServiceClient {
	p.t.Helper()
	if p.conn == nil {
		var err error
		p.conn, err = grpc.NewClient(p.at.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
		if err != nil {
			p.t.Fatal(err)
		}
	}
	return rpgv1.NewRpgServiceClient(p.conn)
}

func (p *process) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
}

func (p *process) interrupt() { p.signal(syscall.SIGINT) }

// kill ends the process as a crash does, and returns when it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// exit waits until the process ends by itself and returns its exit code, -1 if
// a signal ended it.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatal("rpg does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop interrupts the process and expects it to end in order.
func (p *process) stop() {
	p.t.Helper()
	p.interrupt()
	if code := p.exit(); code != 0 {
		p.t.Fatalf("exit code %d after an interrupt, want 0", code)
	}
}

// result is what a command has left.
type result struct {
	code           int
	stdout, stderr string
}

// rpg runs a command to its end.
func rpg(t testing.TB, env []string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t), args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.SysProcAttr = endWithTest()
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

// want checks the exit code, and that the output has every word.
func (r result) want(t testing.TB, code int, words ...string) result {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stdout+r.stderr, w) {
			t.Errorf("the output lacks %q\nstdout: %s\nstderr: %s", w, r.stdout, r.stderr)
		}
	}
	return r
}

// eventually tries until check returns nil.
func eventually(t testing.TB, what string, check func() error) {
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
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
	}
}
