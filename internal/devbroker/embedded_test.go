package devbroker_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// TestHelperEmbedded is no test: it is the broker that others kill.
func TestHelperEmbedded(t *testing.T) {
	dir := os.Getenv("RKCY_DEVBROKER_EMBEDDED")
	if dir == "" {
		return
	}
	b, err := devbroker.StartEmbedded(t.Context(), devbroker.EmbeddedConfig{DataDir: dir, Addr: os.Getenv("RKCY_DEVBROKER_ADDR")})
	mustNot(t, err)
	fmt.Println("ready " + b.Bootstrap())
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent closes it
	b.Close()
}

// embedded is an embedded broker in another process.
type embedded struct {
	cmd   *exec.Cmd
	stdin io.Closer
	addr  string
	ended sync.Once // several may want to wait for it
}

func startEmbedded(ctx context.Context, t *testing.T, dir, addr string) *embedded {
	t.Helper()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHelperEmbedded$")
	cmd.Env = append(os.Environ(), "RKCY_DEVBROKER_EMBEDDED="+dir, "RKCY_DEVBROKER_ADDR="+addr)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	mustNot(t, err)
	out, err := cmd.StdoutPipe()
	mustNot(t, err)
	mustNot(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	at, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ok {
		t.Fatalf("the broker said %q (%v)", line, err)
	}
	e := &embedded{cmd: cmd, stdin: stdin, addr: at}
	t.Cleanup(e.kill)
	return e
}

func (e *embedded) kill() {
	_ = e.cmd.Process.Signal(syscall.SIGKILL)
	e.wait()
}

func (e *embedded) stop() {
	_ = e.stdin.Close()
	e.wait()
}

func (e *embedded) wait() { e.ended.Do(func() { _ = e.cmd.Wait() }) }

func TestEmbeddedLosesNothingWhenKilled(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	dir := t.TempDir()
	b := startEmbedded(ctx, t, dir, "127.0.0.1:0")
	create(ctx, t, b.addr, "kept", 1)
	create(ctx, t, b.addr, "input", 1)
	cfg := stream.Config{Bootstrap: b.addr, TransactionTimeout: 5 * time.Second}
	owner := &listener{}
	group, err := stream.NewGroup(cfg, stream.GroupConfig{Group: "g", Topics: []string{"input"}, SessionTimeout: time.Second}, owner)
	mustNot(t, err)
	defer func() { _ = group.Close() }()
	tx, err := stream.NewTransactor(ctx, cfg, "load")
	mustNot(t, err)
	defer tx.Close()

	acknowledged := map[string]bool{}
	highest, n := int64(0), 0
	input := stream.TopicPartition{Topic: "input"}
	for round := range 4 {
		for owner.assigned == 0 {
			_, err := group.Poll(ctx, 10, 50*time.Millisecond)
			mustNot(t, err)
			mustNot(t, ctx.Err())
		}
		var killed atomic.Bool
		time.AfterFunc(time.Duration(100+50*round)*time.Millisecond, func() {
			killed.Store(true)
			b.kill()
		})
		began := len(acknowledged)
		for failed := false; !failed; {
			_, err := group.Poll(ctx, 10, 0)
			mustNot(t, err)
			n++
			value := strconv.Itoa(n)
			attempt, cancel := context.WithTimeout(ctx, 3*time.Second)
			_, err = tx.Commit(attempt, []stream.Record{
				{Topic: "kept", Value: []byte(value)}, {Topic: "kept", Value: []byte(value)},
			}, group, map[stream.TopicPartition]int64{input: int64(n)})
			cancel()
			if err == nil {
				acknowledged[value], highest = true, int64(n)
			}
			failed = err != nil && killed.Load() // before that it may fail, too: the broker has just been started
		}
		b.kill()
		if len(acknowledged) == began {
			t.Logf("round %d: nothing was acknowledged", round)
		}
		if round == 2 { // a torn tail of each log
			for _, pattern := range []string{"partitions/kept-0/*.dat", "groups.log", "pids.log"} {
				files, err := filepath.Glob(filepath.Join(dir, pattern))
				if err != nil || len(files) == 0 {
					t.Fatalf("no file %s: %v", pattern, err)
				}
				f, err := os.OpenFile(files[len(files)-1], os.O_APPEND|os.O_WRONLY, 0o600)
				mustNot(t, err)
				_, err = f.WriteString("torn in the middle of a wri")
				mustNot(t, err)
				mustNot(t, f.Close())
			}
		}
		b = startEmbedded(ctx, t, dir, b.addr)
	}
	if len(acknowledged) < 20 {
		t.Errorf("only %d transactions were acknowledged", len(acknowledged))
	}
	check := func() {
		t.Helper()
		seen := map[string]int{}
		for _, v := range read(ctx, t, b.addr, "kept") {
			seen[v]++
		}
		for v := range acknowledged {
			if seen[v] != 2 {
				t.Errorf("acknowledged transaction %s: %d records of 2", v, seen[v])
			}
		}
		for v, n := range seen {
			if n != 2 {
				t.Errorf("transaction %s: %d records of 2", v, n)
			}
		}
		admin, err := stream.NewAdmin(stream.Config{Bootstrap: b.addr})
		mustNot(t, err)
		defer admin.Close()
		got, err := admin.GroupOffsets(ctx, "g", []stream.TopicPartition{input})
		mustNot(t, err)
		if got[input] < highest {
			t.Errorf("group offset %d, acknowledged was %d", got[input], highest)
		}
	}
	check()
	b.stop() // cleanly
	b = startEmbedded(ctx, t, dir, b.addr)
	check()
}

type listener struct{ assigned int }

func (l *listener) Assigned(tps []stream.TopicPartition)  { l.assigned = len(tps) }
func (l *listener) Revoked([]stream.TopicPartition, bool) { l.assigned = 0 }

// raw is a transactional producer without any of our safeguards, with a
// transaction begun. It speaks the protocol that librdkafka speaks, and can
// leave open what pkg/stream always ends.
func raw(ctx context.Context, t *testing.T, addr, id string) *kgo.Client {
	t.Helper()
	p, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.TransactionalID(id), kgo.MaxVersions(kversion.V3_7_0()))
	mustNot(t, err)
	t.Cleanup(p.Close)
	_, _, err = p.ProducerID(ctx) // makes the broker end what a former producer of this id left open
	mustNot(t, err)
	mustNot(t, p.BeginTransaction())
	return p
}

