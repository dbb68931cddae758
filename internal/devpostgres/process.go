package devpostgres

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var (
	errPortTaken   = errors.New("the port is taken")
	errMemoryInUse = errors.New("processes of an earlier server have not ended yet")
)

// process is one run of the server.
type process struct {
	cmd     *exec.Cmd
	dataDir string
	done    chan struct{} // closed when the postmaster has ended
	err     error         // how, once done is closed
}

// command returns a program of PostgreSQL, run as the owner.
func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.binaries.dir, program), args...) //nolint:gosec // found by us
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	attributes := &syscall.SysProcAttr{
		// Ctrl-C is for this process, which stops the server in its own time.
		Setpgid: true,
	}
	if s.owner != nil {
		attributes.Credential = &syscall.Credential{Uid: s.owner.uid, Gid: s.owner.gid}
	}
	cmd.SysProcAttr = attributes
	return cmd
}

// launch starts the postmaster and returns when it accepts connections.
func (s *Server) launch(ctx context.Context, addr string) (*process, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	logPath := filepath.Join(s.dir, "server.log")
	if err := os.Rename(logPath, logPath+".old"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // our own folder
	if err != nil {
		return nil, err
	}
	defer func() { _ = logFile.Close() }()
	if err := s.owner.own(logPath); err != nil {
		return nil, err
	}
	settings := map[string]string{
		"listen_addresses": host, "port": port,
		// No socket: nothing to leave behind, no path to be too long.
		"unix_socket_directories": "",
		"max_connections":         "200",
		"logging_collector":       "off",
		"log_timezone":            "UTC", "timezone": "UTC",
	}
	if s.temporary {
		// What is committed survives Kill, though not the loss of the machine.
		settings["fsync"], settings["full_page_writes"] = "off", "off"
	}
	for k, v := range s.cfg.Settings {
		settings[k] = v
	}
	args := []string{"-D", s.dataDir()}
	for k, v := range settings {
		args = append(args, "-c", k+"="+v)
	}
	// The server outlives the context of its start.
	cmd := s.command(context.WithoutCancel(ctx), "postgres", args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	endWithParent(cmd.SysProcAttr)
	p := &process{cmd: cmd, dataDir: s.dataDir(), done: make(chan struct{})}
	if err := p.start(); err != nil {
		return nil, err
	}
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		pid, status := postmaster(p.dataDir)
		if pid == p.pid() && status == "ready" {
			tick.Stop()
			return p, nil
		}
		select {
		case <-p.done:
			tick.Stop()
			return nil, startError(logPath, p.err)
		case <-ctx.Done():
			tick.Stop()
			return nil, errors.Join(ctx.Err(), p.shutdown(5*time.Second), startError(logPath, errors.New("not ready in time")))
		case <-tick.C:
		}
	}
}

// start runs the command on a thread of its own that waits for its end: the
// kernel signals a child when the thread that made it ends, and threads of a
// Go program may end before it.
func (p *process) start() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return <-started
}

func startError(logPath string, cause error) error {
	text, _ := os.ReadFile(logPath) //nolint:gosec // our own file
	switch {
	case bytes.Contains(text, []byte("could not bind")), bytes.Contains(text, []byte("Address already in use")):
		cause = errors.Join(errPortTaken, cause)
	case bytes.Contains(text, []byte("pre-existing shared memory block")):
		cause = errors.Join(errMemoryInUse, cause)
	}
	if len(text) > 4096 {
		text = text[len(text)-4096:]
	}
	return fmt.Errorf("postgres did not start: %w; %s says:\n%s", cause, logPath, text)
}

// postmaster reads what a server says about itself in its data folder.
func postmaster(dataDir string) (pid int, status string) {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid")) //nolint:gosec // our own folder
	if err != nil {
		return 0, ""
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		switch n {
		case 1:
			pid, _ = strconv.Atoi(strings.TrimSpace(lines.Text()))
		case 8:
			status = strings.TrimSpace(lines.Text())
		}
	}
	return pid, status
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// shutdown asks for a fast shutdown, and kills what does not obey.
func (p *process) shutdown(patience time.Duration) error {
	if p.ended() {
		return nil
	}
	_ = p.resume() // a stopped process obeys nobody
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("devpostgres: the server did not stop within %s and was killed", patience), p.kill())
	}
}

// kill ends all processes of the server and waits for them.
func (p *process) kill() error {
	// Stopped, it makes no more children.
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	children := childrenOf(p.pid())
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	for _, c := range children {
		_ = syscall.Kill(c, syscall.SIGKILL)
	}
	<-p.done
	deadline := time.Now().Add(10 * time.Second)
	for _, c := range children {
		for syscall.Kill(c, 0) == nil && !zombie(c) {
			if time.Now().After(deadline) {
				return fmt.Errorf("devpostgres: process %d does not end", c)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

func (p *process) pause() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for _, c := range childrenOf(p.pid()) {
		if err := syscall.Kill(c, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

func (p *process) resume() error {
	for _, c := range childrenOf(p.pid()) {
		if err := syscall.Kill(c, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return p.cmd.Process.Signal(syscall.SIGCONT)
}

// awaitEnd waits until a server that a dead process left on the data folder has
// ended, and clears up behind it. The lock says that no living process of ours
// runs it.
func awaitEnd(ctx context.Context, dataDir string) error {
	ready := time.Now().Add(3 * time.Second)
	for {
		pid, status := postmaster(dataDir)
		if pid == 0 {
			return nil
		}
		if syscall.Kill(pid, 0) != nil && !errors.Is(syscall.Kill(pid, 0), syscall.EPERM) || !serves(pid, dataDir) {
			// A server that was killed. PostgreSQL itself would take any
			// process with this number for a server.
			if err := os.Remove(filepath.Join(dataDir, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			return nil
		}
		if status == "ready" && time.Now().After(ready) {
			return fmt.Errorf("a server that runs already (process %d) uses the data in %s; stop it with: kill -INT %d", pid, dataDir, pid)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("an earlier server (process %d) on %s does not end: %w", pid, dataDir, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
