package handler

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Copy returns a message of the type of m that has the given fields of m and no
// other. It shares what they refer to with m, so neither must be changed.
func Copy(m proto.Message, fields ...protowire.Number) proto.Message {
	from := m.ProtoReflect()
	to := from.New()
	for _, n := range fields {
		if fd := from.Descriptor().Fields().ByNumber(n); from.Has(fd) {
			to.Set(fd, from.Get(fd))
		}
	}
	return to.Interface()
}
