package postgres

import (
	"fmt"
	"strings"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
)

// table has the statements for the rows of one Concern.
type table struct {
	mapping  storage.Mapping
	key      int // index of the key column
	children []*childTable

	selectRows, upsertRows, deleteRows string
}

func newTable(m storage.Mapping) *table {
	t := &table{mapping: m}
	for _, c := range m.Children {
		t.children = append(t.children, newChildTable(c))
	}
	var selected, names, params, values, set []string
	for i, c := range m.Columns {
		name := quote(c.Name)
		if c.Key {
			t.key = i
		} else {
			set = append(set, name+" = EXCLUDED."+name)
		}
		selected = append(selected, readAs(c, name))
		names = append(names, name)
		params = append(params, fmt.Sprintf("$%d::%s", i+1, arrays[c.Type].sql))
		values = append(values, writeAs(c, "u."+name))
	}
	selected = append(selected, quote(storage.VersionColumn))
	platform := [][2]string{{storage.VersionColumn, "bigint[]"}, {storage.TimeColumn, "timestamptz[]"}}
	if m.Related {
		selected = append(selected, quote(storage.RelatedColumn))
		platform = append(platform, [2]string{storage.RelatedColumn, "bytea[]"})
	}
	for _, c := range platform {
		name := quote(c[0])
		set = append(set, name+" = EXCLUDED."+name)
		names = append(names, name)
		params = append(params, fmt.Sprintf("$%d::%s", len(params)+1, c[1]))
		values = append(values, "u."+name)
	}
	key := quote(m.Columns[t.key].Name)

	list := strings.Join(names, ", ")
	t.selectRows = fmt.Sprintf("SELECT %s FROM %s WHERE %s = ANY($1::text[])", strings.Join(selected, ", "), quote(m.Table), key)
	t.upsertRows = fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM unnest(%s) AS u(%s) ON CONFLICT (%s) DO UPDATE SET %s",
		quote(m.Table), list, strings.Join(values, ", "), strings.Join(params, ", "), list, key, strings.Join(set, ", "))
	t.deleteRows = fmt.Sprintf("DELETE FROM %s WHERE %s = ANY($1::text[])", quote(m.Table), key)
	return t
}

// quote makes a name fit for SQL. Names have been validated; the quotes are for
// those that are reserved words.
func quote(name string) string { return `"` + name + `"` }

// jsonb travels as text, in both directions: a mapping deals in JSON text.
func readAs(c storage.Column, name string) string {
	if c.Type == column.JSONB {
		return name + "::text"
	}
	return name
}

func writeAs(c storage.Column, name string) string {
	if c.Type == column.JSONB {
		return name + "::jsonb"
	}
	return name
}
