package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/inspect"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// versionLine is a published version in a list.
type versionLine struct {
	Version    uint64    `json:"version"`
	Time       time.Time `json:"time"`
	Author     string    `json:"author"`
	Reason     string    `json:"reason,omitempty"`
	RollbackTo uint64    `json:"rollback_to,omitempty"`
	Changes    []string  `json:"changes"`
}

func newPlatformHistory(app node.Application) *cobra.Command {
	var f opsFlags
	cmd := &cobra.Command{
		Use:     "history",
		Short:   "List the published versions, the newest first: who, when, why, what changed",
		Example: fmt.Sprintf("  %[1]s platform history\n  %[1]s platform history --json", app.Name),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				s, err := platform.Read(ctx, l.log, l.router.Names())
				if err != nil {
					return err
				}
				lines := []versionLine{}
				var before *rkcyv1.PlatformConfig
				for _, v := range s.Versions {
					line := versionLine{Version: v.GetVersion(), Time: time.UnixMilli(v.GetTimeMs()).UTC(), Author: v.GetAuthor(), Reason: v.GetReason(), RollbackTo: v.GetRollbackTo()}
					if before != nil || v.GetVersion() == 1 {
						line.Changes = platform.Changes(before, v.GetConfig())
					}
					before = v.GetConfig()
					lines = append(lines, line)
				}
				slices.Reverse(lines)
				return l.write(lines, func(w io.Writer) {
					_, _ = fmt.Fprintln(w, "VERSION\tTIME\tAUTHOR\tCHANGES, REASON")
					for _, v := range lines {
						words := strings.Join(v.Changes, "; ")
						if v.RollbackTo > 0 {
							words = fmt.Sprintf("back to version %d: %s", v.RollbackTo, words)
						}
						if v.Reason != "" {
							words += " (" + v.Reason + ")"
						}
						_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", v.Version, v.Time.Format(time.RFC3339), inspect.Printable(v.Author), inspect.Printable(words))
					}
				})
			})
		},
	}
	f.add(cmd, app, 15*time.Second)
	return cmd
}

func newPlatformDiff(app node.Application) *cobra.Command {
	var f opsFlags
	cmd := &cobra.Command{
		Use:   "diff [FROM [TO]]",
		Short: "Show in what two versions differ, or the file and the published one",
		Long: `Show in what two versions differ, or the file and the published one.

Without an argument the platform file is compared with the published version; with
one, that version with the published one.`,
		Example: fmt.Sprintf("  %[1]s platform diff -f platform.yaml\n  %[1]s platform diff 2\n  %[1]s platform diff 2 4", app.Name),
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			numbers, err := versionArgs(cmd, args, 0, 2)
			if err != nil {
				return err
			}
			return f.look(cmd, app, func(ctx context.Context, l *look) error {
				changes, err := l.diff(ctx, numbers)
				if err != nil {
					return err
				}
				if changes == nil {
					changes = []string{}
				}
				return l.write(changes, func(w io.Writer) {
					if len(changes) == 0 {
						_, _ = fmt.Fprintln(w, "no difference")
					}
					for _, c := range changes {
						_, _ = fmt.Fprintln(w, inspect.Printable(c))
					}
				})
			})
		},
	}
	f.add(cmd, app, 15*time.Second)
	return cmd
}

func (l *look) diff(ctx context.Context, numbers []uint64) ([]string, error) {
	s, err := platform.Read(ctx, l.log, l.router.Names())
	if err != nil {
		return nil, err
	}
	if len(numbers) == 0 {
		u, err := platform.PrepareUpdate(ctx, l.log, l.cfg)
		if err != nil {
			return nil, err
		}
		return platform.Changes(u.Current.GetConfig(), u.Wanted), nil
	}
	if len(numbers) == 1 {
		numbers = append(numbers, s.Current.GetVersion())
	}
	var two [2]*rkcyv1.PlatformConfig
	for i, n := range numbers {
		v := s.Version(n)
		if v == nil {
			return nil, txn.Errorf(txn.CodeNotFound, "there is no version %d; there are %d to %d", n, s.Versions[0].GetVersion(), s.Current.GetVersion())
		}
		two[i] = v.GetConfig()
	}
	return platform.Changes(two[0], two[1]), nil
}
