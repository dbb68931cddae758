package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
)

// Draft returns a migration, as Migrate takes it, that gives the database the
// tables and columns which the mappings need and it lacks; "" if it lacks none.
// Rows that exist get what the mapping stores of an instance that does not have
// the field, and so do those that a program of before goes on to write. What
// cannot be told from the difference (a column that is called otherwise, or of
// another type) is in a comment: a person reads the draft before it is used.
func (t *Target) Draft(ctx context.Context) (string, error) {
	have, unique, err := t.inspect(ctx)
	if err != nil {
		return "", schemaError(err)
	}
	var up, down strings.Builder
	for _, m := range t.cfg.Mappings {
		empty, err := m.Encode(m.New())
		if err != nil {
			return "", fmt.Errorf("postgres: mapping of %s: %w", m.Concern, err)
		}
		for i, w := range wanted(m) {
			if len(have[w.table]) == 0 {
				if i == 0 {
					createTable(&up, w.table, w.spelled(), "")
				} else {
					createTable(&up, w.table, w.spelled(), m.Children[i-1].RowKey)
				}
				fmt.Fprintf(&down, "DROP TABLE %s;\n", quoteIfNeeded(w.table))
				continue
			}
			if i > 0 {
				empty = nil // an instance may have no row at all
			}
			w.draft(&up, &down, m.Concern, have[w.table], unique[w.table], empty)
		}
	}
	if up.Len() == 0 {
		return "", nil
	}
	return "-- +goose Up\n" + up.String() + "\n-- +goose Down\n" + down.String(), nil
}

// spelled returns the columns with their types as people write them.
func (w wantedTable) spelled() []storage.Column {
	out := slices.Clone(w.columns)
	for i := range out {
		if out[i].Name == storage.TimeColumn {
			out[i].Type = timestamp
		}
	}
	return out
}

// draft writes what adds the columns of w that are missing. empty has the values
// of an instance without fields, by column.
func (w wantedTable) draft(up, down *strings.Builder, concern string, have []found, unique [][]string, empty []any) {
	table := quoteIfNeeded(w.table)
	for i, c := range w.spelled() {
		if slices.ContainsFunc(have, func(f found) bool { return f.name == c.Name }) {
			continue
		}
		name, null := quoteIfNeeded(c.Name), ""
		if c.NotNull {
			value := any(nil)
			if i < len(empty) {
				value = empty[i]
			}
			null = " NOT NULL DEFAULT " + literal(c.Type, value)
		}
		fmt.Fprintf(up, "ALTER TABLE %s ADD COLUMN %s %s%s;\n", table, name, c.Type, null)
		if c.Index {
			fmt.Fprintf(up, "CREATE INDEX ON %s USING %s;\n", table, indexOf(c))
		}
		fmt.Fprintf(down, "ALTER TABLE %s DROP COLUMN %s;\n", table, name)
		have = append(have, found{name: c.Name, typ: w.columns[i].Type, notNull: c.NotNull})
	}
	for _, rest := range w.differences(concern, have, unique) {
		fmt.Fprintf(up, "-- To be done by hand: %s\n", rest)
	}
}

// literal writes a value of a column, or where there is none the zero of its
// type, as SQL.
func literal(typ string, value any) string {
	switch v := value.(type) {
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	case []byte:
		if typ == column.JSONB {
			return literal(typ, string(v))
		}
		return `'\x` + hex.EncodeToString(v) + "'"
	case bool, int32, int64, float32, float64:
		return fmt.Sprint(v)
	}
	switch typ {
	case column.Text:
		return "''"
	case column.Boolean:
		return "false"
	case column.Bytea:
		return `'\x'`
	case column.JSONB:
		return "'{}'"
	case timestamp:
		return "now()"
	default:
		return "0"
	}
}
