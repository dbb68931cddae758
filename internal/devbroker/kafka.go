package devbroker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// EnvKafka names a running Kafka, as host:port, that tests use instead of an
// embedded broker of their own.
const EnvKafka = "RKCY_TEST_KAFKA"

// KafkaConfig configures an Apache Kafka.
type KafkaConfig struct {
	// DataDir keeps everything, and the logs of the brokers. Empty: a
	// temporary folder that Close removes.
	DataDir string
	// Addr is where the first broker listens, host:port; port 0 picks a free
	// one. The other brokers and the controllers take free ports. Default
	// 127.0.0.1:0.
	Addr string
	// Brokers is how many there are, each broker and controller in a process
	// of its own. Default 1.
	Brokers int
	// HeapMB is the heap of each, in MiB. Default 512.
	HeapMB int
	// Properties are settings of the brokers that replace ours.
	Properties map[string]string
	Logger     *slog.Logger

	detached bool
}

// WithDefaults returns the configuration with zero values replaced.
func (c KafkaConfig) WithDefaults() KafkaConfig {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:0"
	}
	if c.Brokers == 0 {
		c.Brokers = 1
	}
	if c.HeapMB == 0 {
		c.HeapMB = 512
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration.
func (c KafkaConfig) Validate() error {
	var faults []error
	if err := loopback(c.Addr); err != nil {
		faults = append(faults, err)
	}
	if c.Brokers < 1 {
		faults = append(faults, fmt.Errorf("%d brokers", c.Brokers))
	}
	if c.HeapMB < 128 {
		faults = append(faults, fmt.Errorf("a heap of %d MiB; a broker needs 128", c.HeapMB))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	return nil
}

// loopback checks that an address is one of this machine only.
func loopback(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("address %q: port %q is not a number up to 65535", addr, port)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("address %q: brokers for development listen on the loopback interface only", addr)
	}
	return nil
}

// Kafka is a running Apache Kafka. Its methods may be called concurrently.
type Kafka struct {
	cfg       KafkaConfig
	temporary bool
	// lock is inherited by the brokers.
	lock *os.File

	mu    sync.Mutex
	nodes []*node
}

// StartKafka starts an Apache Kafka from its jars and returns when it serves
// groups and transactions. On Linux the brokers die with this process, however
// it ends.
func StartKafka(ctx context.Context, cfg KafkaConfig) (*Kafka, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	java, err := findJava(ctx)
	if err != nil {
		return nil, err
	}
	jars, err := kafkaJars(ctx, cfg.Logger)
	if err != nil {
		return nil, err
	}
	k := &Kafka{cfg: cfg}
	if cfg.DataDir == "" {
		if k.cfg.DataDir, err = os.MkdirTemp("", "rkcy-kafka-"); err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
		k.temporary = true
	} else if k.cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	if k.lock, err = lockDir(ctx, k.cfg.DataDir); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	// A free port may be taken by others before the broker has it.
	for attempt := 1; ; attempt++ {
		err = k.start(ctx, java, strings.Join(jars, string(os.PathListSeparator)))
		if err == nil {
			return k, nil
		}
		if ctx.Err() != nil || attempt == 3 || !strings.Contains(err.Error(), "BindException") || !strings.HasSuffix(cfg.Addr, ":0") {
			break
		}
		if err := k.stopAll(); err != nil {
			cfg.Logger.Info("kafka", "stop", err)
		}
	}
	return nil, fmt.Errorf("kafka: %w", errors.Join(err, k.Close()))
}

func (k *Kafka) start(ctx context.Context, java, classpath string) error {
	clusterID, err := k.clusterID()
	if err != nil {
		return err
	}
	free, err := freePorts(2 * k.cfg.Brokers)
	if err != nil {
		return err
	}
	k.nodes = nil
	var voters []string
	for i := range k.cfg.Brokers {
		n := &node{
			index: i, dir: filepath.Join(k.cfg.DataDir, "broker-"+strconv.Itoa(i)), addr: free[2*i], controller: free[2*i+1],
			java: java, classpath: classpath, heapMB: k.cfg.HeapMB, detached: k.cfg.detached, lock: k.lock,
		}
		if i == 0 && !strings.HasSuffix(k.cfg.Addr, ":0") {
			n.addr = k.cfg.Addr
			if err := portIsFree(ctx, n.addr); err != nil {
				return err
			}
		}
		k.nodes = append(k.nodes, n)
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, n.controller))
	}
	// Formatting takes two seconds, nearly all of it the start of Java.
	group, gctx := errgroup.WithContext(ctx)
	for _, n := range k.nodes {
		group.Go(func() error {
			if err := n.write(n.properties(strings.Join(voters, ","), k.cfg.Brokers, k.cfg.Properties)); err != nil {
				return err
			}
			return n.format(gctx, clusterID)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, n := range k.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	return k.ready(ctx, k.nodes, len(k.nodes))
}

// ready waits until brokers brokers are there and serve groups and
// transactions, or one of nodes has ended.
func (k *Kafka) ready(ctx context.Context, nodes []*node, brokers int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, n := range nodes {
		exited := n.exited // of this run; the goroutine may begin when the next is under way
		go func() {
			select {
			case <-exited:
				cancel(fmt.Errorf("broker %d ended: %w", n.index, n.err))
			case <-ctx.Done():
			}
		}()
	}
	var reports []string
	err := probe(ctx, addresses(nodes), brokers)
	if err != nil {
		for _, n := range nodes {
			reports = append(reports, n.report())
		}
		return fmt.Errorf("not ready: %w\n%s", errors.Join(context.Cause(ctx), err), strings.Join(reports, "\n"))
	}
	return nil
}

// probe makes one round trip of each kind: metadata, group coordinator,
// InitProducerId.
func probe(ctx context.Context, bootstrap string, brokers int) error {
	cfg := stream.Config{Bootstrap: bootstrap, ClientID: "devbroker"} // silent: the broker is away at first
	admin, err := stream.NewAdmin(cfg)
	if err != nil {
		return err
	}
	defer admin.Close()
	for {
		once, cancel := context.WithTimeout(ctx, time.Second)
		n, err := admin.Brokers(once)
		if err == nil && n >= brokers {
			_, err = admin.GroupOffsets(once, "devbroker.ready", []stream.TopicPartition{{Topic: "devbroker.ready"}})
			if err == nil {
				cancel()
				break
			}
		}
		<-pause(once, 100*time.Millisecond)
		cancel()
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
	t, err := stream.NewTransactor(ctx, cfg, "devbroker.ready")
	if err != nil {
		return err
	}
	t.Close()
	return nil
}

// pause returns a channel that is closed after d or when ctx ends.
func pause(ctx context.Context, d time.Duration) <-chan struct{} {
	ctx, cancel := context.WithTimeout(ctx, d)
	context.AfterFunc(ctx, cancel)
	return ctx.Done()
}

func addresses(nodes []*node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.addr)
	}
	return strings.Join(out, ",")
}

// clusterID returns the id of the cluster, made when the folder is new.
func (k *Kafka) clusterID() (string, error) {
	if err := os.MkdirAll(k.cfg.DataDir, 0o750); err != nil {
		return "", err
	}
	file := filepath.Join(k.cfg.DataDir, "cluster-id")
	if id, err := os.ReadFile(file); err == nil && len(id) > 0 { //nolint:gosec // our file
		return string(id), nil
	}
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails
	id := base64.RawURLEncoding.EncodeToString(raw[:])
	if strings.HasPrefix(id, "-") { // would look like an option
		id = "A" + id[1:]
	}
	return id, os.WriteFile(file, []byte(id), 0o600)
}

// freePorts returns addresses that nobody listens on, all different.
func freePorts(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// portIsFree says clearly what is wrong when a port is in use.
func portIsFree(ctx context.Context, addr string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use by another process; choose another address or port 0: %w", addr, err)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// Bootstrap returns the addresses of all brokers.
func (k *Kafka) Bootstrap() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return addresses(k.nodes)
}

// DataDir returns the folder that keeps everything.
func (k *Kafka) DataDir() string { return k.cfg.DataDir }

// Close stops the brokers cleanly, and removes a temporary folder.
func (k *Kafka) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.stopAll()
	_ = k.lock.Close() // again does no harm
	if k.temporary {
		err = errors.Join(err, os.RemoveAll(k.cfg.DataDir))
	}
	if err != nil {
		return fmt.Errorf("kafka: close: %w", err)
	}
	return nil
}

// stopGrace is how long a broker may take to stop. The last brokers of
// several cannot hand over to anybody and would wait for it.
const stopGrace = 20 * time.Second

func (k *Kafka) stopAll() error {
	var group errgroup.Group
	for _, n := range k.nodes {
		group.Go(func() error {
			if len(k.nodes) == 1 {
				return n.stop(stopGrace)
			}
			// Without a majority of controllers a clean stop may not come to an end.
			if err := n.stop(stopGrace / 4); err != nil {
				k.cfg.Logger.Info("kafka", "stop", err)
			}
			return nil
		})
	}
	return group.Wait()
}

// PID returns the process of broker i.
func (k *Kafka) PID(i int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nodes[i].pid
}

// KillBroker kills broker i (SIGKILL).
func (k *Kafka) KillBroker(i int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nodes[i].kill()
}

// StartBroker starts broker i again, at the same address, and waits until it
// is one of the cluster.
func (k *Kafka) StartBroker(ctx context.Context, i int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.nodes[i]
	if n.running() {
		return nil
	}
	if err := portIsFree(ctx, n.addr); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	if err := n.start(); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	running := 0
	for _, n := range k.nodes {
		if n.running() {
			running++
		}
	}
	if err := k.ready(ctx, []*node{n}, running); err != nil {
		return fmt.Errorf("kafka: broker %d: %w", i, err)
	}
	return nil
}

// PauseBroker freezes broker i (SIGSTOP) until ResumeBroker.
func (k *Kafka) PauseBroker(i int) error { return k.freeze(i, true) }

// ResumeBroker lets a paused broker go on (SIGCONT).
func (k *Kafka) ResumeBroker(i int) error { return k.freeze(i, false) }

func (k *Kafka) freeze(i int, on bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := syscall.SIGCONT
	if on {
		s = syscall.SIGSTOP
	}
	if err := k.nodes[i].signal(s); err != nil {
		return err
	}
	k.nodes[i].paused = on
	return nil
}
