package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
)

// envEdge is the variable that names the edge, as for "rpg edge".
const envEdge = "RPG_EDGE"

type flags struct {
	Config
	postgres  []string
	readyFile string
	json      bool
}

// NewCommand returns the command "sim". mappings are those of the application.
func NewCommand(mappings []storage.Mapping) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Put load on an edge, and check that nothing was lost or doubled",
		Long: `Put load on an edge, and check that nothing was lost or doubled.

It creates players and characters, sends requests from several runners, and keeps
a model of what must come of it. An operation whose outcome nobody knows may have
taken effect or not; what the characters have in the end tells. Then it compares
the model with what the processors answer and with the rows in every database that
is named, and prints each difference.

The mixes, in percent of reads, fundings and trades:

  heavy-read   90   5   5
  balanced     34  33  33
  fund              100
  trade                 100

Some trades must be refused, since they ask for more than there is.

Exit code: 0 everything is equal, 1 something differs, 2 wrong usage, 4 edge or
database cannot be reached.`,
		Example: `  rpg run --embedded --ready-file ready.json
  rpg sim --ready-file ready.json --mix trade --runners 64 --count 10000
  rpg sim --edge 127.0.0.1:11371 --postgres "$DSN" --seed 7`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%s takes no argument, but got %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.Mappings = mappings
			return f.run(cmd)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Mix, "mix", "balanced", "what is sent: "+strings.Join(Mixes(), ", "))
	flags.IntVar(&f.Runners, "runners", 8, "how many send at the same time")
	flags.IntVar(&f.Count, "count", 1000, "how many requests are sent in all")
	flags.IntVar(&f.Characters, "characters", 100, "with how many characters")
	flags.Uint64Var(&f.Seed, "seed", 0, "decides what is sent (default: another one each time)")
	flags.StringVar(&f.Edge, "edge", "", "where the edge serves gRPC, host:port (default: "+envEdge+", else "+platform.DefaultGRPCAddr+")")
	flags.StringArrayVar(&f.postgres, "postgres", nil, "a database to compare, postgres://user:password@host:port/name; may be repeated (default: "+platform.EnvPostgresDSN+")")
	flags.StringVar(&f.readyFile, "ready-file", "", "take edge and database from the file that \"run --ready-file\" wrote")
	flags.DurationVar(&f.Timeout, "timeout", 10*time.Second, "deadline of a request")
	flags.DurationVar(&f.Wait, "wait", 30*time.Second, "how long edge and databases may be away or behind")
	flags.BoolVar(&f.json, "json", false, "print the result as JSON")
	_ = cmd.RegisterFlagCompletionFunc("mix", cobra.FixedCompletions(Mixes(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func usagef(format string, args ...any) error {
	return &edgecmd.ExitError{Code: edgecmd.ExitUsage, Err: fmt.Errorf(format, args...)}
}

// servers says where everything is: flags, then the ready file, then variables.
func (f *flags) servers() error {
	var at cli.Addresses
	if f.readyFile != "" {
		raw, err := os.ReadFile(f.readyFile)
		if err != nil {
			return usagef("--ready-file: %w", err)
		}
		if err := json.Unmarshal(raw, &at); err != nil {
			return usagef("--ready-file %s: %w", f.readyFile, err)
		}
	}
	first := func(values ...string) string {
		for _, v := range values {
			if v != "" {
				return v
			}
		}
		return ""
	}
	f.Edge = first(f.Edge, at.GRPC, os.Getenv(envEdge), platform.DefaultGRPCAddr)
	if len(f.postgres) == 0 {
		if dsn := first(at.Postgres, os.Getenv(platform.EnvPostgresDSN)); dsn != "" {
			f.postgres = []string{dsn}
		}
	}
	f.Databases = nil
	for i, dsn := range f.postgres {
		name := "primary"
		if i > 0 {
			name = fmt.Sprintf("number %d", i+1)
		}
		f.Databases = append(f.Databases, Database{Name: name, DSN: dsn})
	}
	return nil
}

func (f *flags) run(cmd *cobra.Command) error {
	if err := f.servers(); err != nil {
		return err
	}
	if !cmd.Flags().Changed("seed") {
		f.Seed = uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	}
	if err := f.Validate(); err != nil {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	}
	errOut := cmd.ErrOrStderr()
	if _, err := fmt.Fprintf(errOut, "seed %d\n", f.Seed); err != nil {
		return err
	}
	tell, end := progress(errOut, f.Count)
	f.Progress = tell
	r, err := Run(cmd.Context(), f.Config)
	end()
	if r != nil {
		if writeErr := f.write(cmd.OutOrStdout(), r); writeErr != nil && err == nil {
			err = writeErr
		}
	}
	if err == nil && len(r.Differences) > 0 {
		err = &edgecmd.ExitError{Code: edgecmd.ExitOther, Err: fmt.Errorf("%d differences; the seed is %d", len(r.Differences), f.Seed)}
	}
	return err
}

func (f *flags) write(w io.Writer, r *Result) error {
	if f.json {
		return r.WriteJSON(w)
	}
	return r.Write(w)
}
