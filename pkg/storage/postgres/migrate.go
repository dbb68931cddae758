package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

//go:embed migrations/*.sql
var platformMigrations embed.FS

const (
	platformVersions    = "rkcy_migrations"
	applicationVersions = "schema_migrations"
	// migrationLock is held while migrations run. Any number that others are
	// not likely to use.
	migrationLock = 0x726b6379_6d696772
)

// Migrate brings the tables up to date: the platform's own, then those that the
// application's migrations (files NNNNN_name.sql with goose's annotations; nil
// for none) describe. It returns what it ran, which may be some of it when it
// fails. Run twice, or by several at once, it does the same as once.
func Migrate(ctx context.Context, dsn string, migrations fs.FS, logger *slog.Logger) (applied []string, err error) {
	err = withProviders(ctx, dsn, migrations, logger, func(db *sql.DB, providers []*goose.Provider) error {
		unlock, err := lockMigrations(ctx, db)
		if err != nil {
			return err
		}
		defer unlock()
		for _, p := range providers {
			results, err := p.Up(ctx)
			if partial, ok := errors.AsType[*goose.PartialError](err); ok {
				results = partial.Applied
				if partial.Failed != nil && partial.Failed.Source != nil {
					err = fmt.Errorf("migration %s: %w", partial.Failed.Source.Path, partial.Err)
				}
			}
			for _, r := range results {
				applied = append(applied, r.Source.Path)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return applied, err
}

// Pending returns the migrations that Migrate would run.
func Pending(ctx context.Context, dsn string, migrations fs.FS) (pending []string, err error) {
	err = withProviders(ctx, dsn, migrations, nil, func(db *sql.DB, providers []*goose.Provider) error {
		tables := []string{platformVersions, applicationVersions}
		for i, p := range providers {
			// A look must not make the table of versions.
			var there bool
			if err := db.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", tables[i]).Scan(&there); err != nil {
				return err
			}
			if !there {
				for _, s := range p.ListSources() {
					pending = append(pending, s.Path)
				}
				continue
			}
			status, err := p.Status(ctx)
			if err != nil {
				return err
			}
			for _, s := range status {
				if s.State == goose.StatePending {
					pending = append(pending, s.Source.Path)
				}
			}
		}
		return nil
	})
	return pending, err
}

func withProviders(
	ctx context.Context, dsn string, migrations fs.FS, logger *slog.Logger, do func(*sql.DB, []*goose.Provider) error,
) error {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	cfg, err := parse(dsn)
	if err != nil {
		return fmt.Errorf("postgres: migrations: %w", err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return fmt.Errorf("postgres: migrations: %w", err)
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }()
	if err := db.PingContext(ctx); err != nil {
		return txn.Errorf(txn.CodeUnavailable, "postgres: migrations: the database cannot be reached: %w", err)
	}
	own, err := fs.Sub(platformMigrations, "migrations")
	if err != nil {
		return fmt.Errorf("postgres: migrations: %w", err)
	}
	var providers []*goose.Provider
	for _, source := range []struct {
		files fs.FS
		table string
	}{{own, platformVersions}, {migrations, applicationVersions}} {
		if source.files == nil {
			continue
		}
		p, err := goose.NewProvider(goose.DialectPostgres, db, source.files,
			goose.WithTableName(source.table), goose.WithDisableGlobalRegistry(true), goose.WithSlog(logger))
		if errors.Is(err, goose.ErrNoMigrations) {
			continue
		}
		if err != nil {
			return fmt.Errorf("postgres: migrations: %w", err)
		}
		providers = append(providers, p)
	}
	if err := do(db, providers); err != nil {
		return fmt.Errorf("postgres: migrations: %w", err)
	}
	return nil
}

// lockMigrations waits until nobody else runs migrations. It asks again and
// again, since a session that waits inside of a statement would be waited for
// by CREATE INDEX CONCURRENTLY.
func lockMigrations(ctx context.Context, db *sql.DB) (unlock func(), err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	for {
		var locked bool
		if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", int64(migrationLock)).Scan(&locked); err != nil {
			return nil, errors.Join(fmt.Errorf("lock: %w", err), conn.Close())
		}
		if locked {
			break
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another process runs migrations: %w", ctx.Err()), conn.Close())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1)", int64(migrationLock))
		_ = conn.Close()
	}, nil
}
