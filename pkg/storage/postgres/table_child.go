package postgres

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
)

// childTable has the statements for the rows that instances have in another
// table. Rows that are as they must be are not touched: an instance changes
// often, and most of its rows with it do not.
type childTable struct {
	child       storage.ChildTable
	key, rowKey int // indices of these columns; rowKey -1: one row at most

	selectRows, upsertRows, deleteRows string
	// deleteOthers deletes the rows of instances that are not among those given.
	deleteOthers string
}

func newChildTable(c storage.ChildTable) *childTable {
	t := &childTable{child: c, key: c.KeyIndex(), rowKey: c.RowKeyIndex()}
	var selected, names, params, values, set, have, want []string
	for i, col := range c.Columns {
		name := quote(col.Name)
		selected = append(selected, readAs(col, name))
		names = append(names, name)
		params = append(params, fmt.Sprintf("$%d::%s", i+1, arrays[col.Type].sql))
		values = append(values, writeAs(col, "u."+name))
		if i != t.key && i != t.rowKey {
			set = append(set, name+" = EXCLUDED."+name)
			have = append(have, exactly(col, "c."+name))
			want = append(want, exactly(col, "EXCLUDED."+name))
		}
	}
	list := strings.Join(names, ", ")
	key := quote(c.Columns[t.key].Name)
	primary, order := key, key
	ask, pair, same := "$2::text[]", key, "u."+key+" = c."+key
	if t.rowKey >= 0 {
		col := c.Columns[t.rowKey]
		name := quote(col.Name)
		primary += ", " + name
		order += ", " + name
		if col.Type == column.Text {
			order += ` COLLATE "C"`
		}
		ask += ", $3::" + arrays[col.Type].sql
		pair += ", " + name
		same += " AND u." + name + " = c." + name
	}
	onConflict := "NOTHING"
	if len(set) > 0 {
		onConflict = fmt.Sprintf("UPDATE SET %s WHERE ROW(%s) IS DISTINCT FROM ROW(%s)",
			strings.Join(set, ", "), strings.Join(have, ", "), strings.Join(want, ", "))
	}
	name := quote(c.Table)
	t.selectRows = fmt.Sprintf("SELECT %s FROM %s WHERE %s = ANY($1::text[]) ORDER BY %s", strings.Join(selected, ", "), name, key, order)
	t.upsertRows = fmt.Sprintf("INSERT INTO %s AS c (%s) SELECT %s FROM unnest(%s) AS u(%s) ON CONFLICT (%s) DO %s",
		name, list, strings.Join(values, ", "), strings.Join(params, ", "), list, primary, onConflict)
	t.deleteRows = fmt.Sprintf("DELETE FROM %s WHERE %s = ANY($1::text[])", name, key)
	t.deleteOthers = fmt.Sprintf("DELETE FROM %s AS c WHERE c.%s = ANY($1::text[]) AND NOT EXISTS (SELECT FROM unnest(%s) AS u(%s) WHERE %s)",
		name, key, ask, pair, same)
	return t
}

// exactly makes values comparable that count as equal and are not the same: -0
// and 0, the 1.0 and 1.00 of JSON.
func exactly(c storage.Column, name string) string {
	switch c.Type {
	case column.Real, column.Double, column.JSONB:
		return name + "::text"
	}
	return name
}

// queue adds the statements that make the rows of some instances what they must
// be. number is that of the table among the children of its mapping.
func (t *childTable) queue(work *pgx.Batch, instances []row, number int) error {
	keys := make(pgtype.FlatArray[string], len(instances))
	var rows []row
	for i, in := range instances {
		keys[i] = in.change.change.GetKey()
		for _, values := range in.children[number] {
			rows = append(rows, row{change: in.change, values: values, bytes: sizeOf(values)})
		}
	}
	args := []any{keys}
	for _, c := range []int{t.key, t.rowKey} {
		if c < 0 {
			continue
		}
		a, err := arrays[t.child.Columns[c].Type].make(rows, c)
		if err != nil {
			return err
		}
		args = append(args, a)
	}
	work.Queue(t.deleteOthers, args...)
	for len(rows) > 0 {
		n, size := 0, 0
		for n < len(rows) && (n == 0 || size+rows[n].bytes <= maxStatementBytes) {
			size += rows[n].bytes
			n++
		}
		args := make([]any, len(t.child.Columns))
		for i, c := range t.child.Columns {
			var err error
			if args[i], err = arrays[c.Type].make(rows[:n], i); err != nil {
				return err
			}
		}
		work.Queue(t.upsertRows, args...)
		rows = rows[n:]
	}
	return nil
}
