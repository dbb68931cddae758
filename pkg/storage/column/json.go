package column

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// wireKey is the only member of an object that holds the field in wire form.
	wireKey = "@wire"
	// maxDepth is how deep JSON may nest. PostgreSQL's parser recurses, within
	// a stack that is a setting of the server.
	maxDepth = 256
)

// encodeJSON returns the JSON text of a message, list or map field.
func encodeJSON(r protoreflect.Message, fd protoreflect.FieldDescriptor, f *plannedField) ([]byte, error) {
	if !r.Has(fd) { // an empty list or map
		if fd.IsMap() {
			return []byte("{}"), nil
		}
		return []byte("[]"), nil
	}
	if f.fd != nil {
		if text, ok := f.appendField(make([]byte, 0, 64), r.Get(fd), 0); ok && storable(text) {
			return text, nil
		}
	}
	// The field alone, in a message of its own, so that the JSON and the wire
	// format of lists and maps come for free.
	alone := r.New()
	alone.Set(fd, r.Get(fd))
	if text := jsonOf(alone); text != nil {
		return text, nil
	}
	wire, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(alone.Interface())
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string][]byte{wireKey: wire})
}

// jsonOf returns the JSON of the one field that is set, or nil if it has none
// that PostgreSQL would take or that could be told from the wire form.
func jsonOf(alone protoreflect.Message) []byte {
	object, err := protojson.MarshalOptions{AllowPartial: true, UseProtoNames: true, UseEnumNumbers: true}.
		Marshal(alone.Interface())
	if err != nil {
		return nil
	}
	// The output of protojson has random spaces.
	var compact bytes.Buffer
	if err := json.Compact(&compact, object); err != nil {
		return nil
	}
	text := compact.Bytes() // {"name":…}
	_, text, ok := bytes.Cut(text[:len(text)-1], []byte(`":`))
	if !ok || !storable(text) {
		return nil
	}
	return text
}

// storable says whether PostgreSQL takes a JSON text, and whether it could not
// be taken for the wire form.
func storable(text []byte) bool {
	return !bytes.Contains(text, []byte(`\u0000`)) && depth(text) <= maxDepth && wireForm(text) == nil
}

// depth returns how deep the objects and arrays of a JSON text nest.
func depth(text []byte) (deepest int) {
	level, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}

// wireForm returns the content of {"@wire": "…"}, or nil for any other JSON.
func wireForm(text []byte) []byte {
	if !bytes.Contains(text, []byte(wireKey)) {
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil || len(object) != 1 {
		return nil
	}
	var encoded string
	if json.Unmarshal(object[wireKey], &encoded) != nil {
		return nil
	}
	wire, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil
	}
	return append([]byte{}, wire...)
}

// decodeJSON sets a message, list or map field to what JSON text says.
func decodeJSON(r protoreflect.Message, fd protoreflect.FieldDescriptor, value any) error {
	var text []byte
	switch v := value.(type) {
	case []byte:
		text = v
	case string:
		text = []byte(v)
	default:
		return fmt.Errorf("a %T is not JSON text", value)
	}
	alone := r.New()
	if wire := wireForm(text); wire != nil {
		if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(wire, alone.Interface()); err != nil {
			return err
		}
	} else {
		if !json.Valid(text) {
			return errors.New("the value is not JSON")
		}
		object := make([]byte, 0, len(text)+64)
		object = append(object, `{"`...)
		object = append(object, fd.TextName()...)
		object = append(object, `":`...)
		object = append(object, text...)
		object = append(object, '}')
		options := protojson.UnmarshalOptions{AllowPartial: true, DiscardUnknown: true}
		if err := options.Unmarshal(object, alone.Interface()); err != nil {
			return err
		}
	}
	if alone.Has(fd) {
		r.Set(fd, alone.Get(fd))
	}
	return nil
}
