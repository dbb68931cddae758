package configset

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// JSON returns an instance on one line, in the form that Parse takes.
func JSON(m proto.Message) string {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	var compact bytes.Buffer // the output of protojson has random spaces
	if err := json.Compact(&compact, raw); err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return compact.String()
}

// differences returns "field: before -> after" for each field of the same type
// of message that differs.
func differences(before, after proto.Message) []string {
	b, a := before.ProtoReflect(), after.ProtoReflect()
	fields := a.Descriptor().Fields()
	var out []string
	for i := range fields.Len() {
		fd := fields.Get(i)
		if x, y := alone(b, fd), alone(a, fd); !proto.Equal(x, y) {
			out = append(out, fmt.Sprintf("%s: %s -> %s", fd.Name(), fieldText(x, fd), fieldText(y, fd)))
		}
	}
	if len(out) == 0 {
		out = append(out, "fields that this program does not know")
	}
	return out
}

// alone returns a message that has no field but one.
func alone(m protoreflect.Message, fd protoreflect.FieldDescriptor) proto.Message {
	out := m.New()
	if m.Has(fd) {
		out.Set(fd, m.Get(fd))
	}
	return out.Interface()
}

func fieldText(m proto.Message, fd protoreflect.FieldDescriptor) string {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	var fields map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(raw, &fields)
	}
	var compact bytes.Buffer
	if err == nil && fields[fd.TextName()] == nil {
		return "(not set)" // a member of a oneof, say
	}
	if err == nil {
		err = json.Compact(&compact, fields[fd.TextName()])
	}
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return compact.String()
}
