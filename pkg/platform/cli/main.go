package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/control"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Main runs the program's command line and returns its exit code. The first
// interrupt ends what runs in order, the second one at once.
func Main(app node.Application) int { return execute(app.Name, New(app)) }

// Tool runs the command line of rkcy, the platform's own tool, which knows no
// application, and returns its exit code.
func Tool() int {
	root := newRoot("rkcy", "The tool of Rocketcycle, a stream transaction platform", `The tool of Rocketcycle, a stream transaction platform.

  rkcy platform update -f FILE   make topics, publish the configuration
  rkcy platform show -f FILE     show what is published`)
	root.AddCommand(newPlatform(node.Application{Name: "rkcy"}))
	return execute("rkcy", root)
}

func execute(name string, root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // from now on a signal has its usual effect
	}()
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, prefixed(name, err))
	}
	return ExitCode(err)
}

// prefixed puts the program's name before an error, except where it is JSON
// for a script.
func prefixed(name string, err error) string {
	text := err.Error()
	if strings.HasPrefix(text, "{") {
		return text
	}
	return name + ": " + text
}

// New returns the program's command line.
func New(app node.Application) *cobra.Command {
	root := newRoot(app.Name, app.Name+" on Rocketcycle, a stream transaction platform", longHelp(app.Name))
	root.AddCommand(newRun(app), newProcess(app), newStorage(app), newPlatform(app), newDatabase(app))
	if len(app.ConfigConcerns) > 0 {
		root.AddCommand(newConfig(app))
	}
	edge := newEdge(app)
	if app.Services != nil {
		addEdgeServe(edge, app)
	}
	if edge.HasSubCommands() {
		root.AddCommand(edge)
	}
	root.AddCommand(newTransactions(app), newStatus(app), newWatch(app), newDecode(app), newErrors(app), newInstance(app), newDoctor(app),
		newPause(app, "pause", "Stop the work on a Concern, a partition or a storage target", (*control.Control).Pause),
		newPause(app, "resume", "Go on with what was paused", (*control.Control).Resume), newPurge(app), newAudit(app))
	root.AddCommand(app.Commands...)
	return root
}

func newRoot(name, short, long string) *cobra.Command {
	root := &cobra.Command{
		Use: name, Short: short, Long: long,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.ArbitraryArgs, RunE: edgecmd.Group,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &edgecmd.ExitError{Code: edgecmd.ExitUsage, Err: fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	return root
}

func longHelp(name string) string {
	return strings.ReplaceAll(`APP on Rocketcycle, a stream transaction platform.

Try it, with nothing else installed:

  APP run --embedded             a broker, a database and everything else
  APP edge --help                in another terminal: send requests

With servers of your own:

  APP platform update -f FILE    make topics, publish the configuration
  APP db migrate -f FILE         make tables
  APP run -f FILE

Or each role alone, as often as needed: APP process, APP storage, APP edge serve.

Look at what runs: APP status, APP watch, APP txn list, APP doctor.

Servers are named by the platform file, by flags, or by the variables
`+platform.EnvKafkaBootstrap+` and `+platform.EnvPostgresDSN+`.`, "APP", name)
}

// ExitCode returns the exit code of the program for an error.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*edgecmd.ExitError](err); ok {
		return e.Code
	}
	if _, ok := errors.AsType[platform.Faults](err); ok {
		return edgecmd.ExitUsage
	}
	switch txn.CodeOf(err) {
	case txn.CodeInvalidArgument:
		return edgecmd.ExitUsage
	case txn.CodeUnavailable, txn.CodeDeadlineExceeded, txn.CodeResourceExhausted:
		return edgecmd.ExitUnavailable
	case txn.CodeInternal, txn.CodeDataLoss, txn.CodeCancelled, rkcyv1.Code_CODE_UNSPECIFIED:
		return edgecmd.ExitOther
	default:
		return edgecmd.ExitRefused
	}
}

func usagef(format string, args ...any) error {
	return &edgecmd.ExitError{Code: edgecmd.ExitUsage, Err: fmt.Errorf(format, args...)}
}

// noArgs refuses arguments with the exit code of wrong usage.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument, but got %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}
