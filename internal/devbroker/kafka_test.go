package devbroker_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// needKafka skips, loudly, where Apache Kafka cannot be started.
func needKafka(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED, NOT TESTED: Apache Kafka, for -short")
	}
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED, NOT TESTED: Apache Kafka: %v", err)
		}
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func mustNot(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// create makes a topic of one partition.
func create(ctx context.Context, t *testing.T, bootstrap, topic string, replication int) {
	t.Helper()
	admin, err := stream.NewAdmin(stream.Config{Bootstrap: bootstrap})
	mustNot(t, err)
	defer admin.Close()
	_, err = admin.EnsureTopics(ctx, []stream.TopicSpec{{Name: topic, Partitions: 1, Replication: replication}})
	mustNot(t, err)
}

// write commits one record in a Kafka transaction, if need be not at once.
func write(ctx context.Context, t *testing.T, bootstrap, topic, value string) {
	t.Helper()
	tx, err := stream.NewTransactor(ctx, stream.Config{Bootstrap: bootstrap}, "writer")
	mustNot(t, err)
	defer tx.Close()
	for {
		_, err = tx.Commit(ctx, []stream.Record{{Topic: topic, Value: []byte(value)}}, nil, nil)
		if err == nil {
			return
		}
		t.Logf("once more: %v", err)
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// read returns the committed values of a topic of one partition.
func read(ctx context.Context, t *testing.T, bootstrap, topic string) []string {
	t.Helper()
	r, err := stream.NewReader(stream.Config{Bootstrap: bootstrap})
	mustNot(t, err)
	defer r.Close()
	var out []string
	_, err = r.ReadTo(ctx, stream.TopicPartition{Topic: topic}, stream.OffsetBeginning, func(rec stream.Record) error {
		out = append(out, string(rec.Value))
		return nil
	})
	mustNot(t, err)
	return out
}

func TestKafkaKeepsDataOverKillAndRestart(t *testing.T) {
	needKafka(t)
	ctx := within(t, 3*time.Minute)
	cfg := devbroker.KafkaConfig{DataDir: t.TempDir()}
	k, err := devbroker.StartKafka(ctx, cfg)
	mustNot(t, err)
	t.Cleanup(func() { _ = k.Close() })
	create(ctx, t, k.Bootstrap(), "kept", 1)
	write(ctx, t, k.Bootstrap(), "kept", "one")

	mustNot(t, k.KillBroker(0))
	mustNot(t, k.StartBroker(ctx, 0))
	write(ctx, t, k.Bootstrap(), "kept", "two")

	// The port is in use: a clear error, and soon.
	_, err = devbroker.StartKafka(ctx, devbroker.KafkaConfig{Addr: k.Bootstrap()})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("start on a port in use: %v", err)
	}
	// The folder is in use: two brokers on it would ruin it.
	_, err = devbroker.StartKafka(ctx, cfg)
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("start on a folder in use: %v", err)
	}

	mustNot(t, k.Close())
	mustNot(t, k.Close())                   // again does no harm
	k, err = devbroker.StartKafka(ctx, cfg) // other ports
	mustNot(t, err)
	defer func() { mustNot(t, k.Close()) }()
	if got := strings.Join(read(ctx, t, k.Bootstrap(), "kept"), " "); got != "one two" {
		t.Errorf("read %q", got)
	}
	// A paused broker is stopped by Close all the same.
	mustNot(t, k.PauseBroker(0))
}

func TestKafkaClusterSurvivesABroker(t *testing.T) {
	needKafka(t)
	ctx := within(t, 4*time.Minute)
	k, err := devbroker.StartKafka(ctx, devbroker.KafkaConfig{Brokers: 3, HeapMB: 256})
	mustNot(t, err)
	dir := k.DataDir()
	defer func() {
		mustNot(t, k.Close())
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the temporary folder is still there: %v", err)
		}
	}()
	create(ctx, t, k.Bootstrap(), "kept", 3)
	write(ctx, t, k.Bootstrap(), "kept", "one")
	mustNot(t, k.KillBroker(1))
	write(ctx, t, k.Bootstrap(), "kept", "two")
	mustNot(t, k.StartBroker(ctx, 1))
	mustNot(t, k.PauseBroker(2))
	write(ctx, t, k.Bootstrap(), "kept", "three")
	mustNot(t, k.ResumeBroker(2))
	// A write whose outcome was not known may be there twice.
	if got := strings.Join(slices.Compact(read(ctx, t, k.Bootstrap(), "kept")), " "); got != "one two three" {
		t.Errorf("read %q", got)
	}
}

func TestKafkaFailureCarriesTheLog(t *testing.T) {
	needKafka(t)
	_, err := devbroker.StartKafka(within(t, time.Minute), devbroker.KafkaConfig{
		Properties: map[string]string{"num.io.threads": "zero"},
	})
	if err == nil || !strings.Contains(err.Error(), "num.io.threads") {
		t.Errorf("got %v", err)
	}
}

func TestKafkaStartEndsWithItsContext(t *testing.T) {
	needKafka(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := devbroker.StartKafka(ctx, devbroker.KafkaConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestKafkaConfigFaults(t *testing.T) {
	_, err := devbroker.StartKafka(t.Context(), devbroker.KafkaConfig{Addr: "0.0.0.0:9092", Brokers: -1, HeapMB: 1})
	for _, want := range []string{"loopback", "-1 brokers", "heap"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

// TestHelperParent is no test: it is the parent that TestKafkaDiesWithItsParent
// kills.
func TestHelperParent(t *testing.T) {
	dir := os.Getenv("RKCY_DEVBROKER_PARENT")
	if dir == "" {
		return
	}
	k, err := devbroker.StartKafka(within(t, time.Minute), devbroker.KafkaConfig{DataDir: dir})
	mustNot(t, err)
	mustNot(t, os.WriteFile(filepath.Join(dir, "ready.tmp"), []byte(k.Bootstrap()), 0o600))
	mustNot(t, os.Rename(filepath.Join(dir, "ready.tmp"), filepath.Join(dir, "ready")))
	select {}
}

func TestKafkaDiesWithItsParent(t *testing.T) {
	needKafka(t)
	ctx := within(t, 2*time.Minute)
	dir := t.TempDir()
	parent := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHelperParent$")
	parent.Env = append(os.Environ(), "RKCY_DEVBROKER_PARENT="+dir)
	mustNot(t, parent.Start())
	var addr []byte
	await(ctx, t, "the broker is ready", func() bool {
		var err error
		addr, err = os.ReadFile(filepath.Join(dir, "ready"))
		return err == nil
	})
	mustNot(t, parent.Process.Signal(syscall.SIGKILL))
	_ = parent.Wait()
	await(ctx, t, "the broker is gone", func() bool {
		c, err := net.Dial("tcp", string(addr))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

// await polls until something holds, or fails when ctx ends.
func await(ctx context.Context, t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-tick.C:
		}
	}
}
