package postgres

import (
	"fmt"
	"strings"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
)

// Schema returns the statements that make the tables of a mapping, each ended
// by ";" and a new line.
//
// Indexes are of a kind that takes values of any size: an ordinary one refuses
// a text above some 2.7 kB, and a change that is refused stops its partition.
func Schema(m storage.Mapping) string {
	columns := append([]storage.Column{}, m.Columns...)
	columns = append(columns,
		storage.Column{Name: storage.VersionColumn, Type: column.Bigint, NotNull: true},
		storage.Column{Name: storage.TimeColumn, Type: timestamp, NotNull: true})
	if m.Related {
		columns = append(columns, storage.Column{Name: storage.RelatedColumn, Type: column.Bytea})
	}
	var b strings.Builder
	createTable(&b, m.Table, columns, "")
	for _, c := range m.Children {
		createTable(&b, c.Table, c.Columns, c.RowKey)
	}
	return b.String()
}

// createTable writes the statements that make one table. rowKey, where not
// empty, is the column that the primary key has besides the key.
func createTable(b *strings.Builder, table string, columns []storage.Column, rowKey string) {
	name, typ := 0, 0
	for _, c := range columns {
		name, typ = max(name, len(quoteIfNeeded(c.Name))), max(typ, len(c.Type))
	}
	fmt.Fprintf(b, "CREATE TABLE %s (\n", quoteIfNeeded(table))
	primary := ""
	for i, c := range columns {
		line := fmt.Sprintf("    %-*s %-*s", name, quoteIfNeeded(c.Name), typ, c.Type)
		switch {
		case c.Key && rowKey == "":
			line += " PRIMARY KEY"
		case c.Key:
			primary = fmt.Sprintf("    PRIMARY KEY (%s, %s)\n", quoteIfNeeded(c.Name), quoteIfNeeded(rowKey))
			line += " NOT NULL"
		case c.NotNull || c.Name == rowKey:
			line += " NOT NULL"
		}
		b.WriteString(strings.TrimRight(line, " "))
		if i < len(columns)-1 || rowKey != "" {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString(primary + ");\n")
	for _, c := range columns {
		if c.Index && !c.Key {
			fmt.Fprintf(b, "CREATE INDEX ON %s USING %s;\n", quoteIfNeeded(table), indexOf(c))
		}
	}
}

const timestamp = "timestamptz"

func indexOf(c storage.Column) string {
	name := quoteIfNeeded(c.Name)
	switch c.Type {
	case column.Text, column.Bytea:
		return "hash (" + name + ")"
	case column.JSONB:
		return "gin (" + name + " jsonb_path_ops)"
	default:
		return "btree (" + name + ")"
	}
}

// quoteIfNeeded keeps statements for people free of needless quotes.
func quoteIfNeeded(name string) string {
	if reserved[name] {
		return quote(name)
	}
	return name
}

// reserved are the words that PostgreSQL does not take for a table or a column
// without quotes.
var reserved = func() map[string]bool {
	const words = `all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate
collation column concurrently constraint create cross current_catalog current_date current_role current_schema
current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch for
foreign freeze from full grant group having ilike in initially inner intersect into is isnull join lateral leading
left like limit localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing
primary references returning right select session_user similar some symmetric system_user table tablesample then to
trailing true union unique user using variadic verbose when where window with`
	out := map[string]bool{}
	for _, w := range strings.Fields(words) {
		out[w] = true
	}
	return out
}()
