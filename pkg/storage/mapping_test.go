package storage_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/storage"
	"github.com/rocketcycle/rocketcycle/pkg/storage/storagetest"
)

func TestMappingFaults(t *testing.T) {
	k := storagetest.NewKind()
	if err := k.OwnMapping("thing", "thing").Validate(); err != nil {
		t.Error(err)
	}
	m := k.OwnMapping("thing", "thing")
	m.Children[0].RowKey = "nowhere"
	m.Children[1].Table, m.Children[1].Encode = "thing", nil
	m.Children[2].Columns = append(m.Children[2].Columns, storage.Column{Name: "note", Type: "text", Key: true})
	more := k.OwnMapping("thing", "other").Children
	more[0].Table, more[0].RowKey = "Bad name", "thing_id"
	m.Children = append(m.Children, more[0])
	err := m.Validate()
	for _, want := range []string{
		`mapping of thing`, `"thing_word": the row key "nowhere" is no column`, `table "thing" is there twice`, `a function is missing`,
		`column "note" is there twice`, `2 key columns`, `the name does not match`, `the row key "thing_id" is the key`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it lacks %q: %v", want, err)
		}
	}
}

// Rows that a table could not have are refused before they are sent.
func TestRowsFaults(t *testing.T) {
	k := storagetest.NewKind()
	for name, c := range map[string]struct {
		table  int
		encode func(proto.Message) ([][]any, error)
		want   string
	}{
		"other key":  {0, func(proto.Message) ([][]any, error) { return [][]any{{"b", int32(1), "w"}}, nil }, `has the key "b"`},
		"same place": {0, func(proto.Message) ([][]any, error) { return [][]any{{"a", int32(1), "w"}, {"a", int32(1), "v"}}, nil }, "two rows have the order 1"},
		"same text":  {1, func(proto.Message) ([][]any, error) { return [][]any{{[]byte{}, "n", "a"}, {[]byte{}, "n", "a"}}, nil }, "two rows have the name n"},
		"no place":   {0, func(proto.Message) ([][]any, error) { return [][]any{{"a", nil, "w"}}, nil }, "has no order"},
		"too short":  {0, func(proto.Message) ([][]any, error) { return [][]any{{"a"}}, nil }, "1 values for 3 columns"},
		"two notes":  {2, func(proto.Message) ([][]any, error) { return [][]any{{"a", "x"}, {"a", "y"}}, nil }, "2 rows where one is allowed"},
	} {
		m := k.OwnMapping("thing", "thing")
		m.Children[c.table].Encode = c.encode
		if _, err := m.Rows("a", k.Thing("a", nil)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := k.OwnMapping("thing", "thing").Rows("b", k.Thing("a", nil)); err == nil || !strings.Contains(err.Error(), `has the key "a"`) {
		t.Errorf("got %v", err)
	}
}
