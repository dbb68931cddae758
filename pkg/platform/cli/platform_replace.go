package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
)

func newPlatformReplace(app node.Application) *cobra.Command {
	var file fileFlags
	var logs logFlags
	var yes bool
	var reason string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "replace",
		Short: "Throw a development platform away, with all its data, and publish the file anew",
		Long: `Throw a development platform away, with all its data, and publish the file anew.

It is refused unless the published version says development: true, and while any
process of the platform runs. The rows of every storage target are deleted, then topics
and consumer groups; then the file is published as version 1. Type the platform's name
to confirm, or use --yes.`,
		Example: fmt.Sprintf("  %[1]s platform replace -f platform.yaml\n  %[1]s platform replace --yes --reason \"new data model\"", app.Name),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, brokers, err := brokersOf(cmd, app, &file, &logs)
			if err != nil {
				return err
			}
			if err := cfg.CheckServers(); err != nil {
				return err // every database has to be emptied
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			removal, err := platform.PrepareRemoval(ctx, brokers, cfg.Names())
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if _, err := fmt.Fprintf(out, "platform %s in %s, version %d: %d topics with all their records, and the rows of %s\n", cfg.Name, cfg.Environment,
				removal.Version.GetVersion(), len(removal.Topics), plural(len(cfg.Storage.Targets), "storage target")); err != nil {
				return err
			}
			if !yes {
				if err := confirm(cmd, cfg.Name); err != nil {
					return err
				}
			}
			for _, t := range cfg.Storage.Targets {
				if err := empty(ctx, app, t); err != nil {
					return err
				}
			}
			if err := removal.Apply(ctx); err != nil {
				return err
			}
			update, err := platform.PrepareUpdate(ctx, brokers, cfg)
			if err != nil {
				return err
			}
			update.Reason = reason
			version, err := update.Apply(ctx, author())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(out, "done: version %d of %s in %s is published, and nothing else is there\n", version.GetVersion(), cfg.Name, cfg.Environment)
			return err
		},
	}
	file.add(cmd, app)
	logs.add(cmd, "error")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long it may take")
	return cmd
}

// empty deletes the rows of a storage target.
func empty(ctx context.Context, app node.Application, t platform.Target) error {
	target, err := postgres.Open(postgres.Config{DSN: t.DSN, Mappings: app.Mappings()})
	if err != nil {
		return usagef("storage target %s: %w", t.Name, err)
	}
	defer target.Close()
	if err := target.Empty(ctx); err != nil {
		return fmt.Errorf("storage target %s: %w", t.Name, err)
	}
	return nil
}

// confirm asks for the name of what is thrown away.
func confirm(cmd *cobra.Command, name string) error {
	if f, ok := cmd.InOrStdin().(*os.File); ok && !term.IsTerminal(int(f.Fd())) { //nolint:gosec // a file descriptor
		return usagef("nobody can be asked here; confirm with --yes")
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "Type %s to throw it away: ", name); err != nil {
		return err
	}
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if typed := strings.TrimSpace(line); typed != name {
		return usagef("%q is not %q; nothing was done", typed, name)
	}
	return err
}
