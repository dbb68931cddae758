package storagetest

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
)

// OwnMapping returns a mapping of a Concern of this kind with child tables of
// each form: the words are in table_word, told apart by a number, the map of
// parts is in table_part, told apart by a text, and maybe_text, where set, is
// the one row of table_note.
func (k Kind) OwnMapping(concern, table string) storage.Mapping {
	m := k.Mapping(concern, table)
	apart := []string{"words", "parts", "maybe_text"}
	var kept []storage.Column
	for _, c := range m.Columns {
		if !slices.Contains(apart, c.Name) {
			kept = append(kept, c)
		}
	}
	all := m.Columns
	encode, decode := m.Encode, m.Decode
	m.Columns = kept
	m.Encode = func(in proto.Message) ([]any, error) {
		values, err := encode(in)
		if err != nil {
			return nil, err
		}
		var out []any
		for i, c := range all {
			if !slices.Contains(apart, c.Name) {
				out = append(out, values[i])
			}
		}
		return out, nil
	}
	m.Decode = func(row []any) (proto.Message, error) {
		values := make([]any, len(all))
		next := 0
		for i, c := range all {
			if !slices.Contains(apart, c.Name) {
				values[i] = row[next]
				next++
			}
		}
		return decode(values)
	}
	owner := storage.Column{Name: "thing_id", Type: column.Text, Key: true}
	m.Children = []storage.ChildTable{
		{
			Table: table + "_word", RowKey: "order",
			Columns: []storage.Column{owner, {Name: "order", Type: column.Integer}, {Name: "word", Type: column.Text, NotNull: true, Index: true}},
			Encode:  k.encodeWords, Decode: k.decodeWords,
		},
		{
			Table: table + "_part", RowKey: "name",
			Columns: []storage.Column{{Name: "part", Type: column.Bytea, NotNull: true}, {Name: "name", Type: column.Text}, owner},
			Encode:  k.encodeParts, Decode: k.decodeParts,
		},
		{
			Table:   table + "_note",
			Columns: []storage.Column{owner, {Name: "note", Type: column.Text}},
			Encode:  k.encodeNote, Decode: k.decodeNote,
		},
	}
	return m
}

func (k Kind) field(name string) protoreflect.FieldDescriptor {
	return k.desc.Fields().ByName(protoreflect.Name(name))
}

func (k Kind) id(m proto.Message) string { return m.ProtoReflect().Get(k.field("id")).String() }

func (k Kind) encodeWords(m proto.Message) ([][]any, error) {
	list := m.ProtoReflect().Get(k.field("words")).List()
	var rows [][]any
	for i := list.Len() - 1; i >= 0; i-- { // in any order
		rows = append(rows, []any{k.id(m), int32(i), list.Get(i).String()}) //nolint:gosec // small
	}
	return rows, nil
}

func (k Kind) decodeWords(m proto.Message, rows [][]any) error {
	list := m.ProtoReflect().Mutable(k.field("words")).List()
	for _, r := range rows {
		word, ok := r[2].(string)
		if !ok {
			return fmt.Errorf("a word is a %T", r[2])
		}
		list.Append(protoreflect.ValueOfString(word))
	}
	return nil
}

func (k Kind) encodeParts(m proto.Message) (rows [][]any, err error) {
	m.ProtoReflect().Get(k.field("parts")).Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
		var raw []byte
		raw, err = proto.MarshalOptions{Deterministic: true}.Marshal(v.Message().Interface())
		rows = append(rows, []any{raw, key.String(), k.id(m)})
		return err == nil
	})
	return rows, err
}

func (k Kind) decodeParts(m proto.Message, rows [][]any) error {
	parts := m.ProtoReflect().Mutable(k.field("parts")).Map()
	for i, r := range rows {
		name, ok := r[1].(string)
		raw, fine := r[0].([]byte)
		if !ok || !fine {
			return fmt.Errorf("a part is a %T, its name a %T", r[0], r[1])
		}
		if i > 0 && rows[i-1][1].(string) >= name { //nolint:forcetypeassert // looked at before
			return fmt.Errorf("%q comes behind %q", name, rows[i-1][1])
		}
		part := parts.NewValue()
		if err := proto.Unmarshal(raw, part.Message().Interface()); err != nil {
			return err
		}
		parts.Set(protoreflect.ValueOfString(name).MapKey(), part)
	}
	return nil
}

func (k Kind) encodeNote(m proto.Message) ([][]any, error) {
	if !m.ProtoReflect().Has(k.field("maybe_text")) {
		return nil, nil
	}
	return [][]any{{k.id(m), m.ProtoReflect().Get(k.field("maybe_text")).String()}}, nil
}

func (k Kind) decodeNote(m proto.Message, rows [][]any) error {
	note, ok := rows[0][1].(string)
	if !ok {
		return fmt.Errorf("a note is a %T", rows[0][1])
	}
	m.ProtoReflect().Set(k.field("maybe_text"), protoreflect.ValueOfString(note))
	return nil
}
