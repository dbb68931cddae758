package storage

import (
	"errors"
	"fmt"
	"regexp"

	"google.golang.org/protobuf/proto"
)

// Mapping says how the instances of a Concern become rows of a table. The
// generator writes one; package column does its work.
type Mapping struct {
	Concern string
	Table   string
	// Columns of the table, except VersionColumn and TimeColumn.
	Columns []Column
	// Related says that others refer to the Concern, so that the table has a
	// RelatedColumn, too.
	Related bool
	New     func() proto.Message
	// Encode returns one value per column: string, bool, int32, int64,
	// float32, float64, []byte (bytea, and the JSON text of jsonb), or nil for
	// NULL. Decode is its inverse. Both are safe for concurrent use.
	Encode func(proto.Message) ([]any, error)
	Decode func([]any) (proto.Message, error)
	// Children has the parts of an instance that are rows of other tables.
	Children []ChildTable
}

// Column is one column of a table.
type Column struct {
	Name string
	// Type as PostgreSQL calls it: text boolean integer bigint real "double
	// precision" bytea jsonb.
	Type string
	// Key marks the primary key. Exactly one column, of type text.
	Key bool
	// Index asks for an index that finds rows by equality.
	Index bool
	// NotNull says that Encode never returns nil for it. The key is not null
	// without saying so.
	NotNull bool
}

// Columns that a table has besides those of its mapping.
const (
	// VersionColumn is the version of the instance, bigint.
	VersionColumn = "rkcy_version"
	// TimeColumn is the effective time of the last change, timestamptz.
	TimeColumn = "rkcy_time"
	// RelatedColumn is what the instance knows of its children, bytea: a
	// serialized rkcyv1.Instance that has nothing else, NULL without children.
	RelatedColumn = "rkcy_related"
)

var validIdentifier = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// Validate reports every fault of the mapping.
func (m Mapping) Validate() error {
	var faults []error
	if m.Concern == "" || m.New == nil || m.Encode == nil || m.Decode == nil {
		faults = append(faults, errors.New("concern or a function is missing"))
	}
	if !validIdentifier.MatchString(m.Table) {
		faults = append(faults, fmt.Errorf("table %q does not match %s", m.Table, validIdentifier))
	}
	faults = append(faults, columnFaults(m.Columns, map[string]bool{VersionColumn: true, TimeColumn: true, RelatedColumn: true})...)
	tables := map[string]bool{m.Table: true}
	for _, c := range m.Children {
		if tables[c.Table] {
			faults = append(faults, fmt.Errorf("table %q is there twice", c.Table))
		}
		tables[c.Table] = true
		if err := errors.Join(c.faults()...); err != nil {
			faults = append(faults, fmt.Errorf("child table %q: %w", c.Table, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("mapping of %s: %w", m.Concern, err)
	}
	return nil
}

// columnFaults are those of columns, whose names must not have been seen.
func columnFaults(columns []Column, seen map[string]bool) (faults []error) {
	keys := 0
	for _, c := range columns {
		if !validIdentifier.MatchString(c.Name) || seen[c.Name] {
			faults = append(faults, fmt.Errorf("column %q is there twice, reserved, or does not match %s", c.Name, validIdentifier))
		}
		seen[c.Name] = true
		if c.Key {
			keys++
			if c.Type != "text" {
				faults = append(faults, fmt.Errorf("key column %q is of type %s, not text", c.Name, c.Type))
			}
		}
	}
	if keys != 1 {
		faults = append(faults, fmt.Errorf("%d key columns; want one", keys))
	}
	return faults
}

// KeyColumn returns the primary key.
func (m Mapping) KeyColumn() Column {
	for _, c := range m.Columns {
		if c.Key {
			return c
		}
	}
	return Column{}
}
