package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

// Roles of a platform, as commands and in the output of "run --runner process".
const (
	roleProcess = "process"
	roleStorage = "storage"
	roleEdge    = "edge"
)

// roleFlags are those of a command that runs one role.
type roleFlags struct {
	run      runFlags
	concerns []string
	targets  []string
	child    childFlags
}

// childFlags are set by a parent that runs the role as its child.
type childFlags struct {
	// lease makes the process end when its standard input does.
	lease bool
	// ownServers says that the servers are those that the parent brought along:
	// one target, whose address is in the environment.
	ownServers bool
}

func (f *roleFlags) add(cmd *cobra.Command, app node.Application) {
	f.run.file.add(cmd, app)
	f.run.logs.add(cmd, "warn")
	f.run.telemetry.add(cmd, metricsOff)
	f.run.addInsecure(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.run.readyFile, "ready-file", "", "write all addresses to this file, as JSON, once it serves")
	flags.BoolVar(&f.child.lease, "until-stdin-ends", false, "end when standard input does, so that no child outlives its parent")
	flags.BoolVar(&f.child.ownServers, "parent-servers", false, "use the servers of a parent that runs them itself")
	_ = flags.MarkHidden("until-stdin-ends")
	_ = flags.MarkHidden("parent-servers")
}

func (f *roleFlags) addSession(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.run.session, "session-timeout", 6*time.Second, "how long a process may be silent before others take over its partitions")
}

func (f *roleFlags) addConcerns(cmd *cobra.Command, app node.Application) {
	cmd.Flags().StringSliceVar(&f.concerns, "concern", nil, "serve this Concern only, with those of its unique fields; may be repeated")
	completeConcerns(cmd, app)
}

// completeConcerns suggests the values of --concern.
func completeConcerns(cmd *cobra.Command, app node.Application) {
	_ = cmd.RegisterFlagCompletionFunc("concern", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return concernNames(app), cobra.ShellCompDirectiveNoFileComp
	})
}

// completeOneConcern suggests the first argument of a command.
func completeOneConcern(app node.Application) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return concernNames(app), cobra.ShellCompDirectiveNoFileComp
	}
}

func concernNames(app node.Application) []string {
	var names []string
	for _, c := range app.AllConcerns() {
		names = append(names, c.Definition.Name)
	}
	return names
}

