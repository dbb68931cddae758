package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
	"github.com/rocketcycle/rocketcycle/pkg/stream"
)

// repartition runs an update that changes numbers of partitions.
func repartition(ctx context.Context, out io.Writer, brokers stream.Config, cfg platform.Config, update *platform.Update) error {
	done, err := node.Repartition(ctx, brokers, cfg, update, author(), func(line string) {
		_, _ = fmt.Fprintln(out, line)
	})
	if err != nil {
		return err
	}
	pause := "no processor was running"
	if done.Pause > 0 {
		pause = fmt.Sprintf("longest pause %v", done.Pause.Round(time.Millisecond))
	}
	_, err = fmt.Fprintf(out, "done: version %d of %s in %s is published; %s\n",
		done.Version.GetVersion(), done.Version.GetConfig().GetName(), done.Version.GetConfig().GetEnvironment(), pause)
	return err
}
