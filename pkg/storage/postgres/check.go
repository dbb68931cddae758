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
	unique            bool // alone a primary key or unique
}

const readColumns = `SELECT t.name, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '',
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid AND i.indimmediate
        AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum AND i.indpred IS NULL)
FROM unnest($1::text[]) AS t(name)
JOIN pg_attribute a ON a.attrelid = to_regclass(quote_ident(t.name))
WHERE a.attnum > 0 AND NOT a.attisdropped
ORDER BY t.name, a.attnum`

// CheckSchema compares the tables that the database has with those that the
// mappings need. The error names every difference; one with
// txn.CodeUnavailable says that the database could not be asked.
func (t *Target) CheckSchema(ctx context.Context) error {
	names := []string{watermarkTable}
	for _, m := range t.cfg.Mappings {
		names = append(names, m.Table)
	}
	rows, err := t.pool.Query(ctx, readColumns, names)
	if err != nil {
		return schemaError(err)
	}
	have := map[string][]found{}
	var table string
	var c found
	_, err = pgx.ForEachRow(rows, []any{&table, &c.name, &c.typ, &c.notNull, &c.unfilled, &c.unique}, func() error {
		have[table] = append(have[table], c)
		return nil
	})
	if err != nil {
		return schemaError(err)
	}
	var faults []error
	if len(have[watermarkTable]) == 0 {
		faults = append(faults, fmt.Errorf("table %s is missing", watermarkTable))
	}
	for _, m := range t.cfg.Mappings {
		if len(have[m.Table]) == 0 {
			faults = append(faults, fmt.Errorf("table %s of %s is missing", m.Table, m.Concern))
			continue
		}
		faults = append(faults, differences(m, have[m.Table])...)
	}
	if len(faults) > 0 {
		return fmt.Errorf("postgres: the schema is not what the mappings need; %s\n%w", migrateHint, errors.Join(faults...))
	}
	return nil
}

func differences(m storage.Mapping, have []found) []error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("table %s: "+format, append([]any{m.Table}, args...)...))
	}
	want := append(slices.Clone(m.Columns),
		storage.Column{Name: storage.VersionColumn, Type: column.Bigint, NotNull: true},
		storage.Column{Name: storage.TimeColumn, Type: "timestamp with time zone", NotNull: true})
	if m.Related {
		want = append(want, storage.Column{Name: storage.RelatedColumn, Type: column.Bytea})
	}
	wanted := map[string]bool{}
	for _, c := range want {
		wanted[c.Name] = true
		i := slices.IndexFunc(have, func(f found) bool { return f.name == c.Name })
		if i < 0 {
			fault("column %s %s is missing", c.Name, c.Type)
			continue
		}
		if !fits(c.Type, have[i].typ) {
			fault("column %s is %s, want %s", c.Name, have[i].typ, c.Type)
		}
		if c.Key && !have[i].unique {
			fault("column %s is not the primary key", c.Name)
		}
		if !c.Key && !c.NotNull && have[i].notNull {
			fault("column %s is NOT NULL, but an instance may be without a value for it", c.Name)
		}
	}
	for _, f := range have {
		if !wanted[f.name] && f.notNull && f.unfilled {
			fault("column %s is NOT NULL without a default, and the mapping of %s does not know it", f.name, m.Concern)
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
