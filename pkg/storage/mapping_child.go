package storage

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
)

// ChildTable says how a part of each instance becomes rows of another table. It
// has no watermark, version or time of its own: its rows are written in the
// transaction, and read in the snapshot, of their instance.
type ChildTable struct {
	Table string
	// Columns of the table. Key marks the one with the key of the instance.
	Columns []Column
	// RowKey names the column that tells the rows of an instance apart, of type
	// integer, bigint or text; it and the key are the primary key. Empty: an
	// instance has at most one row.
	RowKey string
	// Encode returns the rows of an instance, each with one value per column, as
	// Mapping.Encode returns them. Decode puts rows, of which there is at least
	// one, back into an instance that has everything else; they come in order of
	// RowKey, texts in that of their bytes. Both are safe for concurrent use.
	Encode func(instance proto.Message) ([][]any, error)
	Decode func(instance proto.Message, rows [][]any) error
}

// KeyIndex and RowKeyIndex return the numbers of these columns, -1 if there is
// none.
func (c ChildTable) KeyIndex() int {
	return slices.IndexFunc(c.Columns, func(col Column) bool { return col.Key })
}

// RowKeyIndex is described at KeyIndex.
func (c ChildTable) RowKeyIndex() int {
	if c.RowKey == "" {
		return -1
	}
	return slices.IndexFunc(c.Columns, func(col Column) bool { return col.Name == c.RowKey })
}

// faults are those of the table alone.
func (c ChildTable) faults() (faults []error) {
	if c.Encode == nil || c.Decode == nil {
		faults = append(faults, errors.New("a function is missing"))
	}
	if !validIdentifier.MatchString(c.Table) {
		faults = append(faults, fmt.Errorf("the name does not match %s", validIdentifier))
	}
	faults = append(faults, columnFaults(c.Columns, map[string]bool{})...)
	if c.RowKey == "" {
		return faults
	}
	switch i := c.RowKeyIndex(); {
	case i < 0:
		faults = append(faults, fmt.Errorf("the row key %q is no column", c.RowKey))
	case c.Columns[i].Key || !slices.Contains([]string{"integer", "bigint", "text"}, c.Columns[i].Type):
		faults = append(faults, fmt.Errorf("the row key %q is the key, or neither integer, bigint nor text", c.RowKey))
	}
	return faults
}

// Rows is an instance as its tables have it.
type Rows struct {
	// Values of the row of Mapping.Table.
	Values []any
	// Children has the rows of each child table, in order of row key.
	Children [][][]any
}

// Rows returns the rows that an instance with the given key becomes.
func (m Mapping) Rows(key string, instance proto.Message) (rows Rows, err error) {
	if rows.Values, err = m.Encode(instance); err != nil {
		return Rows{}, err
	}
	if len(rows.Values) != len(m.Columns) {
		return Rows{}, fmt.Errorf("the mapping gave %d values for %d columns", len(rows.Values), len(m.Columns))
	}
	if at := slices.IndexFunc(m.Columns, func(c Column) bool { return c.Key }); rows.Values[at] != key {
		return Rows{}, fmt.Errorf("the instance has the key %q", rows.Values[at])
	}
	for _, c := range m.Children {
		children, err := c.rows(key, instance)
		if err != nil {
			return Rows{}, fmt.Errorf("table %s: %w", c.Table, err)
		}
		rows.Children = append(rows.Children, children)
	}
	return rows, nil
}

func (c ChildTable) rows(key string, instance proto.Message) ([][]any, error) {
	rows, err := c.Encode(instance)
	if err != nil {
		return nil, err
	}
	keyAt, rowKeyAt := c.KeyIndex(), c.RowKeyIndex()
	for i, r := range rows {
		if len(r) != len(c.Columns) {
			return nil, fmt.Errorf("the mapping gave %d values for %d columns", len(r), len(c.Columns))
		}
		if r[keyAt] != key {
			return nil, fmt.Errorf("row number %d has the key %q", i+1, r[keyAt])
		}
		if rowKeyAt >= 0 && r[rowKeyAt] == nil {
			return nil, fmt.Errorf("row number %d has no %s", i+1, c.RowKey)
		}
	}
	if rowKeyAt < 0 {
		if len(rows) > 1 {
			return nil, fmt.Errorf("the mapping gave %d rows where one is allowed", len(rows))
		}
		return rows, nil
	}
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b []any) int { return compareRowKeys(a[rowKeyAt], b[rowKeyAt]) })
	for i := 1; i < len(rows); i++ {
		if compareRowKeys(rows[i-1][rowKeyAt], rows[i][rowKeyAt]) == 0 {
			return nil, fmt.Errorf("two rows have the %s %v", c.RowKey, rows[i][rowKeyAt])
		}
	}
	return rows, nil
}

func compareRowKeys(a, b any) int {
	if x, ok := a.(string); ok {
		y, _ := b.(string)
		return cmp.Compare(x, y)
	}
	return cmp.Compare(wholeNumber(a), wholeNumber(b))
}

func wholeNumber(v any) int64 {
	switch n := v.(type) {
	case int32:
		return int64(n)
	case int64:
		return n
	}
	return 0 // a target refuses it
}

// Instance is the inverse of Rows.
func (m Mapping) Instance(rows Rows) (proto.Message, error) {
	instance, err := m.Decode(rows.Values)
	if err != nil {
		return nil, err
	}
	for i, children := range rows.Children {
		if len(children) == 0 {
			continue
		}
		if err := m.Children[i].Decode(instance, children); err != nil {
			return nil, fmt.Errorf("table %s: %w", m.Children[i].Table, err)
		}
	}
	return instance, nil
}
