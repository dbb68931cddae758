package platform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Environment variables that override a platform file.
const (
	// EnvKafkaBootstrap replaces kafka.bootstrap.
	EnvKafkaBootstrap = "RKCY_KAFKA_BOOTSTRAP"
	// EnvPostgresDSN replaces the dsn of the primary storage target, and makes
	// one if the file has no target.
	EnvPostgresDSN = "RKCY_POSTGRES_DSN"
)

// Load reads a platform file, applies the environment, fills in defaults and
// validates the whole. getenv is usually os.Getenv.
func Load(file string, getenv func(string) string) (Config, error) {
	data, err := os.ReadFile(file) //nolint:gosec // the file the user named
	if err != nil {
		return Config{}, fmt.Errorf("platform file: %w", err)
	}
	cfg, faults := decodeFile(data, file)
	if faults == nil {
		cfg.ApplyEnv(getenv)
	}
	return finish(cfg, faults)
}

// Parse reads a platform file in YAML or JSON, fills in defaults and validates
// it. file is used in messages; a name that ends in .json makes the syntax
// JSON's. The error is of type Faults and has everything that is wrong.
func Parse(data []byte, file string) (Config, error) {
	return finish(decodeFile(data, file))
}

// finish looks for faults of meaning in what could be read; what could not be
// read is reported already.
func finish(cfg Config, faults Faults) (Config, error) {
	cfg = cfg.WithDefaults()
	seen := map[string]bool{}
	for _, f := range faults {
		if f.Path == "" && f.Line == 0 || cfg.source == nil {
			return Config{}, faults.orNil() // syntax: there is nothing to look at
		}
		seen[f.Path] = true
	}
	for _, f := range cfg.faults() {
		if !seen[f.Path] {
			faults = append(faults, f)
		}
	}
	if err := faults.orNil(); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

func decodeFile(data []byte, file string) (Config, Faults) {
	var cfg Config
	if strings.EqualFold(filepath.Ext(file), ".json") {
		if f, bad := jsonFault(data, file); bad {
			return cfg, Faults{f}
		}
	}
	faults := decode(data, file, &cfg)
	return cfg, faults
}

func jsonFault(data []byte, file string) (Fault, bool) {
	var any json.RawMessage
	err := json.Unmarshal(data, &any)
	if err == nil {
		return Fault{}, false
	}
	f := Fault{File: file, Message: "not valid JSON: " + err.Error()}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := data[:min(int(syntax.Offset), len(data))]
		f.Line = 1 + bytes.Count(before, []byte("\n"))
		f.Column = len(before) - bytes.LastIndexByte(before, '\n') - 1
	}
	return f, true
}

// ApplyEnv overrides addresses of servers with what the environment says.
func (c *Config) ApplyEnv(getenv func(string) string) {
	if v := getenv(EnvKafkaBootstrap); v != "" {
		c.Kafka.Bootstrap = v
		c.source = c.source.outside("kafka.bootstrap")
	}
	if v := getenv(EnvPostgresDSN); v != "" {
		c.SetPrimaryDSN(v)
	}
}

// SetPrimaryDSN sets the address of the primary storage target, which is made
// if there is no target.
func (c *Config) SetPrimaryDSN(dsn string) {
	if len(c.Storage.Targets) == 0 {
		c.Storage.Targets = []Target{{Name: "main", Type: TypePostgres, Role: RolePrimary, DSN: dsn}}
		return
	}
	for i := range c.Storage.Targets {
		t := &c.Storage.Targets[i]
		if t.Role == RolePrimary || len(c.Storage.Targets) == 1 {
			t.DSN = dsn
			c.source = c.source.outside(fmt.Sprintf("storage.targets[%d].dsn", i))
		}
	}
}
