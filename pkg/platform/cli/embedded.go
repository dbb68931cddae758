package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rocketcycle/rocketcycle/internal/devbroker"
	"github.com/rocketcycle/rocketcycle/internal/devpostgres"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// embedded are the servers that a process brings along.
type embedded struct {
	broker   *devbroker.Embedded
	database *devpostgres.Server
	lock     *os.File
}

func startEmbedded(ctx context.Context, f runFlags, logger *slog.Logger, progress io.Writer) (*embedded, error) {
	dir, err := filepath.Abs(f.dataDir)
	if err != nil {
		return nil, usagef("--data-dir: %w", err)
	}
	// The database's user must be able to pass through.
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // what is in it is closed
		return nil, usagef("--data-dir: %w", err)
	}
	// A folder that was made beforehand may be closed to others; what is in it
	// is closed by itself.
	if info, err := os.Stat(dir); err == nil && os.Geteuid() == 0 && info.Mode().Perm()&0o001 == 0 {
		if err := os.Chmod(dir, info.Mode().Perm()|0o001); err != nil {
			return nil, usagef("--data-dir: %w", err)
		}
	}
	e := &embedded{}
	if e.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	brokerDir := filepath.Join(dir, "kafka")
	if err := os.MkdirAll(brokerDir, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("--data-dir: %w", err), e.stop())
	}
	if e.broker, err = devbroker.StartEmbedded(ctx, devbroker.EmbeddedConfig{DataDir: brokerDir, Addr: f.kafkaAddr, Logger: logger}); err != nil {
		return nil, errors.Join(err, e.stop())
	}
	e.database, err = devpostgres.Start(ctx, devpostgres.Config{
		DataDir: filepath.Join(dir, "postgres"), Elsewhere: "/var/lib/rocketcycle", Database: "rkcy", Logger: logger,
		Progress: func(text string) { _, _ = fmt.Fprintln(progress, text) },
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embedded PostgreSQL: %w", err), e.stop())
	}
	return e, nil
}

// lockDir makes sure that a data directory is used by one process.
func lockDir(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, usagef("--data-dir: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil { //nolint:gosec // a file descriptor
		_ = lock.Close()
		return nil, txn.Errorf(txn.CodeFailedPrecondition, "the data directory %s is in use by another process; stop it, or name another --data-dir", dir)
	}
	return lock, nil
}

func (e *embedded) stop() error {
	var err error
	if e.database != nil {
		err = e.database.Stop()
	}
	if e.broker != nil {
		e.broker.Close()
	}
	return errors.Join(err, e.lock.Close())
}
