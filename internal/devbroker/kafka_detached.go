package devbroker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// DetachedKafka is an Apache Kafka that outlives the process that started it.
type DetachedKafka struct {
	Version   string `json:"version"`
	Bootstrap string `json:"bootstrap"`
	PIDs      []int  `json:"pids"`
}

func stateFile(dataDir string) string { return filepath.Join(dataDir, "kafka.json") }

// StartDetachedKafka starts an Apache Kafka that outlives this process, unless
// one runs on the folder already; fresh tells which. DataDir must be set.
func StartDetachedKafka(ctx context.Context, cfg KafkaConfig) (running DetachedKafka, fresh bool, err error) {
	if cfg.DataDir == "" {
		return DetachedKafka{}, false, errors.New("kafka: a detached one needs a data folder")
	}
	if there, ok := FindDetachedKafka(cfg.DataDir); ok {
		return there, false, nil
	}
	cfg.detached = true
	k, err := StartKafka(ctx, cfg)
	if err != nil {
		return DetachedKafka{}, false, err
	}
	d := DetachedKafka{Version: KafkaVersion, Bootstrap: k.Bootstrap()}
	for _, n := range k.nodes {
		d.PIDs = append(d.PIDs, n.pid)
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err == nil {
		err = os.WriteFile(stateFile(cfg.DataDir), text, 0o600)
	}
	if err != nil {
		return DetachedKafka{}, false, fmt.Errorf("kafka: %w", errors.Join(err, k.Close()))
	}
	return d, true, nil
}

// FindDetachedKafka returns the Apache Kafka that runs on a folder. It counts
// as running while any of its brokers does.
func FindDetachedKafka(dataDir string) (DetachedKafka, bool) {
	var d DetachedKafka
	text, err := os.ReadFile(stateFile(dataDir)) //nolint:gosec // the folder is the caller's
	if err != nil || json.Unmarshal(text, &d) != nil {
		return DetachedKafka{}, false
	}
	for _, pid := range d.PIDs {
		if isBroker(pid, dataDir) {
			return d, true
		}
	}
	return DetachedKafka{}, false
}

// isBroker tells whether a process is a broker on a folder: the number may
// belong to another one by now.
func isBroker(pid int, dataDir string) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	abs, err := filepath.Abs(dataDir)
	if err != nil {
		return false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if errors.Is(err, os.ErrNotExist) {
		_, err := os.Stat("/proc/self")
		return err != nil // no /proc on this system
	}
	return bytes.Contains(line, []byte(abs+string(filepath.Separator)))
}

// StopDetachedKafka ends the Apache Kafka that runs on a folder, cleanly if
// that takes less than 20 s; stopped tells whether there was one.
func StopDetachedKafka(ctx context.Context, dataDir string) (stopped bool, err error) {
	d, ok := FindDetachedKafka(dataDir)
	if !ok {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	signalAll := func(s syscall.Signal) (left int) {
		for _, pid := range d.PIDs {
			if isBroker(pid, dataDir) {
				left++
				_ = syscall.Kill(pid, s)
			}
		}
		return left
	}
	signalAll(syscall.SIGTERM)
	for signalAll(0) > 0 {
		select {
		case <-ctx.Done():
			signalAll(syscall.SIGKILL)
			ctx = context.WithoutCancel(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := os.Remove(stateFile(dataDir)); err != nil {
		return true, fmt.Errorf("kafka: %w", err)
	}
	return true, nil
}
