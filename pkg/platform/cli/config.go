package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/concern"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/configset"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

func newConfig(app node.Application) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Replace and look at config Concerns, sets that every handler may read",
		Args:  cobra.ArbitraryArgs,
		RunE:  edgecmd.Group,
	}
	cmd.AddCommand(newConfigReplace(app), newConfigShow(app), newConfigHistory(app))
	return cmd
}

func newConfigReplace(app node.Application) *cobra.Command {
	at := configFlags{fileFlag: "platform-file"}
	var file string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "replace [NAME]",
		Short: "Show what a file of instances changes, then publish it",
		Long: `Show what a file of instances changes, then publish it.

The file is a list, in YAML or JSON, of all instances of the config Concern NAME;
an application that has just one can leave NAME out. An instance that the file
does not have is removed. Every handler sees either the whole set from before or
the whole new one. If something is wrong with the file, everything that is wrong
is told and nothing is changed. When somebody else publishes at the same time,
one of the two is told, and can look at the difference again.`,
		Example: fmt.Sprintf("  %[1]s config replace %[2]s-f %[3]s.yaml --dry-run\n  %[1]s config replace %[2]s-f %[3]s.yaml",
			app.Name, exampleName(app), app.ConfigConcerns[0].Name),
		RunE: func(cmd *cobra.Command, args []string) error {
			definition, err := configConcern(app, cmd, args)
			if err != nil {
				return err
			}
			if file == "" {
				return usagef("name the file with all instances of %s with --file", definition.Name)
			}
			data, err := os.ReadFile(file) //nolint:gosec // the file the user named
			if errors.Is(err, fs.ErrNotExist) {
				return usagef("file %s does not exist", file)
			}
			if err != nil {
				return usagef("%w", err)
			}
			instances, err := configset.Parse(definition, data, file)
			if err != nil {
				return err
			}
			return at.with(cmd, app, func(ctx context.Context, log stream.Config, names platform.Names) error {
				r, err := configset.PrepareReplace(ctx, log, names, definition, instances)
				if err != nil {
					return err
				}
				return applyReplace(ctx, cmd, r, definition.Name, dryRun)
			})
		},
	}
	at.add(cmd, app)
	cmd.Flags().StringVarP(&file, "file", "f", "", "all instances, a list in YAML or JSON")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show what would be changed")
	return cmd
}

func applyReplace(ctx context.Context, cmd *cobra.Command, r *configset.Replacement, name string, dryRun bool) error {
	out := cmd.OutOrStdout()
	if len(r.Changes) == 0 {
		_, err := fmt.Fprintf(out, "nothing to do: %s has exactly these instances, since version %d\n", name, r.Current.GetVersion())
		return err
	}
	for _, c := range r.Changes {
		if _, err := fmt.Fprintln(out, c); err != nil {
			return err
		}
	}
	if dryRun {
		_, err := fmt.Fprintf(out, "dry run: %d changes of %s, none was made\n", len(r.Changes), name)
		return err
	}
	version, err := r.Apply(ctx, author())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "done: version %d, %d instances of %s\n", version.GetVersion(), len(version.GetInstances()), name)
	return err
}

// configConcern returns the config Concern that the arguments name, or the only
// one.
func configConcern(app node.Application, cmd *cobra.Command, args []string) (configset.Definition, error) {
	known := configNames(app.ConfigConcerns)
	switch {
	case len(args) > 1:
		return configset.Definition{}, usagef("%s takes one name, but got %q, too; see %s --help", cmd.CommandPath(), args[1], cmd.CommandPath())
	case len(args) == 1:
		for _, d := range app.ConfigConcerns {
			if d.Name == args[0] {
				return configset.Definition(d), nil
			}
		}
		return configset.Definition{}, usagef("%s has no config Concern %q; it has %s", app.Name, args[0], known)
	case len(app.ConfigConcerns) > 1:
		return configset.Definition{}, usagef("name one of the config Concerns %s", known)
	}
	return configset.Definition(app.ConfigConcerns[0]), nil
}

func configNames(all []concern.ConfigDefinition) string {
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = d.Name
	}
	return strings.Join(names, ", ")
}

// exampleName is the name in examples, where it has to be given.
func exampleName(app node.Application) string {
	if len(app.ConfigConcerns) == 1 {
		return ""
	}
	return app.ConfigConcerns[0].Name + " "
}

// configFlags say where the brokers are.
type configFlags struct {
	platform fileFlags
	logs     logFlags
	timeout  time.Duration
	// fileFlag, where set, is the name of the flag for the platform file.
	fileFlag string
}

func (f *configFlags) add(cmd *cobra.Command, app node.Application) {
	f.platform.addKafka(cmd, app, f.fileFlag)
	f.logs.add(cmd, "error")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 30*time.Second, "how long it may take")
}

// with does something with the brokers.
func (f *configFlags) with(cmd *cobra.Command, app node.Application, do func(context.Context, stream.Config, platform.Names) error) error {
	cfg, brokers, err := brokersOf(cmd, app, &f.platform, &f.logs)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
	defer cancel()
	return do(ctx, brokers, cfg.Names())
}
