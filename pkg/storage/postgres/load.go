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

func (t *Target) read(ctx context.Context, tbl *table, keys []string) (map[string]*rkcyv1.Instance, error) {
	rows, err := t.pool.Query(ctx, tbl.selectRows, keys)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[string]*rkcyv1.Instance, len(keys))
	for rows.Next() {
		key, instance, err := tbl.decode(rows)
		if err != nil {
			return nil, err
		}
		found[key] = instance
	}
	return found, rows.Err()
}

func (t *table) decode(rows pgx.Rows) (string, *rkcyv1.Instance, error) {
	values, err := rows.Values()
	if err != nil {
		return "", nil, err
	}
	n := len(t.mapping.Columns)
	key, _ := values[t.key].(string)
	fail := func(err error) error {
		return txn.Errorf(txn.CodeInternal, "row of %s in table %s cannot be read: %w", t.mapping.Concern, t.mapping.Table, err).
			With(txn.DetailConcern, t.mapping.Concern).With(txn.DetailKey, key)
	}
	version, ok := values[n].(int64)
	if !ok || version < 1 {
		return "", nil, fail(fmt.Errorf("%v is not a version", values[n]))
	}
	m, err := t.mapping.Decode(values[:n])
	if err != nil {
		return "", nil, fail(err)
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return "", nil, fail(err)
	}
	instance := &rkcyv1.Instance{}
	if raw, _ := values[len(values)-1].([]byte); t.mapping.Related && raw != nil {
		if err := proto.Unmarshal(raw, instance); err != nil {
			return "", nil, fail(fmt.Errorf("column %s: %w", storage.RelatedColumn, err))
		}
	}
	return key, &rkcyv1.Instance{Value: value, Version: uint64(version), Related: instance.GetRelated()}, nil
}
