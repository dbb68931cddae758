package cli

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/platform/node"
)

// fileFlags name the platform file and what overrides it.
type fileFlags struct {
	file, kafka, postgres string
}

func (f *fileFlags) add(cmd *cobra.Command, app node.Application) {
	f.addKafka(cmd, app, "")
	cmd.Flags().StringVar(&f.postgres, "postgres", "", "primary database as postgres://user:password@host:port/name (default: "+platform.EnvPostgresDSN+", else the file)")
}

// addKafka leaves the database out. name, where not empty, is that of the flag
// for the platform file, where -f is another file.
func (f *fileFlags) addKafka(cmd *cobra.Command, app node.Application, name string) {
	flags := cmd.Flags()
	file := "platform file, YAML or JSON"
	if app.PlatformFile != nil {
		file += " (default: the one built into " + app.Name + ")"
	}
	if name != "" {
		flags.StringVar(&f.file, name, "", file)
	} else {
		flags.StringVarP(&f.file, "file", "f", "", file)
	}
	flags.StringVar(&f.kafka, "kafka", "", "brokers as host:port,… (default: "+platform.EnvKafkaBootstrap+", else the file)")
}

// load reads the platform file, applies environment and flags, and adds what
// follows from the application.
func (f *fileFlags) load(app node.Application) (platform.Config, error) {
	cfg, err := f.read(app)
	if err != nil {
		return cfg, err
	}
	if f.kafka != "" {
		cfg.Kafka.Bootstrap = f.kafka
	}
	if f.postgres != "" {
		cfg.SetPrimaryDSN(f.postgres)
	}
	return app.Complete(cfg).WithDefaults(), nil
}

func (f *fileFlags) read(app node.Application) (platform.Config, error) {
	if f.file != "" {
		cfg, err := platform.Load(f.file, os.Getenv)
		if errors.Is(err, fs.ErrNotExist) {
			return cfg, usagef("platform file %s does not exist", f.file)
		}
		if _, ok := errors.AsType[*fs.PathError](err); ok {
			return cfg, usagef("%w", err)
		}
		return cfg, err
	}
	if app.PlatformFile == nil {
		return platform.Config{}, usagef("name a platform file with --file")
	}
	cfg, err := platform.Parse(app.PlatformFile, "built-in platform file")
	if err != nil {
		return cfg, err
	}
	cfg.ApplyEnv(os.Getenv)
	return cfg, nil
}
