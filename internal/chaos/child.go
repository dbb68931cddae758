package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rocketcycle/rocketcycle/internal/failpoint"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
)

// envChild carries a site to a child process.
const envChild = "RKCY_CHAOS_CHILD"

// site is where everything is, and what a process does there.
type site struct {
	Bootstrap string
	DSN       string
	Name      string
	Roles     node.Roles
	Session   time.Duration
	// CacheBytes bounds the processor's cache; 0 is the default.
	CacheBytes int64
	// MaxInFlight bounds the edge; 0 is the default.
	MaxInFlight int
	// KillAt says at which hit of a point the process kills itself.
	KillAt map[failpoint.Name]int
	// FreezeAt says at which hit it stops itself (SIGSTOP).
	FreezeAt map[failpoint.Name]int
	// Off are mechanisms that are switched off.
	Off []failpoint.Switch
}

const partitions = 2

func (s site) platform() platform.Config {
	cfg := platform.Config{
		Name: s.Name,
		Kafka: platform.Kafka{Bootstrap: s.Bootstrap, Extra: map[string]string{
			// What the dead left open ends soon, so that others can go on.
			"transaction.timeout.ms": "4000", "delivery.timeout.ms": "4000", "socket.timeout.ms": "4000",
		}},
		Storage:   platform.Storage{Targets: []platform.Target{{Name: "main", DSN: s.DSN}}},
		Edge:      platform.Edge{HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", MaxInFlight: s.MaxInFlight},
		Processor: platform.Processor{Workers: 1, CacheBytes: platform.Size(s.CacheBytes)},
	}
	for _, c := range concerns {
		cfg.Concerns = append(cfg.Concerns, platform.Concern{Name: c, Partitions: partitions})
	}
	return cfg.WithDefaults()
}

// prepare makes the topics and tables.
func (s site) prepare(ctx context.Context) error {
	logger := slog.New(slog.DiscardHandler)
	p := s.platform()
	update, err := platform.PrepareUpdate(ctx, node.Stream(p, "chaos", logger), p)
	if err != nil {
		return err
	}
	if _, err := update.Apply(ctx, "chaos"); err != nil {
		return err
	}
	_, err = postgres.Migrate(ctx, s.DSN, application().Migrations, logger)
	return err
}

// Child runs a node and does not return, if this process was started as one;
// else it returns at once. The program that starts children calls it first of
// all.
func Child() {
	text := os.Getenv(envChild)
	if text == "" {
		return
	}
	if err := child(text); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(text string) error {
	var s site
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	if err := describe(); err != nil {
		return err
	}
	for name, n := range s.KillAt {
		failpoint.Set(name, n, func() {
			fmt.Fprintln(os.Stderr, "chaos: killed at", name)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		})
	}
	for name, n := range s.FreezeAt {
		failpoint.Set(name, n, func() {
			fmt.Fprintln(os.Stderr, "chaos: frozen at", name)
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			// The signal may reach another thread first, while this one runs on.
			time.Sleep(100 * time.Millisecond)
		})
	}
	for _, off := range s.Off {
		failpoint.Disable(off)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() { // standard input ends with the parent
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	n, err := node.New(node.Config{
		Application: application(), Platform: s.platform(), Roles: s.Roles, SessionTimeout: s.Session,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	select {
	case err := <-done:
		return errors.Join(err, errors.New("the node ended by itself"))
	case <-n.Ready():
	}
	if err := json.NewEncoder(os.Stdout).Encode(ready{GRPC: n.GRPCAddr()}); err != nil {
		return err
	}
	go report(ctx, n)
	return <-done
}

// ready is what a child says once it serves.
type ready struct{ GRPC string }

// report writes down from time to time what the processor is doing.
func report(ctx context.Context, n *node.Node) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s, ok := n.ProcessorStatus(); ok {
			slog.Info("status", "processor", fmt.Sprintf("%+v", s))
		}
	}
}
