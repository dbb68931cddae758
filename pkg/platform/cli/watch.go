package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/cli/edgecmd"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// watchKinds are the kinds of topics that can be watched.
var watchKinds = []string{"process", "state", "storage", "error", "response"}

func newWatch(app node.Application) *cobra.Command {
	var f opsFlags
	var details, once bool
	var filter inspect.WatchFilter
	var kinds []string
	var from string
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Follow transactions through the topics, live",
		Long: `Follow transactions through the topics, live.

One line per committed record: time, kind of topic, partition and offset, what it
is, transaction, key, and some words. With -d payloads and instances follow, as
JSON. With --json each line is an object that has everything.

With --concern or --key the transactions that touch it are followed: their later
records are shown, too, wherever they are.`,
		Example: fmt.Sprintf("  %[1]s watch\n  %[1]s watch -d --concern %[2]s --key ID --since 10m\n  %[1]s watch --since 1h --once --json", app.Name, firstConcern(app)),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin, err := since(from)
			if err != nil {
				return err
			}
			if once && from == "" {
				return usagef("--once ends at what is there now, so say with --since where to begin")
			}
			if filter.TxnID != "" {
				id, err := txn.ParseID(filter.TxnID)
				if err != nil {
					return usagef("--txn: %w", err)
				}
				if filter.TxnID = id.String(); from == "" {
					begin = id.Time().Add(-time.Minute)
				}
			}
			for _, k := range kinds {
				if !slices.Contains(watchKinds, k) {
					return usagef("--kind: %q is not allowed%s; allowed are %s", k, suggest.Hint(k, watchKinds), strings.Join(watchKinds, ", "))
				}
				filter.Kinds = append(filter.Kinds, platform.Kind(k))
			}
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				if err := l.concern(filter.Concern); err != nil {
					return err
				}
				return l.inspector.Watch(ctx, inspect.WatchConfig{
					Types: l.types, Filter: filter, Since: begin, Once: once,
					Started: func() {
						if !f.json && !once {
							_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "watching; an interrupt ends it")
						}
					},
				}, func(e *inspect.Event) error { return l.event(e, details) })
			})
		},
	}
	f.add(cmd, app, 0)
	flags := cmd.Flags()
	flags.BoolVarP(&details, "details", "d", false, "with payloads and instances")
	flags.StringVar(&filter.Concern, "concern", "", "only what touches this Concern")
	flags.StringVar(&filter.TxnID, "txn", "", "only this transaction, from its beginning on")
	flags.StringVar(&filter.Key, "key", "", "only transactions that touch the instance of this key")
	flags.StringSliceVar(&kinds, "kind", nil, "only topics of this kind: "+strings.Join(watchKinds, ", ")+"; may be repeated")
	flags.StringVar(&from, "since", "", "begin in the past: an age like 10m, or a time (RFC 3339)")
	flags.BoolVar(&once, "once", false, "end at what is there now")
	completeConcerns(cmd, app)
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(watchKinds, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// event writes one event.
func (l *look) event(e *inspect.Event, details bool) error {
	if l.json {
		return json.NewEncoder(l.out).Encode(e)
	}
	if _, err := fmt.Fprintln(l.out, e.Line()); err != nil || !details || e.Record == nil {
		return err
	}
	_, err := fmt.Fprintln(l.out, e.Details("    "))
	return err
}

func newDecode(app node.Application) *cobra.Command {
	var f opsFlags
	var count int
	cmd := &cobra.Command{
		Use:   "decode TOPIC PARTITION OFFSET",
		Short: "Show what a record says, with payloads and instances",
		Long: `Show what a record says, with payloads and instances.

TOPIC is the name of a topic, or CONCERN.KIND for one of the published generation,
or platform, config, response.`,
		Example: fmt.Sprintf("  %[1]s decode %[2]s.process 0 1234\n  %[1]s decode %[2]s.storage 0 0 --count 10 --json", app.Name, firstConcern(app)),
		Args:    cobra.ArbitraryArgs,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return shortTopics(concernNames(app)), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 3 {
				return usagef("%s takes a topic, a partition and an offset; see %s --help", cmd.CommandPath(), cmd.CommandPath())
			}
			partition, err := strconv.ParseInt(args[1], 10, 32)
			if err != nil || partition < 0 {
				return usagef("%q is not a partition", args[1])
			}
			offset, err := strconv.ParseInt(args[2], 10, 64)
			if err != nil || offset < 0 {
				return usagef("%q is not an offset", args[2])
			}
			if count < 1 {
				return usagef("--count is %d; it is at least 1", count)
			}
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				topic, err := l.topic(args[0])
				if err != nil {
					return err
				}
				return l.decode(ctx, stream.TopicPartition{Topic: topic, Partition: int32(partition)}, offset, count)
			})
		},
	}
	f.add(cmd, app, 15*time.Second)
	cmd.Flags().IntVar(&count, "count", 1, "how many records")
	return cmd
}

