package cli

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"
)

// logFlags say what is logged, to standard error.
type logFlags struct {
	level  string
	format string
}

func (l *logFlags) add(cmd *cobra.Command, level string) {
	cmd.Flags().StringVar(&l.level, "log-level", level, "debug, info, warn or error")
	cmd.Flags().StringVar(&l.format, "log-format", "text", "text or json")
}

func (l *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, usagef("--log-level: %q is not allowed; allowed are debug, info, warn, error", l.level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, usagef("--log-format: %q is not allowed; allowed are text, json", l.format)
}
