package store

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	rpgv1 "github.com/rocketcycle/rocketcycle/examples/rpg/proto/rpg/v1"
	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
)

// CharacterMapping keeps the items of a character in a table of their own,
// character_item, with their place in the list; everything else is as the
// default mapping has it.
func CharacterMapping() storage.Mapping {
	m := rpgv1.CharacterMapping()
	const items = "items"
	encode, decode := m.Encode, m.Decode
	at := -1
	var kept []storage.Column
	for i, c := range m.Columns {
		if c.Name == items {
			at = i
			continue
		}
		kept = append(kept, c)
	}
	if at < 0 {
		panic("the default mapping of characters has no column " + items)
	}
	m.Columns = kept
	m.Encode = func(in proto.Message) ([]any, error) {
		c, err := character(in)
		if err != nil {
			return nil, err
		}
		bare := proto.CloneOf(c)
		bare.Items = nil
		row, err := encode(bare)
		if err != nil {
			return nil, err
		}
		return append(row[:at:at], row[at+1:]...), nil
	}
	m.Decode = func(row []any) (proto.Message, error) {
		if len(row) != len(kept) {
			return nil, fmt.Errorf("%d values for the %d columns of %s", len(row), len(kept), m.Table)
		}
		full := append(append(append([]any{}, row[:at]...), nil), row[at:]...)
		return decode(full)
	}
	m.Children = []storage.ChildTable{itemTable()}
	return m
}

// itemTable has a row for each item.
func itemTable() storage.ChildTable {
	codec := column.NewCodec(func() proto.Message { return new(rpgv1.Item) }, 1, 2)
	return storage.ChildTable{
		Table: "character_item",
		Columns: []storage.Column{
			{Name: "character_id", Type: column.Text, Key: true},
			{Name: "position", Type: column.Integer},
			{Name: "id", Type: column.Text, NotNull: true, Index: true},
			{Name: "description", Type: column.Text, NotNull: true},
		},
		RowKey: "position",
		Encode: func(in proto.Message) ([][]any, error) {
			c, err := character(in)
			if err != nil {
				return nil, err
			}
			rows := make([][]any, len(c.GetItems()))
			for i, item := range c.GetItems() {
				values, err := codec.Encode(item)
				if err != nil {
					return nil, err
				}
				rows[i] = append([]any{c.GetId(), int32(i)}, values...) //nolint:gosec // an instance has at most 1 MiB
			}
			return rows, nil
		},
		Decode: func(in proto.Message, rows [][]any) error {
			c, err := character(in)
			if err != nil {
				return err
			}
			for _, row := range rows {
				m, err := codec.Decode(row[2:])
				if err != nil {
					return err
				}
				c.Items = append(c.Items, m.(*rpgv1.Item)) //nolint:forcetypeassert // the codec makes nothing else
			}
			return nil
		},
	}
}

func character(m proto.Message) (*rpgv1.Character, error) {
	c, ok := m.(*rpgv1.Character)
	if !ok {
		return nil, fmt.Errorf("a %T is no character", m)
	}
	return c, nil
}
