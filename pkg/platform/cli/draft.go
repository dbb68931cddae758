package cli

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/storage/postgres"
)

// draftName is what a migration may be called.
var draftName = regexp.MustCompile(`^[a-z0-9_]{1,60}$`)

func newDraft(app node.Application) *cobra.Command {
	var file fileFlags
	var timeout time.Duration
	var name, dir string
	cmd := &cobra.Command{
		Use:   "draft",
		Short: "Write a migration that makes what the tables lack, to be reviewed",
		Long: `Compare the tables of the primary storage target with what the program's Concerns
need, and write a migration that adds what is missing. Read it before you use it:
a column that was renamed looks like one that is new. Then commit it, build the
program, and run "db migrate".`,
		Example: "  " + app.Name + " db draft --name character_level --dir db/migrations",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !draftName.MatchString(name) {
				return usagef("--name %q does not match %s", name, draftName)
			}
			cfg, err := file.load(app)
			if err != nil {
				return err
			}
			primary := cfg.Storage.Targets[0]
			for _, t := range cfg.Storage.Targets {
				if t.Role == "primary" {
					primary = t
				}
			}
			if primary.DSN == "" {
				return cfg.CheckServers()
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			target, err := postgres.Open(postgres.Config{DSN: primary.DSN, Mappings: app.Mappings()})
			if err != nil {
				return usagef("storage target %s: %w", primary.Name, err)
			}
			defer target.Close()
			text, err := target.Draft(ctx)
			if err != nil {
				return fmt.Errorf("storage target %s: %w", primary.Name, err)
			}
			if text == "" {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: every table has what it must have\n", primary.Name)
				return err
			}
			if dir == "" {
				_, err := fmt.Fprint(cmd.OutOrStdout(), text)
				return err
			}
			number, err := nextMigration(app.Migrations)
			if err != nil {
				return err
			}
			path := filepath.Join(dir, fmt.Sprintf("%05d_%s.sql", number, name))
			// What is there already may have been reviewed.
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // a source file
			if err != nil {
				return usagef("%w", err)
			}
			if _, err := f.WriteString(text); err != nil {
				_ = f.Close()
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s; read it before you use it\n", path)
			return err
		},
	}
	file.add(cmd, app)
	f := cmd.Flags()
	f.StringVar(&name, "name", "draft", "what the migration is called")
	f.StringVar(&dir, "dir", "", "folder to write NNNNN_NAME.sql into (default: standard output)")
	f.DurationVar(&timeout, "timeout", time.Minute, "how long it may take")
	return cmd
}

// nextMigration returns the number behind those that the program has.
func nextMigration(files fs.FS) (int, error) {
	next := 1
	if files == nil {
		return next, nil
	}
	names, err := fs.Glob(files, "*.sql")
	for _, n := range names {
		digits := len(n) - len(trimDigits(n))
		if at, err := strconv.Atoi(n[:digits]); err == nil {
			next = max(next, at+1)
		}
	}
	return next, err
}

func trimDigits(s string) string {
	for s != "" && s[0] >= '0' && s[0] <= '9' {
		s = s[1:]
	}
	return s
}