// put returns when the broker has the record.
func put(ctx context.Context, t *testing.T, p *kgo.Client, topic, key, value string) {
	t.Helper()
	mustNot(t, p.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte(key), Value: []byte(value)}).FirstErr())
}

func TestEmbeddedAbortsWhatWasOpenForGood(t *testing.T) {
	ctx := within(t, time.Minute)
	dir := t.TempDir()
	b := startEmbedded(ctx, t, dir, "127.0.0.1:0")
	create(ctx, t, b.addr, "kept", 1)
	put(ctx, t, raw(ctx, t, b.addr, "id"), "kept", "k", "open when it was killed")
	b.kill()
	b = startEmbedded(ctx, t, dir, b.addr)
	next := raw(ctx, t, b.addr, "id") // the same producer id
	put(ctx, t, next, "kept", "k", "committed")
	mustNot(t, next.EndTransaction(ctx, kgo.TryCommit))
	b.kill() // and the log is read once more
	b = startEmbedded(ctx, t, dir, b.addr)
	if got := read(ctx, t, b.addr, "kept"); len(got) != 1 || got[0] != "committed" {
		t.Errorf("read %q", got)
	}
}

func TestEmbeddedSaysWhatIsInUse(t *testing.T) {
	dir := t.TempDir()
	b, err := devbroker.StartEmbedded(t.Context(), devbroker.EmbeddedConfig{DataDir: dir})
	mustNot(t, err)
	defer b.Close()
	if _, err := devbroker.StartEmbedded(t.Context(), devbroker.EmbeddedConfig{Addr: b.Bootstrap()}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("port: %v", err)
	}
	if _, err := devbroker.StartEmbedded(t.Context(), devbroker.EmbeddedConfig{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "in use by another broker") {
		t.Errorf("folder: %v", err)
	}
}

// TestEmbeddedCompactionLosesCommittedValues shows why no topic of ours is
// compacted. When it fails, kfake has been mended: see docs/kfake-compaction.md.
func TestEmbeddedCompactionLosesCommittedValues(t *testing.T) {
	ctx := within(t, time.Minute)
	b, err := devbroker.StartEmbedded(ctx, devbroker.EmbeddedConfig{})
	mustNot(t, err)
	defer b.Close()
	admin, err := stream.NewAdmin(stream.Config{Bootstrap: b.Bootstrap()})
	mustNot(t, err)
	defer admin.Close()
	_, err = admin.EnsureTopics(ctx, []stream.TopicSpec{{Name: "compacted", Partitions: 1, Replication: 1, Config: map[string]string{"cleanup.policy": "compact"}}})
	mustNot(t, err)
	write(ctx, t, b.Bootstrap(), "compacted", "committed") // without key: the next with one
	p := raw(ctx, t, b.Bootstrap(), "first")
	put(ctx, t, p, "compacted", "k", "committed")
	mustNot(t, p.EndTransaction(ctx, kgo.TryCommit))
	open := raw(ctx, t, b.Bootstrap(), "second")
	put(ctx, t, open, "compacted", "k", "open")
	put(ctx, t, open, "compacted", "other", "the last batch is never compacted")
	b.Compact()
	mustNot(t, open.EndTransaction(ctx, kgo.TryAbort))
	if got := read(ctx, t, b.Bootstrap(), "compacted"); len(got) != 0 {
		t.Errorf("kfake keeps committed values (%q) now: the workaround may go", got)
	}
}
