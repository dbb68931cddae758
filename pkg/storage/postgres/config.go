package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
)

// Config configures a Target.
type Config struct {
	// DSN is postgres://user:password@host:port/name?… or a list of
	// keyword=value, as libpq takes them.
	DSN string
	// Mappings of all Concerns that the target stores.
	Mappings []storage.Mapping
	// MaxConns bounds the connections. Default 8.
	MaxConns int32
	// LoadTimeout bounds one Load. Default 2 s.
	LoadTimeout time.Duration
	// ConnectTimeout bounds one attempt to connect. Default 2 s.
	ConnectTimeout time.Duration
	// BreakerPause is how long Loads fail at once after one found that the
	// database does not answer. Default 500 ms.
	BreakerPause time.Duration
	Logger       *slog.Logger
}

// WithDefaults returns the configuration with zero values replaced.
func (c Config) WithDefaults() Config {
	if c.MaxConns == 0 {
		c.MaxConns = 8
	}
	if c.LoadTimeout == 0 {
		c.LoadTimeout = 2 * time.Second
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 2 * time.Second
	}
	if c.BreakerPause == 0 {
		c.BreakerPause = 500 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every fault of the configuration. Passwords are not in it.
func (c Config) Validate() error {
	var faults []error
	if _, err := parse(c.DSN); err != nil {
		faults = append(faults, err)
	}
	if c.MaxConns < 0 || c.LoadTimeout < 0 || c.ConnectTimeout < 0 || c.BreakerPause < 0 {
		faults = append(faults, errors.New("a limit is negative"))
	}
	concerns, tables := map[string]bool{}, map[string]string{}
	for _, m := range c.Mappings {
		if err := m.Validate(); err != nil {
			faults = append(faults, err)
			continue
		}
		if concerns[m.Concern] {
			faults = append(faults, fmt.Errorf("two mappings of %s", m.Concern))
		}
		concerns[m.Concern] = true
		check := func(table string, columns []storage.Column) {
			if other, ok := tables[table]; ok {
				faults = append(faults, fmt.Errorf("mappings of %s and %s share the table %s", other, m.Concern, table))
			}
			tables[table] = m.Concern
			if table == watermarkTable || table == platformVersions || table == applicationVersions {
				faults = append(faults, fmt.Errorf("mapping of %s: the table %s is the platform's", m.Concern, table))
			}
			for _, col := range columns {
				if _, ok := arrays[col.Type]; !ok {
					faults = append(faults, fmt.Errorf("mapping of %s: column %s has the unknown type %q", m.Concern, col.Name, col.Type))
				}
			}
		}
		check(m.Table, m.Columns)
		for _, c := range m.Children {
			check(c.Table, c.Columns)
		}
	}
	return errors.Join(faults...)
}

func parse(dsn string) (*pgxpool.Config, error) {
	if dsn == "" {
		return nil, errors.New("DSN is empty; want postgres://user:password@host:port/name")
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("DSN %s: %s", Redact(dsn), Redact(reason(err)))
	}
	return cfg, nil
}

// reason returns why a DSN could not be parsed, without the DSN itself, which
// the driver repeats in front.
func reason(err error) string {
	text := err.Error()
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		text = inner.Error()
	}
	return text
}

var (
	passwordURL   = regexp.MustCompile(`(?i)(://[^/@:]*:).*@`)
	passwordQuery = regexp.MustCompile(`(?i)((?:ssl)?password=)[^&\s]*`)
	passwordWords = regexp.MustCompile(`(?i)((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:[^\s'\\]|\\.)+)`)
)

// Redact returns a DSN with its passwords hidden. It may be malformed.
func Redact(dsn string) string {
	dsn = passwordURL.ReplaceAllString(dsn, "${1}***@")
	dsn = passwordWords.ReplaceAllString(dsn, "${1}***")
	return passwordQuery.ReplaceAllString(dsn, "${1}***")
}
