package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
)

// Target is a PostgreSQL database. It implements storage.Target and, for
// processors, reads instances. Safe for concurrent use.
type Target struct {
	cfg     Config
	pool    *pgxpool.Pool
	tables  map[string]*table
	breaker breaker
}

var _ storage.Target = (*Target)(nil)

// Open returns a target. It does not connect: that the database is away shows
// when it is used, and passes when it is back.
func Open(cfg Config) (*Target, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	pc, err := parse(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	pc.MaxConns, pc.MinConns, pc.MinIdleConns = cfg.MaxConns, 0, 0
	pc.ConnConfig.ConnectTimeout = cfg.ConnectTimeout
	pc.PingTimeout = cfg.ConnectTimeout
	pool, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	t := &Target{cfg: cfg, pool: pool, tables: map[string]*table{}, breaker: breaker{pause: cfg.BreakerPause, now: time.Now}}
	for _, m := range cfg.Mappings {
		t.tables[m.Concern] = newTable(m)
	}
	return t, nil
}

// Ping says whether the database answers.
func (t *Target) Ping(ctx context.Context) error {
	if err := t.pool.Ping(ctx); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// Close waits for what is under way and closes all connections.
func (t *Target) Close() { t.pool.Close() }
