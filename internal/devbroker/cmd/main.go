// Command cmd starts and stops an Apache Kafka for development and tests.
//
//	go run ./internal/devbroker/cmd kafka start
//	go run ./internal/devbroker/cmd kafka run -- go test ./...
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

	"github.com/spf13/cobra"
)

func main() {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root(logger).ExecuteContext(ctx)
	cancel()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exitCode(exit))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "devbroker:", err)
		os.Exit(1)
	}
}

// exitCode is what a shell would say.
func exitCode(exit *exec.ExitError) int {
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

func root(logger *slog.Logger) *cobra.Command {
	cmd := &cobra.Command{
		Use: "devbroker", Short: "brokers for development and tests", SilenceErrors: true, SilenceUsage: true,
	}
	kafka := &cobra.Command{Use: "kafka", Short: "an Apache Kafka from its jars"}
	kafka.AddCommand(start(logger), stop(), status(), run(logger))
	cmd.AddCommand(kafka)
	return cmd
}
