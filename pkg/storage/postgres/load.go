package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Load returns the instances that exist, of one Concern, with one read. It ends
// within LoadTimeout. Errors are *txn.Error: CodeUnavailable while the database
// is away, CodeUnimplemented for a Concern without a mapping, CodeInternal if
// tables or rows are not what the mapping needs.
func (t *Target) Load(ctx context.Context, concern string, keys []string) (map[string]*rkcyv1.Instance, error) {
	tbl := t.tables[concern]
	if tbl == nil {
		return nil, txn.Errorf(txn.CodeUnimplemented, "no mapping for the Concern %q", concern)
	}
	ask := make([]string, 0, len(keys))
	for _, k := range keys {
		if storable(k) {
			ask = append(ask, k)
		}
	}
	if len(ask) == 0 {
		return map[string]*rkcyv1.Instance{}, nil
	}
	if !t.breaker.enter() {
		return nil, txn.Errorf(txn.CodeUnavailable, "the database does not answer; try again later")
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, t.cfg.LoadTimeout)
	defer cancel()
	found, err := t.read(ctx, tbl, ask)
	if err != nil && ctx.Err() == nil && again(err) {
		// A connection from before a restart of the database, or a statement
		// from before a migration. A new one will do, if the database is back.
		t.pool.Reset()
		found, err = t.read(ctx, tbl, ask)
	}
	if err == nil {
		t.breaker.leave(answered)
		return found, nil
	}
	if e, ok := errors.AsType[*txn.Error](err); ok { // of a row that was read
		t.breaker.leave(answered)
		return nil, e
	}
	switch {
	case errors.Is(caller.Err(), context.Canceled):
		t.breaker.leave(unknown)
	case classify(err) == classAway || errors.Is(ctx.Err(), context.DeadlineExceeded):
		t.breaker.leave(silent)
	default:
		t.breaker.leave(answered)
	}
	return nil, loadError(concern, err)
}

func again(err error) bool {
	if _, ok := errors.AsType[*txn.Error](err); ok {
		return false
	}
	c := classify(err)
	return c == classAway || c == classRetry
}

// storable says whether a text column can hold the text. Where it cannot, there
// is no row, and asking would be an error.
func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// loaded is an instance whose rows are being read.
type loaded struct {
	rows     storage.Rows
	platform []any // version, and what the instance knows of its children
}

const beginRead = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"

func (t *Target) read(ctx context.Context, tbl *table, keys []string) (map[string]*rkcyv1.Instance, error) {
	found := map[string]*loaded{}
	if len(tbl.children) == 0 {
		rows, err := t.pool.Query(ctx, tbl.selectRows, keys)
		if err != nil {
			return nil, err
		}
		if err := tbl.collect(rows, found); err != nil {
			return nil, err
		}
	} else if err := t.readTables(ctx, tbl, keys, found); err != nil {
		return nil, err
	}
	out := make(map[string]*rkcyv1.Instance, len(found))
	for key, l := range found {
		instance, err := tbl.decode(key, l)
		if err != nil {
			return nil, err
		}
		out[key] = instance
	}
	return out, nil
}

// readTables reads several tables with one trip, in one snapshot: a writer may
// commit between two statements.
func (t *Target) readTables(ctx context.Context, tbl *table, keys []string, found map[string]*loaded) error {
	conn, err := t.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	// The pool destroys a connection that comes back inside of a transaction.
	defer conn.Release()
	work := &pgx.Batch{}
	work.Queue(beginRead)
	work.Queue(tbl.selectRows, keys)
	for _, c := range tbl.children {
		work.Queue(c.selectRows, keys)
	}
	work.Queue("COMMIT")
	results := conn.SendBatch(ctx, work)
	if err := tbl.collectTables(results, found); err != nil {
		return errors.Join(err, closeAfter(results))
	}
	return results.Close()
}

func (t *table) collectTables(results pgx.BatchResults, found map[string]*loaded) error {
	if _, err := results.Exec(); err != nil {
		return err
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	if err := t.collect(rows, found); err != nil {
		return err
	}
	for i, c := range t.children {
		rows, err := results.Query()
		if err != nil {
			return err
		}
		if err := c.collect(rows, found, i); err != nil {
			return err
		}
	}
	_, err = results.Exec()
	return err
}

// collect reads the rows of instances.
func (t *table) collect(rows pgx.Rows, found map[string]*loaded) error {
	defer rows.Close()
	n := len(t.mapping.Columns)
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		key, _ := values[t.key].(string)
		found[key] = &loaded{rows: storage.Rows{Values: values[:n], Children: make([][][]any, len(t.children))}, platform: values[n:]}
	}
	return rows.Err()
}

// collect adds rows to the instances that they are of.
func (t *childTable) collect(rows pgx.Rows, found map[string]*loaded, number int) error {
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		key, _ := values[t.key].(string)
		if l := found[key]; l != nil {
			l.rows.Children[number] = append(l.rows.Children[number], values)
		}
	}
	return rows.Err()
}

func (t *table) decode(key string, l *loaded) (*rkcyv1.Instance, error) {
	fail := func(err error) error {
		return txn.Errorf(txn.CodeInternal, "row of %s in table %s cannot be read: %w", t.mapping.Concern, t.mapping.Table, err).
			With(txn.DetailConcern, t.mapping.Concern).With(txn.DetailKey, key)
	}
	version, ok := l.platform[0].(int64)
	if !ok || version < 1 {
		return nil, fail(fmt.Errorf("%v is not a version", l.platform[0]))
	}
	m, err := t.mapping.Instance(l.rows)
	if err != nil {
		return nil, fail(err)
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fail(err)
	}
	instance := &rkcyv1.Instance{}
	if raw, _ := l.platform[len(l.platform)-1].([]byte); t.mapping.Related && raw != nil {
		if err := proto.Unmarshal(raw, instance); err != nil {
			return nil, fail(fmt.Errorf("column %s: %w", storage.RelatedColumn, err))
		}
	}
	return &rkcyv1.Instance{Value: value, Version: uint64(version), Related: instance.GetRelated()}, nil
}
