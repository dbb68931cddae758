package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// envChild carries a site to a child process.
const envChild = "RKCY_ISOLATION_CHILD"

// Child runs a processor and does not return, if this process was started as
// one; else it returns at once. The program that Config.Child names calls it
// first of all.
func Child() {
	text := os.Getenv(envChild)
	if text == "" {
		return
	}
	if err := child(text); err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(text string) error {
	var s site
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { // standard input ends with the parent
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	p, err := concern.NewProcessor(s.processor(stream.Config{
		Bootstrap: s.Bootstrap, TransactionTimeout: s.TransactionTimeout, Logger: slog.New(slog.DiscardHandler),
	}))
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// process is a child process.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
}

func startProcess(program string, s site) (*process, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program) //nolint:noctx // killed by kill, and ends with its standard input
	cmd.Env = append(os.Environ(), envChild+"="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, stdin.Close())
	}
	return &process{cmd: cmd, stdin: stdin}, nil
}

// kill ends the process at once (SIGKILL) and waits until it is gone.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // says that it was killed
	return err
}
