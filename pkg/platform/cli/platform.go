package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

func newPlatform(app node.Application) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "platform",
		Short: "Publish and look at the platform's configuration",
		Args:  cobra.ArbitraryArgs,
		RunE:  edgecmd.Group,
	}
	cmd.AddCommand(newPlatformUpdate(app), newPlatformShow(app), newPlatformDiff(app), newPlatformHistory(app), newPlatformRollback(app))
	if len(app.Concerns) > 0 { // else nobody here knows what tables there are
		cmd.AddCommand(newPlatformReplace(app))
	}
	return cmd
}

// brokersOf returns the configuration that flags tell, and the way to its
// brokers.
func brokersOf(cmd *cobra.Command, app node.Application, file *fileFlags, logs *logFlags) (platform.Config, stream.Config, error) {
	logger, err := logs.logger(cmd.ErrOrStderr())
	if err != nil {
		return platform.Config{}, stream.Config{}, err
	}
	cfg, err := file.load(app)
	if err != nil {
		return cfg, stream.Config{}, err
	}
	if cfg.Kafka.Bootstrap == "" {
		return cfg, stream.Config{}, cfg.CheckServers()
	}
	return cfg, node.Stream(cfg, app.Name, logger), nil
}

func newPlatformShow(app node.Application) *cobra.Command {
	var file fileFlags
	var logs logFlags
	var timeout time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the published configuration",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, brokers, err := brokersOf(cmd, app, &file, &logs)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			version, err := platform.Current(ctx, brokers, cfg.Names())
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				raw, err := protojson.Marshal(version)
				if err != nil {
					return err
				}
				var text json.RawMessage = raw
				return json.NewEncoder(out).Encode(text)
			}
			p := version.GetConfig()
			lines := []string{
				fmt.Sprintf("%s in %s, version %d, published %s by %s", p.GetName(), p.GetEnvironment(), version.GetVersion(),
					time.UnixMilli(version.GetTimeMs()).Format(time.RFC3339), version.GetAuthor()),
				fmt.Sprintf("replicas %d, of which %d in sync; %d edge slots", p.GetReplicationFactor(), p.GetMinInsyncReplicas(), p.GetEdgeSlots()),
			}
			for _, c := range p.GetConcerns() {
				lines = append(lines, fmt.Sprintf("Concern %-20s %4d partitions, generation %04d", c.GetName(), c.GetPartitions(), c.GetGeneration()))
			}
			for _, l := range lines {
				if _, err := fmt.Fprintln(out, l); err != nil {
					return err
				}
			}
			return nil
		},
	}
	file.add(cmd, app)
	logs.add(cmd, "error")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().DurationVar(&timeout, "timeout", 15*time.Second, "how long it may take")
	return cmd
}

// author names who publishes: user and host.
func author() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// publish brings a platform about without asking, for a broker that is ours.
func publish(ctx context.Context, log stream.Config, cfg platform.Config) error {
	for {
		update, err := platform.PrepareUpdate(ctx, log, cfg)
		if err == nil {
			_, err = update.Apply(ctx, author())
		}
		// Somebody else published at the same time: look again.
		if txn.CodeOf(err) == txn.CodeAborted && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			continue
		}
		return err
	}
}
