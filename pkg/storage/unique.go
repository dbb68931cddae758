package storage

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// UniqueMapping returns the mapping of the Concern that has the values of a
// unique field. Concern and table have the same name.
func UniqueMapping(index string) Mapping {
	return Mapping{
		Concern: index,
		Table:   index,
		Columns: []Column{
			{Name: "value", Type: "text", Key: true},
			{Name: "owner", Type: "text", NotNull: true},
		},
		New: func() proto.Message { return &rkcyv1.UniqueEntry{} },
		Encode: func(m proto.Message) ([]any, error) {
			e, ok := m.(*rkcyv1.UniqueEntry)
			if !ok {
				return nil, fmt.Errorf("index %s has a %T", index, m)
			}
			return []any{e.GetValue(), e.GetOwner()}, nil
		},
		Decode: func(row []any) (proto.Message, error) {
			e := &rkcyv1.UniqueEntry{}
			for i, to := range []*string{&e.Value, &e.Owner} {
				var ok bool
				if *to, ok = row[i].(string); !ok {
					return nil, fmt.Errorf("column %d of index %s is a %T", i+1, index, row[i])
				}
			}
			return e, nil
		},
	}
}
