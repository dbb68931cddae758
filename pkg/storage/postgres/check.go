package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
)

// found is one column as the database has it.
type found struct {
	name, typ         string
	notNull, unfilled bool // unfilled: no default, not generated
}

const readColumns = `SELECT t.name, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
FROM unnest($1::text[]) AS t(name)
JOIN pg_attribute a ON a.attrelid = to_regclass(quote_ident(t.name))
WHERE a.attnum > 0 AND NOT a.attisdropped
ORDER BY t.name, a.attnum`

// readUnique reads which columns, in order of name, are together a primary key
// or unique.
const readUnique = `SELECT t.name, array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C")
FROM unnest($1::text[]) AS t(name)
JOIN pg_index i ON i.indrelid = to_regclass(quote_ident(t.name))
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])
WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY t.name, i.indexrelid`

// CheckSchema compares the tables that the database has with those that the
// mappings need. The error names every difference; one with
// txn.CodeUnavailable says that the database could not be asked.
func (t *Target) CheckSchema(ctx context.Context) error {
	have, unique, err := t.inspect(ctx)
	if err != nil {
		return schemaError(err)
	}
	var faults []error
	if len(have[watermarkTable]) == 0 {
		faults = append(faults, fmt.Errorf("table %s is missing", watermarkTable))
	}
	for _, m := range t.cfg.Mappings {
		for _, w := range wanted(m) {
			if len(have[w.table]) == 0 {
				faults = append(faults, fmt.Errorf("table %s of %s is missing", w.table, m.Concern))
				continue
			}
			faults = append(faults, w.differences(m.Concern, have[w.table], unique[w.table])...)
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("postgres: the schema is not what the mappings need; %s\n%w", migrateHint, errors.Join(faults...))
	}
	return nil
}

// inspect returns the columns of the tables that the mappings need, as far as
// the database has them, and what is unique in each.
func (t *Target) inspect(ctx context.Context) (have map[string][]found, unique map[string][][]string, err error) {
	names := []string{watermarkTable}
	for _, m := range t.cfg.Mappings {
		names = append(names, m.Table)
		for _, c := range m.Children {
			names = append(names, c.Table)
		}
	}
	rows, err := t.pool.Query(ctx, readColumns, names)
	if err != nil {
		return nil, nil, err
	}
	have = map[string][]found{}
	var table string
	var c found
	_, err = pgx.ForEachRow(rows, []any{&table, &c.name, &c.typ, &c.notNull, &c.unfilled}, func() error {
		have[table] = append(have[table], c)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if rows, err = t.pool.Query(ctx, readUnique, names); err != nil {
		return nil, nil, err
	}
	unique = map[string][][]string{}
	var columns []string
	_, err = pgx.ForEachRow(rows, []any{&table, &columns}, func() error {
		unique[table] = append(unique[table], slices.Clone(columns))
		return nil
	})
	return have, unique, err
}

// wantedTable is a table as a mapping needs it.
type wantedTable struct {
	table   string
	columns []storage.Column
	primary []string // in order of name
}

// wanted returns the tables of a mapping.
func wanted(m storage.Mapping) []wantedTable {
	columns := append(slices.Clone(m.Columns),
		storage.Column{Name: storage.VersionColumn, Type: column.Bigint, NotNull: true},
		storage.Column{Name: storage.TimeColumn, Type: "timestamp with time zone", NotNull: true})
	if m.Related {
		columns = append(columns, storage.Column{Name: storage.RelatedColumn, Type: column.Bytea})
	}
	out := []wantedTable{{m.Table, columns, []string{m.KeyColumn().Name}}}
	for _, c := range m.Children {
		w := wantedTable{c.Table, slices.Clone(c.Columns), []string{c.Columns[c.KeyIndex()].Name}}
		if i := c.RowKeyIndex(); i >= 0 {
			w.columns[i].NotNull = true
			w.primary = append(w.primary, c.RowKey)
			slices.Sort(w.primary)
		}
		out = append(out, w)
	}
	return out
}

func (w wantedTable) differences(concern string, have []found, unique [][]string) []error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("table %s: "+format, append([]any{w.table}, args...)...))
	}
	wanted := map[string]bool{}
	complete := true
	for _, c := range w.columns {
		wanted[c.Name] = true
		i := slices.IndexFunc(have, func(f found) bool { return f.name == c.Name })
		if i < 0 {
			fault("column %s %s is missing", c.Name, c.Type)
			complete = complete && !slices.Contains(w.primary, c.Name)
			continue
		}
		if !fits(c.Type, have[i].typ) {
			fault("column %s is %s, want %s", c.Name, have[i].typ, c.Type)
		}
		if !c.Key && !c.NotNull && have[i].notNull {
			fault("column %s is NOT NULL, but an instance may be without a value for it", c.Name)
		}
	}
	if complete && !slices.ContainsFunc(unique, func(u []string) bool { return slices.Equal(u, w.primary) }) {
		fault("column %s is not the primary key", strings.Join(w.primary, ", "))
	}
	for _, f := range have {
		if !wanted[f.name] && f.notNull && f.unfilled {
			fault("column %s is NOT NULL without a default, and the mapping of %s does not know it", f.name, concern)
		}
	}
	return faults
}

// fits says whether a column of type have takes and returns what is meant for
// one of type want. Integers and floats may have been widened.
func fits(want, have string) bool {
	switch want {
	case have:
		return true
	case column.Integer:
		return have == column.Bigint
	case column.Real:
		return have == column.Double
	case column.Text:
		return strings.HasPrefix(have, "character varying") && !strings.Contains(have, "(")
	}
	return false
}
