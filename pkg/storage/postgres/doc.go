// Package postgres is the storage target for PostgreSQL 15 or newer, and the
// loader that processors read misses of their cache with.
//
//	target, err := postgres.Open(postgres.Config{DSN: dsn, Mappings: mappings})
//	defer target.Close()
//	err = target.CheckSchema(ctx)   // tables as the mappings need them
//	writer, err := storage.NewWriter(storage.WriterConfig{Target: target, …})
//
// Each Concern has a table with the columns of its mapping and two more: the
// version of the instance and the time of its last change. Migrate makes the
// platform's own table and runs the application's migrations; Schema writes the
// statements that a mapping needs, to start a migration from.
//
// A batch of changes takes two round trips: one pipeline that begins, moves the
// watermarks by compare-and-set and writes the rows (one statement per table
// for what stays, one for what goes), and the commit. The watermarks come
// first, so that of two writers the later one waits there, and then is refused,
// before it has locked a row.
//
// Reads go through a circuit breaker: while the database does not answer, one
// read in half a second finds that out and all others fail at once.
//
// The package is the only one that imports pgx. It must not know Kafka,
// processors or handlers.
package postgres
