package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/configset"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// shownSet is a published set as "config show --json" has it.
type shownSet struct {
	Concern   string            `json:"concern"`
	Version   uint64            `json:"version"`
	Time      *time.Time        `json:"time,omitempty"`
	Author    string            `json:"author,omitempty"`
	Instances []json.RawMessage `json:"instances"`
}

func newConfigShow(app node.Application) *cobra.Command {
	var at configFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show [NAME]",
		Short: "Show the instances that handlers see",
		Long: `Show the instances that handlers see, of one config Concern or of all.

With --json it is a list of sets, whose instances can be given to "config replace".`,
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted := make([]configset.Definition, 0, len(app.ConfigConcerns))
			if len(args) > 0 {
				one, err := configConcern(app, cmd, args)
				if err != nil {
					return err
				}
				wanted = append(wanted, one)
			} else {
				for _, d := range app.ConfigConcerns {
					wanted = append(wanted, configset.Definition(d))
				}
			}
			return at.with(cmd, app, func(ctx context.Context, log stream.Config, names platform.Names) error {
				latest := map[string]*rkcyv1.ConfigVersion{}
				if err := configset.Read(ctx, log, names, func(v *rkcyv1.ConfigVersion) { latest[v.GetConcern()] = v }); err != nil {
					return err
				}
				sets := make([]shownSet, len(wanted))
				for i, d := range wanted {
					var err error
					if sets[i], err = showSet(d, latest[d.Name]); err != nil {
						return err
					}
				}
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(sets)
				}
				return printSets(cmd.OutOrStdout(), sets)
			})
		},
	}
	at.add(cmd, app)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func showSet(d configset.Definition, v *rkcyv1.ConfigVersion) (shownSet, error) {
	s := shownSet{Concern: d.Name, Version: v.GetVersion(), Instances: []json.RawMessage{}}
	if v == nil {
		return s, nil
	}
	set, err := d.Decode(v)
	if err != nil {
		return s, err
	}
	at := set.Time.UTC()
	s.Time, s.Author = &at, set.Author
	for _, key := range slices.Sorted(maps.Keys(set.Instances)) {
		s.Instances = append(s.Instances, json.RawMessage(configset.JSON(set.Instances[key])))
	}
	return s, nil
}

func printSets(out io.Writer, sets []shownSet) error {
	for _, s := range sets {
		line := fmt.Sprintf("%s: nothing was published", s.Concern)
		if s.Time != nil {
			line = fmt.Sprintf("%s: %d instances, version %d, published %s by %s", s.Concern, len(s.Instances), s.Version, s.Time.Format(time.RFC3339), s.Author)
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
		for _, i := range s.Instances {
			if _, err := fmt.Fprintf(out, "  %s\n", i); err != nil {
				return err
			}
		}
	}
	return nil
}

func newConfigHistory(app node.Application) *cobra.Command {
	var at configFlags
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List every version that was published",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return at.with(cmd, app, func(ctx context.Context, log stream.Config, names platform.Names) error {
				var lines []string
				if err := configset.Read(ctx, log, names, func(v *rkcyv1.ConfigVersion) {
					lines = append(lines, fmt.Sprintf("version %d of %s, %d instances, published %s by %s", v.GetVersion(), v.GetConcern(),
						len(v.GetInstances()), time.UnixMilli(v.GetTimeMs()).UTC().Format(time.RFC3339), v.GetAuthor()))
				}); err != nil {
					return err
				}
				if len(lines) == 0 {
					lines = append(lines, "nothing was published")
				}
				for _, l := range lines {
					if _, err := fmt.Fprintln(cmd.OutOrStdout(), l); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	at.add(cmd, app)
	return cmd
}
