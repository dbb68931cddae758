// Command bench measures the platform on the rpg example beside what people
// would write by hand, in one run on one machine, and prints the ratios.
//
//	go run ./internal/bench            everything, under 15 minutes
//	go run ./internal/bench -quick     everything, small: under 2 minutes
//	go run ./internal/bench compare    the last run against the recorded one
//
// docs/performance.md explains what is measured and how.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "compare":
			return compare(args[1:], os.Stdout)
		case "node":
			return runChild(ctx, args[1:], runNode)
		case "broker":
			return runChild(ctx, args[1:], runBroker)
		case "floor":
			return runChild(ctx, args[1:], runFloor)
		case "storage":
			return runChild(ctx, args[1:], runStorage)
		}
	}
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	return run(ctx, o)
}

// runChild decodes the configuration of a child. An interrupt at the terminal
// reaches children, too; they end when their parent lets them.
func runChild[C any](ctx context.Context, args []string, run func(context.Context, C) error) error {
	var cfg C
	if len(args) != 1 {
		return errors.New("a child of a benchmark takes its configuration")
	}
	if err := json.Unmarshal([]byte(args[0]), &cfg); err != nil {
		return err
	}
	return run(context.WithoutCancel(ctx), cfg)
}
