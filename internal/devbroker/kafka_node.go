package devbroker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// node is one broker, which is also a controller, in a process of its own.
type node struct {
	index      int
	dir        string
	addr       string // of clients and other brokers
	controller string
	java       string
	classpath  string
	heapMB     int
	// detached: outlives this process.
	detached bool
	lock     *os.File

	pid    int
	exited chan struct{} // closed when the process has ended
	err    error         // why, once exited is closed
	paused bool
}

func (n *node) propertiesFile() string { return filepath.Join(n.dir, "server.properties") }
func (n *node) logConfig() string      { return filepath.Join(n.dir, "log4j2.properties") }
func (n *node) serverLog() string      { return filepath.Join(n.dir, "server.log") }
func (n *node) consoleLog() string     { return filepath.Join(n.dir, "console.log") }

// logSettings makes log4j write to a file, of which the last three are kept.
const logSettings = `status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = %[1]s
appender.file.filePattern = %[1]s.%%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %%d{ISO8601} %%p %%m (%%c)%%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
`

// properties returns the settings of a node of a cluster.
func (n *node) properties(voters string, brokers int, more map[string]string) map[string]string {
	replicas := strconv.Itoa(min(brokers, 3))
	inSync := strconv.Itoa(min(brokers, 3)/2 + 1)
	const maxMessage = 10<<20 + 64<<10 // a record of 10 MiB and what is around it
	p := map[string]string{
		"node.id":                          strconv.Itoa(n.index + 1),
		"process.roles":                    "broker,controller",
		"listeners":                        "BROKER://" + n.addr + ",CONTROLLER://" + n.controller,
		"advertised.listeners":             "BROKER://" + n.addr,
		"listener.security.protocol.map":   "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name":       "BROKER",
		"controller.listener.names":        "CONTROLLER",
		"controller.quorum.voters":         voters,
		"log.dirs":                         filepath.Join(n.dir, "data"),
		"auto.create.topics.enable":        "false",
		"default.replication.factor":       replicas,
		"min.insync.replicas":              inSync,
		"message.max.bytes":                strconv.Itoa(maxMessage),
		"replica.fetch.max.bytes":          strconv.Itoa(maxMessage),
		"group.initial.rebalance.delay.ms": "0",
		"group.min.session.timeout.ms":     "500",
		"transaction.max.timeout.ms":       "900000",
		// A dead owner's transaction ends when its time-out says so, not up to
		// 10 s later.
		"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
		// Few partitions of the inner topics: a faster start.
		"offsets.topic.num.partitions":                     "4",
		"offsets.topic.replication.factor":                 replicas,
		"transaction.state.log.num.partitions":             "4",
		"transaction.state.log.replication.factor":         replicas,
		"transaction.state.log.min.isr":                    inSync,
		"share.coordinator.state.topic.num.partitions":     "1",
		"share.coordinator.state.topic.replication.factor": replicas,
		"share.coordinator.state.topic.min.isr":            inSync,
		// Indexes are allocated in advance, one pair per partition.
		"log.index.size.max.bytes": strconv.Itoa(1 << 20),
		// Others take over from a dead broker sooner than in production.
		"broker.heartbeat.interval.ms": "500",
		"broker.session.timeout.ms":    "4000",
	}
	maps.Copy(p, more)
	return p
}

// write puts the node's files in place.
func (n *node) write(properties map[string]string) error {
	if err := os.MkdirAll(n.dir, 0o750); err != nil {
		return err
	}
	var text bytes.Buffer
	for _, k := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&text, "%s=%s\n", k, properties[k])
	}
	if err := os.WriteFile(n.propertiesFile(), text.Bytes(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(n.logConfig(), fmt.Appendf(nil, logSettings, n.serverLog()), 0o600)
}

// format prepares the data folder, once.
func (n *node) format(ctx context.Context, clusterID string) error {
	if _, err := os.Stat(filepath.Join(n.dir, "data", "meta.properties")); err == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, n.java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", //nolint:gosec // our arguments
		"-Dlog4j2.configurationFile="+n.logConfig(), "-cp", n.classpath, "kafka.tools.StorageTool",
		"format", "--ignore-formatted", "--cluster-id", clusterID, "--config", n.propertiesFile())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format %s: %w\n%s", n.dir, errors.Join(ctx.Err(), err), tail(out, 20))
	}
	return nil
}

// start runs the process. On Linux it dies with its parent unless it is
// detached.
func (n *node) start() error {
	console, err := os.OpenFile(n.consoleLog(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = console.Close() }()
	heap := strconv.Itoa(n.heapMB)
	cmd := exec.Command(n.java, "-Xmx"+heap+"m", "-Djava.awt.headless=true", "-Djava.net.preferIPv4Stack=true", //nolint:gosec // our arguments
		"-XX:+ExitOnOutOfMemoryError", "-Dlog4j2.configurationFile="+n.logConfig(),
		"-cp", n.classpath, "kafka.Kafka", n.propertiesFile())
	cmd.Dir, cmd.Stdout, cmd.Stderr = n.dir, console, console
	cmd.ExtraFiles = []*os.File{n.lock}
	cmd.SysProcAttr = processAttributes(n.detached)
	started := make(chan error)
	exited := make(chan struct{})
	go func() {
		// The death of the thread that forked is what the kernel takes for
		// the death of the parent, so the thread must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			n.err = cmd.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	n.pid, n.exited, n.paused = cmd.Process.Pid, exited, false
	return nil
}

func (n *node) running() bool {
	if n.exited == nil {
		return false
	}
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

func (n *node) signal(s syscall.Signal) error {
	if !n.running() {
		return fmt.Errorf("broker %d is not running", n.index)
	}
	if err := syscall.Kill(n.pid, s); err != nil {
		return fmt.Errorf("broker %d: %s: %w", n.index, s, err)
	}
	return nil
}

// stop ends the process, cleanly if that takes less than grace.
func (n *node) stop(grace time.Duration) error {
	if !n.running() {
		return nil
	}
	if n.paused {
		if err := n.signal(syscall.SIGCONT); err != nil {
			return err
		}
		n.paused = false
	}
	if err := n.signal(syscall.SIGTERM); err != nil && n.running() {
		return err
	}
	select {
	case <-n.exited:
		return nil
	case <-time.After(grace):
	}
	if err := n.kill(); err != nil {
		return err
	}
	return fmt.Errorf("broker %d did not stop within %s and was killed\n%s", n.index, grace, n.report())
}

func (n *node) kill() error {
	if !n.running() {
		return nil
	}
	if err := n.signal(syscall.SIGKILL); err != nil && n.running() {
		return err
	}
	<-n.exited
	return nil
}

// report returns the last lines that the node wrote.
func (n *node) report() string {
	var out []string
	for _, name := range []string{n.consoleLog(), n.serverLog()} {
		if text := lastBytes(name, 8<<10); len(bytes.TrimSpace(text)) > 0 {
			out = append(out, fmt.Sprintf("--- %s\n%s", name, tail(text, 25)))
		}
	}
	return strings.Join(out, "\n")
}

func lastBytes(path string, most int64) []byte {
	f, err := os.Open(path) //nolint:gosec // a log file of ours
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	return text
}
