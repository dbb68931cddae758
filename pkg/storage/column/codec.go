package column

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Codec converts between one type of message and rows with a column for each of
// the fields that it was given. Safe for concurrent use.
type Codec struct {
	newMessage func() proto.Message
	desc       protoreflect.MessageDescriptor
	fields     []protoreflect.FieldDescriptor
	// planned has the fields whose JSON is made without protojson; fd is nil for
	// the others.
	planned []plannedField
}

// NewCodec returns the codec for the fields with the given numbers, in the
// order of the columns. It panics if the message lacks one of them: then the
// code was generated from another version of the message.
func NewCodec(newMessage func() proto.Message, numbers ...protowire.Number) *Codec {
	c := &Codec{newMessage: newMessage, desc: newMessage().ProtoReflect().Descriptor()}
	for _, n := range numbers {
		fd := c.desc.Fields().ByNumber(n)
		if fd == nil {
			panic(fmt.Sprintf("column: message %s has no field with number %d", c.desc.FullName(), n))
		}
		c.fields = append(c.fields, fd)
	}
	c.plan()
	return c
}

func (c *Codec) plan() {
	known := plans{}
	c.planned = make([]plannedField, len(c.fields))
	for i, fd := range c.fields {
		if Type(fd) == JSONB {
			if f, ok := known.field(fd); ok {
				c.planned[i] = f
			}
		}
	}
	known.settle()
	for i, f := range c.planned {
		if f.message != nil && !f.message.plain {
			c.planned[i] = plannedField{}
		}
	}
}

// Encode returns one value per column: string, bool, int32, int64, float32,
// float64, []byte (bytea, and the JSON text of jsonb), or nil for NULL. Bytes
// are shared with m. An error names the field whose text PostgreSQL cannot
// hold (a NUL character, invalid UTF-8); no other field is ever refused.
func (c *Codec) Encode(m proto.Message) ([]any, error) {
	r := m.ProtoReflect()
	if r.Descriptor() != c.desc {
		return nil, fmt.Errorf("column: a %s was given where %s is mapped", r.Descriptor().FullName(), c.desc.FullName())
	}
	row := make([]any, len(c.fields))
	for i, fd := range c.fields {
		if Nullable(fd) && !r.Has(fd) {
			continue
		}
		var err error
		if Type(fd) == JSONB {
			row[i], err = encodeJSON(r, fd, &c.planned[i])
		} else {
			row[i], err = encodeScalar(fd, r.Get(fd))
		}
		if err != nil {
			return nil, fmt.Errorf("column %s of %s: %w", fd.Name(), c.desc.FullName(), err)
		}
	}
	return row, nil
}

// Decode makes a message of a row that Encode could have returned. An error
// names the column whose value does not fit its field.
func (c *Codec) Decode(row []any) (proto.Message, error) {
	if len(row) != len(c.fields) {
		return nil, fmt.Errorf("column: %d values for the %d columns of %s", len(row), len(c.fields), c.desc.FullName())
	}
	m := c.newMessage()
	r := m.ProtoReflect()
	for i, fd := range c.fields {
		if row[i] == nil {
			continue
		}
		if err := decodeField(r, fd, row[i]); err != nil {
			return nil, fmt.Errorf("column %s of %s: %w", fd.Name(), c.desc.FullName(), err)
		}
	}
	return m, nil
}

func decodeField(r protoreflect.Message, fd protoreflect.FieldDescriptor, value any) error {
	if one := fd.ContainingOneof(); one != nil && !one.IsSynthetic() {
		if set := r.WhichOneof(one); set != nil {
			return fmt.Errorf("only one member of oneof %s may have a value, and %s has one too", one.Name(), set.Name())
		}
	}
	if Type(fd) == JSONB {
		return decodeJSON(r, fd, value)
	}
	v, err := decodeScalar(fd, value)
	if err != nil {
		return err
	}
	r.Set(fd, v)
	return nil
}
