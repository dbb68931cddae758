package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
)

const (
	// drainWait is how long a child may take to end in order.
	drainWait = 45 * time.Second
	// restartShortest and restartLongest bound the pause before a child is started
	// again; one that has run for restartCalm is given the shortest.
	restartShortest, restartLongest, restartCalm = 100 * time.Millisecond, 5 * time.Second, time.Minute
)

// child is a role that is a process of its own.
type child struct {
	role   string
	args   []string
	env    []string
	output *output
	logger *slog.Logger
	// begun is closed when the first process serves, whose ready line is first.
	begun chan struct{}
	first map[string]string
	once  sync.Once
	// stop ends the child in order, done is closed when it has ended. failed has
	// why it could not begin.
	stop   context.CancelFunc
	done   chan struct{}
	failed error
}

// runChildren runs every role as a child of this process until ctx ends; then
// they end in order: the edge first, so that what it accepted is finished.
func runChildren(ctx context.Context, s served, errOut io.Writer) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("--runner process: %w", err)
	}
	out := newOutputs(s.out, errOut, s.flags.logs.format)
	roles := []string{roleStorage, roleProcess, roleEdge}
	children := make([]*child, len(roles))
	for i, role := range roles {
		children[i] = &child{
			role: role, args: childArgs(role, s), env: childEnv(s), output: out.of(role), logger: s.node.Logger.With("role", role),
			begun: make(chan struct{}), done: make(chan struct{}),
		}
	}
	// The last to be started are the first to end.
	stopAll := func() {
		for i := len(children) - 1; i >= 0; i-- {
			if children[i].stop != nil {
				children[i].stop()
				<-children[i].done
			}
		}
	}
	defer stopAll()
	ended := make(chan *child, len(children))
	for _, c := range children {
		own, stop := context.WithCancel(context.WithoutCancel(ctx))
		c.stop = stop
		go func() {
			c.supervise(own, program)
			close(c.done)
			ended <- c
		}()
	}
	for _, c := range children {
		select {
		case <-c.begun:
		case bad := <-ended:
			return bad.failed
		case <-ctx.Done():
			return nil
		}
	}
	edge := children[len(children)-1].first
	if err := s.announce(ctx, Addresses{HTTP: edge["http"], GRPC: edge["grpc"]}); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // interrupted
		}
		return err
	}
	select {
	case bad := <-ended:
		return bad.failed
	case <-ctx.Done():
		return nil
	}
}

// childArgs is the command line of a role's process. It has no secrets: others
// can read it.
func childArgs(role string, s served) []string {
	args := []string{role}
	if role == roleEdge {
		args = []string{roleEdge, edgeServeName(newEdge(s.app))}
	}
	args = append(args, "--until-stdin-ends", "--log-level", s.flags.logs.level, "--log-format", s.flags.logs.format)
	args = append(args, s.flags.telemetry.args(role)...)
	if s.flags.file.file != "" {
		args = append(args, "--file", s.flags.file.file)
	}
	if s.flags.embedded {
		args = append(args, "--parent-servers")
	}
	if s.flags.insecure {
		args = append(args, "--"+insecureFlag)
	}
	if role == roleEdge {
		return append(args, "--http", s.cfg.Edge.HTTP, "--grpc", s.cfg.Edge.GRPC)
	}
	return append(args, "--session-timeout", s.flags.session.String())
}

// childEnv tells the children of servers that flags have named.
func childEnv(s served) []string {
	primary, _ := s.cfg.Primary()
	return append(os.Environ(), platform.EnvKafkaBootstrap+"="+s.cfg.Kafka.Bootstrap, platform.EnvPostgresDSN+"="+primary.DSN)
}

