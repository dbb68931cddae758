package postgres

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
)

// array makes the parameter for one column of many rows.
type array struct {
	sql  string
	make func(rows []row, column int) (any, error)
}

// arrays has every type that a column may be of.
var arrays = map[string]array{
	column.Text:    {"text[]", func(rows []row, c int) (any, error) { return collect(rows, c, toText) }},
	column.Boolean: {"boolean[]", func(rows []row, c int) (any, error) { return collect(rows, c, toBool) }},
	column.Integer: {"integer[]", func(rows []row, c int) (any, error) { return collect(rows, c, toInt4) }},
	column.Bigint:  {"bigint[]", func(rows []row, c int) (any, error) { return collect(rows, c, toInt8) }},
	column.Real:    {"real[]", func(rows []row, c int) (any, error) { return collect(rows, c, toFloat4) }},
	column.Double:  {"double precision[]", func(rows []row, c int) (any, error) { return collect(rows, c, toFloat8) }},
	column.Bytea:   {"bytea[]", func(rows []row, c int) (any, error) { return flat(collect(rows, c, toBytes)) }},
	column.JSONB:   {"text[]", func(rows []row, c int) (any, error) { return collect(rows, c, toText) }},
}

// cells are values of one column as a parameter. pgtype.FlatArray would do, but
// makes an object of each value.
type cells[T any] []T

// Dimensions implements pgtype.ArrayGetter.
func (c cells[T]) Dimensions() []pgtype.ArrayDimension {
	return []pgtype.ArrayDimension{{Length: int32(len(c)), LowerBound: 1}} //nolint:gosec // a batch
}

// Index implements pgtype.ArrayGetter.
func (c cells[T]) Index(i int) any { return &c[i] }

// IndexType implements pgtype.ArrayGetter.
func (c cells[T]) IndexType() any { return new(T) }

// collect converts one column of all rows. convert sees no nil; the zero value
// of T stands for NULL.
func collect[T any](rows []row, c int, convert func(any) (T, bool)) (cells[T], error) {
	out := make(cells[T], len(rows))
	for i, r := range rows {
		v := r.values[c]
		if v == nil {
			continue
		}
		var ok bool
		if out[i], ok = convert(v); !ok {
			return nil, r.change.fail(fmt.Errorf("the mapping gave a %T for column number %d", v, c+1))
		}
	}
	return out, nil
}

func toText(v any) (pgtype.Text, bool) {
	switch v := v.(type) {
	case string:
		return pgtype.Text{String: v, Valid: true}, true
	case []byte:
		return pgtype.Text{String: string(v), Valid: true}, true
	}
	return pgtype.Text{}, false
}

func toBool(v any) (pgtype.Bool, bool) {
	b, ok := v.(bool)
	return pgtype.Bool{Bool: b, Valid: true}, ok
}

func toInt4(v any) (pgtype.Int4, bool) {
	n, ok := v.(int32)
	return pgtype.Int4{Int32: n, Valid: true}, ok
}

func toInt8(v any) (pgtype.Int8, bool) {
	switch n := v.(type) {
	case int64:
		return pgtype.Int8{Int64: n, Valid: true}, true
	case int32:
		return pgtype.Int8{Int64: int64(n), Valid: true}, true
	}
	return pgtype.Int8{}, false
}

func toFloat4(v any) (pgtype.Float4, bool) {
	f, ok := v.(float32)
	return pgtype.Float4{Float32: f, Valid: true}, ok
}

func toFloat8(v any) (pgtype.Float8, bool) {
	f, ok := v.(float64)
	return pgtype.Float8{Float64: f, Valid: true}, ok
}

// toBytes: nil stands for NULL here, so an empty value must not be nil.
func toBytes(v any) ([]byte, bool) {
	b, ok := v.([]byte)
	if ok && b == nil {
		b = []byte{}
	}
	return b, ok
}

// flat is for what is a pointer in itself.
func flat[T any](c cells[T], err error) (pgtype.FlatArray[T], error) {
	return pgtype.FlatArray[T](c), err
}
