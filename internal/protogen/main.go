// Command protogen generates code from .proto files. It replaces protoc: the
// compiler is a Go library, and every plugin is a tool pinned in tools/go.mod or
// a package of this module, so nothing has to be installed by hand.
//
//	go run ./internal/protogen all      generate everything in the repository
//	go run ./internal/protogen verify   fail if something generated is stale
//	go run ./internal/protogen -I DIR [-I DIR] -plugin PROGRAM:OUTDIR[:PARAMETER] file.proto ...
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/rocketcycle/rocketcycle/internal/codegen/compile"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func run(ctx context.Context, args []string) error {
	var includes, plugins list
	flags := flag.NewFlagSet("protogen", flag.ContinueOnError)
	flags.Var(&includes, "I", "folder to search for imports (repeatable)")
	flags.Var(&plugins, "plugin", "PROGRAM:OUTDIR[:PARAMETER], a protoc plugin to run (repeatable)")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	switch {
	case len(plugins) > 0:
		return runPlugins(ctx, includes, plugins, flags.Args())
	case flags.NArg() == 1 && flags.Arg(0) == "all":
		return all(ctx)
	case flags.NArg() == 1 && flags.Arg(0) == "verify":
		return verify(ctx)
	default:
		return errors.New("usage: protogen all | verify | -I DIR -plugin PROGRAM:OUTDIR[:PARAMETER] FILE.proto [FILE.proto...]")
	}
}

// runPlugins runs the plugins that the command line names.
func runPlugins(ctx context.Context, includes, plugins, files []string) error {
	request, err := compile.Compile(ctx, includes, files...)
	if err != nil {
		return err
	}
	for _, plugin := range plugins {
		program, rest, ok := strings.Cut(plugin, ":")
		if !ok {
			return fmt.Errorf("plugin %q: want PROGRAM:OUTDIR[:PARAMETER]", plugin)
		}
		folder, parameter, _ := strings.Cut(rest, ":")
		out, err := compile.Program(program, parameter)(ctx, request)
		if err != nil {
			return err
		}
		if err := compile.Write(folder, out); err != nil {
			return err
		}
	}
	return nil
}