func shortTopics(concerns []string) []string {
	out := []string{"platform", "config", "response"}
	for _, c := range concerns {
		for _, kind := range []string{"process", "state", "storage", "error"} {
			out = append(out, c+"."+kind)
		}
	}
	return out
}

// topic returns the topic that a name stands for.
func (l *look) topic(name string) (string, error) {
	if _, _, _, _, _, ok := platform.ParseTopic(name); ok {
		return name, nil
	}
	names := l.router.Names()
	switch name {
	case "platform":
		return names.PlatformTopic(), nil
	case "config":
		return names.ConfigTopic(), nil
	case "response":
		return names.ResponseTopic(), nil
	}
	concern, kind, _ := strings.Cut(name, ".")
	if err := l.concern(concern); err != nil {
		return "", err
	}
	switch kind {
	case "process":
		return names.ProcessTopic(concern), nil
	case "state":
		return names.StateTopic(concern), nil
	case "storage":
		return names.StorageTopic(concern), nil
	case "error":
		return names.ErrorTopic(concern), nil
	}
	return "", usagef("%q is not a topic; want its name, platform, config, response, or %s.process, .state, .storage, .error", name, concern)
}

// errEnough ends a read that has found what it looked for.
var errEnough = errors.New("enough")

func (l *look) decode(ctx context.Context, tp stream.TopicPartition, offset int64, count int) error {
	admin, err := stream.NewAdmin(l.log)
	if err != nil {
		return err
	}
	defer admin.Close()
	topics, err := admin.Topics(ctx)
	if err != nil {
		return txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	switch n, exists := topics[tp.Topic]; {
	case !exists:
		return txn.Errorf(txn.CodeNotFound, "topic %s does not exist", tp.Topic)
	case n > 0 && int(tp.Partition) >= n:
		return txn.Errorf(txn.CodeNotFound, "topic %s has the partitions 0 to %d", tp.Topic, n-1)
	}
	low, err := admin.LowWatermarks(ctx, []stream.TopicPartition{tp})
	if err != nil {
		return txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	stable, err := admin.StableOffsets(ctx, []stream.TopicPartition{tp})
	if err != nil {
		return txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	if offset < low[tp] || offset >= stable[tp] {
		return txn.Errorf(txn.CodeNotFound, "there is no committed record at offset %d: the log of %s[%d] has %d up to %d",
			offset, tp.Topic, tp.Partition, low[tp], stable[tp]-1)
	}
	reader, err := stream.NewReader(l.log)
	if err != nil {
		return err
	}
	defer reader.Close()
	decoder, shown := inspect.NewDecoder(l.types), 0
	_, err = reader.ReadUntil(ctx, tp, offset, stable[tp], func(r stream.Record) error {
		if shown == 0 && r.Offset != offset && count == 1 {
			return txn.Errorf(txn.CodeNotFound, "there is no committed record at offset %d, but the marker of a Kafka transaction, or a record that was not committed; the next one is at %d",
				offset, r.Offset)
		}
		if err := l.event(decoder.Decode(r), true); err != nil {
			return err
		}
		if shown++; shown == count {
			return errEnough
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnough):
		return nil
	case err == nil && shown == 0:
		return txn.Errorf(txn.CodeNotFound, "there is no committed record at offset %d, nor behind it", offset)
	case err != nil && txn.CodeOf(err) != txn.CodeNotFound:
		return &edgecmd.ExitError{Code: edgecmd.ExitUnavailable, Err: err}
	}
	return err
}
