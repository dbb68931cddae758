package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// class is what an error of the database asks for.
type class int

const (
	// classAway: nobody answers, or says that it cannot serve now.
	classAway class = iota
	// classRetry: the database is well; the same again may succeed.
	classRetry
	// classSchema: a table or column is not as the mapping has it.
	classSchema
	// classRefused: the database does not take this statement or these values.
	classRefused
)

// classify sorts errors by SQLSTATE. What did not come from the server means
// that it could not be asked.
func classify(err error) class {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return classAway
	}
	switch e.Code {
	case "57014", // cancelled: by us after a time-out, or by an operator
		"55P03", // lock not available
		"0A000": // the cached plan no longer fits, after a migration
		return classRetry
	case "42P01", "42703", "42804", "42P10", "3F000", "42883", "42846":
		return classSchema
	}
	switch e.Code[:min(2, len(e.Code))] {
	case "08", "57", "58", "53", "28", "3D": // connection, shutdown, system, resources, authorization, no such database
		return classAway
	case "40", "25", "XX": // serialization and deadlock, a read-only standby, internal
		return classRetry
	}
	return classRefused
}

const migrateHint = "have the migrations been run?"

// describe adds to an error of the server what its text leaves out, except for
// values of the rows.
func describe(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	var at []string
	for _, part := range [][2]string{{"table", e.TableName}, {"column", e.ColumnName}, {"constraint", e.ConstraintName}} {
		if part[1] != "" {
			at = append(at, part[0]+" "+part[1])
		}
	}
	if len(at) > 0 {
		err = fmt.Errorf("%w (%s)", err, strings.Join(at, ", "))
	}
	if classify(err) == classSchema {
		err = fmt.Errorf("%w; %s", err, migrateHint)
	}
	return err
}

// applyError marks what trying again does not cure.
func applyError(err error) error {
	if classify(err) == classRefused {
		return fmt.Errorf("postgres: %w: %w", storage.ErrPermanent, describe(err))
	}
	return fmt.Errorf("postgres: %w", describe(err))
}

// schemaError tells a database that could not be asked from one that refuses.
func schemaError(err error) error {
	err = fmt.Errorf("postgres: read the schema: %w", describe(err))
	if c := classify(err); c == classAway || c == classRetry {
		return txn.Errorf(txn.CodeUnavailable, "%w", err)
	}
	return err
}

// loadError is what the transactions that needed the read are told.
func loadError(concern string, err error) *txn.Error {
	switch classify(err) {
	case classSchema, classRefused:
		return txn.Errorf(txn.CodeInternal, "instances of %s cannot be read: %w", concern, describe(err))
	case classAway, classRetry:
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return txn.Errorf(txn.CodeUnavailable, "the database did not answer in time; try again later: %w", err)
	}
	return txn.Errorf(txn.CodeUnavailable, "the database is away; try again later: %w", err)
}
