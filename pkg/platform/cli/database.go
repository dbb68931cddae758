package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

func newDatabase(app node.Application) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "db",
		Short: "Make and check the tables of the storage targets",
		Args:  cobra.ArbitraryArgs,
		RunE:  edgecmd.Group,
	}
	cmd.AddCommand(newMigrate(app), newDatabaseStatus(app), newDraft(app))
	return cmd
}

func newMigrate(app node.Application) *cobra.Command {
	return targetCommand(app, "migrate", "Bring the tables of every storage target up to date", func(cmd *cobra.Command, ctx context.Context, t platform.Target, logs *logFlags) error {
		logger, err := logs.logger(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		applied, err := postgres.Migrate(ctx, t.DSN, app.Migrations, logger)
		if err != nil {
			return fmt.Errorf("storage target %s: %w", t.Name, err)
		}
		for _, name := range applied {
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: applied %s\n", t.Name, name); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: up to date\n", t.Name)
		return err
	})
}

func newDatabaseStatus(app node.Application) *cobra.Command {
	return targetCommand(app, "status", "Tell whether the tables of every storage target are as they must be", func(cmd *cobra.Command, ctx context.Context, t platform.Target, logs *logFlags) error {
		logger, err := logs.logger(cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		target, err := postgres.Open(postgres.Config{DSN: t.DSN, Mappings: app.Mappings(), Logger: logger})
		if err != nil {
			return usagef("storage target %s: %w", t.Name, err)
		}
		defer target.Close()
		if err := target.CheckSchema(ctx); err != nil {
			if txn.CodeOf(err) == txn.CodeUnavailable {
				return fmt.Errorf("storage target %s: %w", t.Name, err)
			}
			return txn.Errorf(txn.CodeFailedPrecondition, "storage target %s: %w; make them so with \"db migrate\"", t.Name, err)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: every table is as it must be\n", t.Name)
		return err
	})
}

func targetCommand(
	app node.Application, use, short string, do func(cmd *cobra.Command, ctx context.Context, t platform.Target, logs *logFlags) error,
) *cobra.Command {
	var file fileFlags
	var logs logFlags
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: use, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := file.load(app)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			for _, t := range cfg.Storage.Targets {
				if t.DSN == "" {
					return cfg.CheckServers()
				}
				if err := do(cmd, ctx, t, &logs); err != nil {
					return err
				}
			}
			return nil
		},
	}
	file.add(cmd, app)
	logs.add(cmd, "error")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long it may take")
	return cmd
}
