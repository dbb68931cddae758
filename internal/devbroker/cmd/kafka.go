package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
)

const defaultDir = "build/kafka"

func start(logger *slog.Logger) *cobra.Command {
	cfg := devbroker.KafkaConfig{Logger: logger}
	var foreground bool
	var within time.Duration
	cmd := &cobra.Command{
		Use: "start", Short: "start it in the background and print its address; does nothing if it runs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), within)
			defer cancel()
			if foreground {
				k, err := devbroker.StartKafka(ctx, cfg)
				if err != nil {
					return err
				}
				cmd.Println(k.Bootstrap())
				<-cmd.Context().Done()
				return k.Close()
			}
			k, fresh, err := devbroker.StartDetachedKafka(ctx, cfg)
			if err != nil {
				return err
			}
			if !fresh {
				logger.Info("kafka runs already", "data_dir", cfg.DataDir)
			}
			cmd.Println(k.Bootstrap)
			return nil
		},
	}
	cmd.SetOut(os.Stdout)
	f := cmd.Flags()
	f.StringVar(&cfg.Addr, "addr", "127.0.0.1:9092", "where the first broker listens; port 0 picks a free one")
	f.StringVar(&cfg.DataDir, "data-dir", defaultDir, "folder of the data and the logs")
	f.IntVar(&cfg.Brokers, "brokers", 1, "number of brokers")
	f.IntVar(&cfg.HeapMB, "heap", 512, "heap of each broker, MiB")
	f.BoolVar(&foreground, "foreground", false, "stay until interrupted, then stop it")
	f.DurationVar(&within, "within", 2*time.Minute, "give up after this time")
	return cmd
}

func stop() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "stop", Short: "stop it; does nothing if it does not run", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			stopped, err := devbroker.StopDetachedKafka(cmd.Context(), dir)
			if err == nil && !stopped {
				cmd.PrintErrln("kafka does not run on", dir)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", defaultDir, "folder of the data and the logs")
	return cmd
}

func status() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "status", Short: "print its address; fails if it does not run", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, ok := devbroker.FindDetachedKafka(dir)
			if !ok {
				return fmt.Errorf("kafka does not run on %s", dir)
			}
			cmd.Printf("%s (version %s, processes %v)\n", k.Bootstrap, k.Version, k.PIDs)
			return nil
		},
	}
	cmd.SetOut(os.Stdout)
	cmd.Flags().StringVar(&dir, "data-dir", defaultDir, "folder of the data and the logs")
	return cmd
}

func run(logger *slog.Logger) *cobra.Command {
	cfg := devbroker.KafkaConfig{Logger: logger}
	cmd := &cobra.Command{
		Use:   "run -- COMMAND [ARGUMENTS]",
		Short: "run a command beside a fresh Kafka, whose address is in " + devbroker.EnvKafka,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
			defer cancel()
			k, err := devbroker.StartKafka(ctx, cfg)
			if err != nil {
				return err
			}
			defer func() {
				if closeErr := k.Close(); closeErr != nil {
					logger.Warn("kafka did not stop cleanly", "error", closeErr)
				}
			}()
			return runBeside(cmd.Context(), k.Bootstrap(), args)
		},
	}
	cmd.Flags().IntVar(&cfg.Brokers, "brokers", 1, "number of brokers")
	cmd.Flags().IntVar(&cfg.HeapMB, "heap", 512, "heap of each broker, MiB")
	return cmd
}

// runBeside runs a command to its end. A signal goes to the command, and a
// command that does not end within 10 s of it is killed. A Ctrl-C of a
// terminal reaches the command without our help.
func runBeside(ctx context.Context, bootstrap string, args []string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	c := exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // what the user asked for; see below for its end
	c.Env = append(os.Environ(), devbroker.EnvKafka+"="+bootstrap)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	var kill <-chan time.Time
	for {
		select {
		case err := <-ended:
			return err
		case s := <-signals:
			if kill == nil {
				kill = time.After(10 * time.Second)
			}
			if s == os.Interrupt && term.IsTerminal(int(os.Stdin.Fd())) {
				continue
			}
			if err := c.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
		case <-kill:
			_ = c.Process.Kill()
		}
	}
}