// completeTargets suggests the values of --target.
func completeTargets(cmd *cobra.Command, app node.Application, file *fileFlags) {
	_ = cmd.RegisterFlagCompletionFunc("target", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		if cfg, err := file.load(app); err == nil {
			for _, t := range cfg.Storage.Targets {
				names = append(names, t.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

const roleHelp = `

It uses the servers that the platform file, flags or variables name, whose topics
and tables "platform update" and "db migrate" have made. Started several times, on
as many machines as you like, the processes share the partitions; when one ends,
the others take over what it had.

When it serves, it prints one line that begins with "ready". An interrupt finishes
what was taken in; a second one ends at once.`

func newProcess(app node.Application) *cobra.Command {
	var f roleFlags
	cmd := &cobra.Command{
		Use:     roleProcess,
		Short:   "Run a processor: run the transactions of its share of the partitions",
		Long:    "Run a processor: run the transactions of its share of the partitions." + roleHelp,
		Example: fmt.Sprintf("  %[1]s process\n  %[1]s process --concern %[2]s", app.Name, firstConcern(app)),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runRole(cmd, app, f, roleProcess, node.Roles{Processor: true})
		},
	}
	f.add(cmd, app)
	f.addConcerns(cmd, app)
	f.addSession(cmd)
	return cmd
}

func newStorage(app node.Application) *cobra.Command {
	var f roleFlags
	cmd := &cobra.Command{
		Use:     roleStorage,
		Short:   "Run storage workers: bring committed changes into the databases",
		Long:    "Run storage workers: bring committed changes into the databases." + roleHelp,
		Example: fmt.Sprintf("  %[1]s storage\n  %[1]s storage --target main --concern %[2]s", app.Name, firstConcern(app)),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runRole(cmd, app, f, roleStorage, node.Roles{Storage: true})
		},
	}
	f.add(cmd, app)
	f.addConcerns(cmd, app)
	cmd.Flags().StringSliceVar(&f.targets, "target", nil, "write to this storage target only; may be repeated")
	completeTargets(cmd, app, &f.run.file)
	f.addSession(cmd)
	return cmd
}

// addEdgeServe gives the command for requests one more word, which runs an edge.
// Where an rpc has that word already, the edge is run by "serve-edge".
func addEdgeServe(edge *cobra.Command, app node.Application) {
	var f roleFlags
	name := edgeServeName(edge)
	cmd := &cobra.Command{
		Use: name, Annotations: map[string]string{edgeRole: "true"},
		Short: "Run an edge: serve requests over HTTP and gRPC",
		Long: `Run an edge: serve requests over HTTP and gRPC.

It needs the brokers and no database; processors have to run beside it. Started
several times, at addresses of their own, edges share nothing but the brokers.

When it serves, it prints one line that begins with "ready". An interrupt finishes
the requests that it has; a second one ends at once.`,
		Example: fmt.Sprintf("  %[1]s edge %[2]s --http 127.0.0.1:11372 --grpc 127.0.0.1:11373", app.Name, name),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuseInherited(cmd); err != nil {
				return err
			}
			return runRole(cmd, app, f, roleEdge, node.Roles{Edge: true})
		},
	}
	f.add(cmd, app)
	_ = cmd.Flags().MarkHidden("postgres")
	f.run.addAddresses(cmd)
	// The flags of requests are not its own.
	cmd.SetUsageTemplate(strings.ReplaceAll(cmd.UsageTemplate(), "{{if .HasAvailableInheritedFlags}}", "{{if false}}"))
	edge.AddCommand(cmd)
}

// edgeServeName is the word that runs an edge.
func edgeServeName(edge *cobra.Command) string {
	for _, c := range edge.Commands() {
		if c.Name() == "serve" && c.Annotations[edgeRole] == "" {
			return "serve-edge"
		}
	}
	return "serve"
}

// edgeRole marks the command that runs an edge.
const edgeRole = "edge-role"

// refuseInherited reports flags of requests, which would be without effect.
func refuseInherited(cmd *cobra.Command) error {
	for _, name := range []string{"edge", "json", "timeout", "idempotency-key"} {
		if flag := cmd.InheritedFlags().Lookup(name); flag != nil && flag.Changed {
			return usagef("--%s is for requests, not for %s; see %s --help", name, cmd.CommandPath(), cmd.CommandPath())
		}
	}
	return nil
}

// firstConcern is the name in examples.
func firstConcern(app node.Application) string {
	if len(app.Concerns) == 0 {
		return "CONCERN"
	}
	return app.Concerns[0].Definition.Name
}

// newEdge returns the command that sends requests, without a word where the
// application has no service to call.
func newEdge(app node.Application) *cobra.Command {
	if app.Service == nil {
		return &cobra.Command{Use: roleEdge, Short: "Run an edge", Args: cobra.ArbitraryArgs, RunE: edgecmd.Group}
	}
	return edgecmd.New(edgecmd.Config{
		App: app.Name, Service: app.Service, OpenAPI: app.OpenAPI, Examples: app.Examples, DefaultAddr: platform.DefaultGRPCAddr,
	})
}

func runRole(cmd *cobra.Command, app node.Application, f roleFlags, name string, roles node.Roles) error {
	logger, err := f.run.logs.logger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if err := f.run.dropReadyFile(); err != nil {
		return err
	}
	cfg, err := f.run.file.load(app)
	if err != nil {
		return err
	}
	f.run.override(&cfg)
	listeners := []listener{{"metrics", f.run.telemetry.metrics}}
	if roles.Edge {
		listeners = append(listeners, listener{"HTTP", cfg.Edge.HTTP}, listener{"gRPC", cfg.Edge.GRPC})
	}
	if err := f.run.checkExposed(listeners...); err != nil {
		return err
	}
	if f.child.ownServers {
		primary, _ := cfg.Primary()
		useOwnServers(&cfg, os.Getenv(platform.EnvKafkaBootstrap), firstOf(os.Getenv(platform.EnvPostgresDSN), primary.DSN))
	}
	ctx := cmd.Context()
	if f.child.lease {
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		defer stop()
		go func() {
			_, _ = io.Copy(io.Discard, cmd.InOrStdin())
			stop()
		}()
	}
	return serve(ctx, served{
		app: app, cfg: cfg, flags: f.run, out: cmd.OutOrStdout(), role: name,
		node: node.Config{
			Application: app, Platform: cfg, Roles: roles, Concerns: f.concerns, Targets: f.targets,
			SessionTimeout: f.run.session, Logger: logger,
		},
	})
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