// supervise runs the child's process, and runs it again whenever it ends, until
// ctx ends. A child that refuses to begin is not tried again.
func (c *child) supervise(ctx context.Context, program string) {
	pause := restartShortest
	for {
		began := time.Now()
		err := c.run(ctx, program)
		if ctx.Err() != nil {
			if err != nil {
				c.logger.Warn("a child did not end in order", "error", err)
				return
			}
			c.logger.Info("a child has ended")
			return
		}
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !c.hasBegun() && (!ok || exit.ExitCode() >= 0) {
			switch {
			case ok:
				c.failed = &edgecmd.ExitError{Code: max(exit.ExitCode(), edgecmd.ExitOther), Err: fmt.Errorf("the child %q ended before it served; see above", c.role)}
			case err != nil:
				c.failed = &edgecmd.ExitError{Code: edgecmd.ExitOther, Err: fmt.Errorf("the child %q ended before it served: %w", c.role, err)}
			default:
				c.failed = &edgecmd.ExitError{Code: edgecmd.ExitOther, Err: fmt.Errorf("the child %q ended before it served", c.role)}
			}
			return
		}
		if time.Since(began) > restartCalm {
			pause = restartShortest
		}
		c.logger.Error("a child ended and is started again", "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, restartLongest)
	}
}

func (c *child) hasBegun() bool {
	select {
	case <-c.begun:
		return true
	default:
		return false
	}
}

// run runs one process to its end. When ctx ends it is interrupted, and killed if
// that does not help.
func (c *child) run(ctx context.Context, program string) error {
	// The kernel is to end the child when this process ends, and takes the end of
	// the thread that started it for that.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(program, c.args...) //nolint:gosec,noctx // this program; it is to end in order
	cmd.Args[0] = os.Args[0]
	cmd.Env = c.env
	cmd.SysProcAttr = endWithParent()
	lease, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.logger.Info("a child was started", "pid", cmd.Process.Pid)
	var copying, ending sync.WaitGroup
	copying.Go(func() { c.output.copy(stdout, false, c.notice) })
	copying.Go(func() { c.output.copy(stderr, true, nil) })
	gone := make(chan struct{})
	ending.Go(func() { c.end(ctx, cmd.Process, gone) })
	copying.Wait() // the pipes end with the process, and Wait closes them
	err = cmd.Wait()
	_ = lease.Close()
	close(gone)
	ending.Wait()
	if err == nil && ctx.Err() == nil {
		err = errors.New("it ended by itself")
	}
	return err
}

// end makes a process end in order once ctx has ended, and kills it if that takes
// too long.
func (c *child) end(ctx context.Context, p *os.Process, gone <-chan struct{}) {
	select {
	case <-gone:
		return
	case <-ctx.Done():
	}
	_ = p.Signal(syscall.SIGINT)
	select {
	case <-gone:
	case <-time.After(drainWait):
		c.logger.Error("a child does not end and is killed", "pid", p.Pid)
		_ = p.Kill()
	}
}

// notice looks for the line that says that the process serves. The addresses that
// the first one has are those of all later ones.
func (c *child) notice(line string) {
	words := strings.Fields(line)
	if len(words) == 0 || words[0] != "ready" {
		return
	}
	c.once.Do(func() {
		c.first = map[string]string{}
		for _, w := range words[1:] {
			name, value, _ := strings.Cut(w, "=")
			c.first[name] = value
		}
		for i, a := range c.args {
			if (a == "--http" || a == "--grpc" || a == "--metrics-listen") && i+1 < len(c.args) {
				c.args[i+1] = c.first[strings.TrimSuffix(strings.TrimPrefix(a, "--"), "-listen")]
			}
		}
		close(c.begun)
	})
}

// outputs puts the lines of all children into one stream each.
type outputs struct {
	mu          sync.Mutex
	out, errOut io.Writer
	// plain lines have no role in front, which would break JSON.
	plain            bool
	colorOut, colorE bool
}

func newOutputs(out, errOut io.Writer, format string) *outputs {
	return &outputs{out: out, errOut: errOut, plain: format == "json", colorOut: hasColor(out), colorE: hasColor(errOut)}
}

// hasColor says whether colours make sense.
func hasColor(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd())) //nolint:gosec // a file descriptor
}

// output is that of one child.
type output struct {
	all   *outputs
	role  string
	color int
}

func (o *outputs) of(role string) *output {
	return &output{all: o, role: role, color: map[string]int{roleProcess: 36, roleStorage: 33, roleEdge: 35}[role]}
}

func (o *output) prefix(color bool) string {
	name := fmt.Sprintf("%-7s | ", o.role)
	if color {
		return fmt.Sprintf("\x1b[%dm%s\x1b[0m", o.color, name)
	}
	return name
}

// copy passes lines on until the stream ends. notice, where set, sees each before.
func (o *output) copy(from io.Reader, toErr bool, notice func(string)) {
	to, color := o.all.out, o.all.colorOut
	if toErr {
		to, color = o.all.errOut, o.all.colorE
	}
	prefix := o.prefix(color)
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			line = strings.TrimSuffix(line, "\n")
			if notice != nil {
				notice(line)
			}
			o.all.mu.Lock()
			switch {
			case !o.all.plain:
				_, _ = fmt.Fprintf(to, "%s%s\n", prefix, line)
			case toErr: // what is not JSON is the children's own
				_, _ = fmt.Fprintln(to, line)
			}
			o.all.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}
