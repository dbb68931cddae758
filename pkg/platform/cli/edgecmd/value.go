package edgecmd

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
)

// describe says what a field takes, for messages and help.
func describe(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.IsMap():
		return "one entry of a map: " + describe(fd.MapValue())
	case fd.IsList():
		return describeOne(fd) + ", repeatable"
	}
	return describeOne(fd)
}

func describeOne(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.EnumKind:
		return "one of " + strings.Join(enumNames(fd.Enum()), ", ")
	case protoreflect.StringKind:
		return "text"
	case protoreflect.BytesKind:
		return "bytes in base64"
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return "a number"
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return "a whole number, not negative"
	case protoreflect.MessageKind, protoreflect.GroupKind:
		switch {
		case wellKnown(fd.Message()):
			return wellKnownText(fd.Message())
		case !fd.IsList() && idField(fd.Message()) != nil:
			return "an id (its " + idField(fd.Message()).TextName() + ") or JSON"
		}
		return "JSON {" + strings.Join(jsonNames(fd.Message()), ", ") + "}"
	default:
		return "a whole number"
	}
}

func wellKnownText(md protoreflect.MessageDescriptor) string {
	if fd := wrapped(md); fd != nil {
		return describeOne(fd)
	}
	switch md.Name() {
	case "FieldMask":
		return "names of fields, with commas between"
	case "Timestamp":
		return "a time like 2030-01-02T15:04:05Z"
	case "Duration":
		return "a duration like 1.5s"
	}
	return "JSON of a " + string(md.FullName())
}

// wrapped returns the field of a message that only wraps a scalar, like
// google.protobuf.StringValue, else nil.
func wrapped(md protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	if wellKnown(md) && md.ParentFile().Path() == "google/protobuf/wrappers.proto" {
		return md.Fields().ByName("value")
	}
	return nil
}

func enumNames(ed protoreflect.EnumDescriptor) []string {
	names := make([]string, ed.Values().Len())
	for i := range names {
		names[i] = string(ed.Values().Get(i).Name())
	}
	return names
}

// enumPrefix returns the length of what all names begin with, up to an
// underscore: the name of the enum, by the usual style.
func enumPrefix(names []string) int {
	if len(names) < 2 {
		return 0
	}
	common := names[0]
	for _, name := range names[1:] {
		for !strings.HasPrefix(name, common) {
			common = common[:len(common)-1]
		}
	}
	return strings.LastIndexByte(common, '_') + 1
}

// fieldNames lists what a request takes.
func fieldNames(md protoreflect.MessageDescriptor) string {
	var names []string
	for _, f := range listFields(md) {
		names = append(names, f.name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func jsonNames(md protoreflect.MessageDescriptor) []string {
	names := make([]string, md.Fields().Len())
	for i := range names {
		names[i] = md.Fields().Get(i).TextName()
	}
	return names
}

// setter fills a request from arguments.
type setter struct {
	request protoreflect.Message
	// given are the paths that were set, in order.
	given []fieldPath
	seen  map[string]bool
	// oneofs remembers which field of a oneof was set.
	oneofs map[string]string
}

func newSetter(request protoreflect.Message) *setter {
	return &setter{request: request, seen: map[string]bool{}, oneofs: map[string]string{}}
}

// argument sets one field=value.
func (s *setter) argument(arg string) error {
	name, value, ok := strings.Cut(arg, "=")
	if !ok || name == "" {
		return fmt.Errorf("%q is not of the form field=value; fields are %s", arg, fieldNames(s.request.Descriptor()))
	}
	path, err := resolve(s.request.Descriptor(), name)
	if err != nil {
		return err
	}
	// lhs=ID means lhs.character_id=ID.
	if fd := path.last(); inside(fd) && !strings.HasPrefix(strings.TrimSpace(value), "{") {
		id := idField(fd.Message())
		if id == nil {
			return fmt.Errorf("field %q is made of %s; set one of these (%s.…=…), or all as JSON",
				name, strings.Join(jsonNames(fd.Message()), ", "), name)
		}
		path.fields = append(path.fields, id)
	}
	if err := s.set(path, value); err != nil {
		return fmt.Errorf("field %q: %w", name, err)
	}
	return nil
}

func (s *setter) set(path fieldPath, value string) error {
	if !utf8.ValidString(value) {
		return errors.New("the value is not valid UTF-8")
	}
	fd := path.last()
	if !fd.IsList() && s.seen[path.String()] {
		return fmt.Errorf("%s is given twice", printable(path.String()))
	}
	if fd.IsMap() && path.mapKey == "" {
		return fmt.Errorf("a map is set by %s.KEY=VALUE, where VALUE is %s", path, describe(fd.MapValue()))
	}
	for i, f := range path.fields {
		if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
			key := fieldPath{fields: path.fields[:i+1]}.String()
			of := strings.TrimSuffix(key, f.TextName()) + string(o.Name())
			if other, taken := s.oneofs[of]; taken && other != key {
				return fmt.Errorf("%s excludes %s, which is given, too", key, other)
			}
			s.oneofs[of] = key
		}
	}
	m := s.request
	for _, f := range path.fields[:len(path.fields)-1] {
		m = m.Mutable(f).Message()
	}
	if err := setField(m, fd, path.mapKey, value); err != nil {
		return err
	}
	s.seen[path.String()] = true
	if !inside(fd) {
		s.given = append(s.given, path)
		return nil
	}
	// A message as JSON: its fields are given, too.
	leaves := jsonFields(path, []byte(value))
	for _, leaf := range leaves {
		if s.seen[leaf.String()] {
			return fmt.Errorf("%s is given twice", leaf)
		}
		s.seen[leaf.String()] = true
	}
	if len(path.fields) == 1 { // the resource as a whole: what it has is given
		s.given = append(s.given, leaves...)
	} else {
		s.given = append(s.given, path)
	}
	return nil
}

// jsonFields returns the paths of the fields that a valid JSON object names,
// in order of the .proto file.
func jsonFields(path fieldPath, object []byte) []fieldPath {
	var values map[string]json.RawMessage
	if json.Unmarshal(object, &values) != nil {
		return nil
	}
	var out []fieldPath
	fields := path.last().Message().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		value, ok := values[fd.JSONName()]
		if !ok {
			if value, ok = values[fd.TextName()]; !ok {
				continue
			}
		}
		at := fieldPath{fields: append(slices.Clone(path.fields), fd)}
		if inside(fd) {
			if inner := jsonFields(at, value); len(inner) > 0 {
				out = append(out, inner...)
				continue
			}
		}
		out = append(out, at)
	}
	return out
}

func setField(m protoreflect.Message, fd protoreflect.FieldDescriptor, key, value string) error {
	switch {
	case fd.IsMap():
		k, err := scalar(fd.MapKey(), key)
		if err != nil {
			return fmt.Errorf("key: %w", err)
		}
		entries := m.Mutable(fd).Map()
		v := entries.NewValue()
		if fd.MapValue().Message() != nil {
			err = message(v.Message(), value)
		} else {
			v, err = scalar(fd.MapValue(), value)
		}
		if err != nil {
			return err
		}
		entries.Set(k.MapKey(), v)
	case fd.IsList():
		list := m.Mutable(fd).List()
		if fd.Message() == nil {
			v, err := scalar(fd, value)
			if err != nil {
				return err
			}
			list.Append(v)
			return nil
		}
		values := []json.RawMessage{json.RawMessage(value)}
		if strings.HasPrefix(strings.TrimSpace(value), "[") {
			if err := json.Unmarshal([]byte(value), &values); err != nil {
				return fmt.Errorf("%q is not valid JSON: %w", value, err)
			}
		}
		for _, one := range values {
			v := list.NewElement()
			if err := message(v.Message(), string(one)); err != nil {
				return err
			}
			list.Append(v)
		}
	case fd.Message() != nil:
		return message(m.Mutable(fd).Message(), value)
	default:
		v, err := scalar(fd, value)
		if err != nil {
			return err
		}
		m.Set(fd, v)
	}
	return nil
}

// message fills m from JSON, or from the text form that well-known messages
// have.
func message(m protoreflect.Message, value string) error {
	if fd := wrapped(m.Descriptor()); fd != nil {
		v, err := scalar(fd, value)
		if err != nil {
			return err
		}
		m.Set(fd, v)
		return nil
	}
	text := value
	if wellKnown(m.Descriptor()) && !json.Valid([]byte(value)) {
		quoted, err := json.Marshal(value)
		if err != nil {
			return err
		}
		text = string(quoted)
		if m.Descriptor().Name() == "FieldMask" {
			return fieldMask(m, value)
		}
	}
	filled := m.New()
	if err := protojson.Unmarshal([]byte(text), filled.Interface()); err != nil {
		want := "JSON {" + strings.Join(jsonNames(m.Descriptor()), ", ") + "}"
		if wellKnown(m.Descriptor()) {
			want = wellKnownText(m.Descriptor())
		}
		reason := strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "proto:"), "\u00a0"), "\u00a0", " ")
		return fmt.Errorf("%q is not %s: %s", value, want, visible(strings.TrimSpace(reason)))
	}
	proto.Merge(m.Interface(), filled.Interface())
	return nil
}

// fieldMask reads names with commas between. The JSON form has camel case;
// people write what the .proto file has.
func fieldMask(m protoreflect.Message, value string) error {
	list := m.Mutable(m.Descriptor().Fields().ByName("paths")).List()
	for path := range strings.SplitSeq(value, ",") {
		if path = strings.TrimSpace(path); path == "" {
			return fmt.Errorf("%q is not %s", value, wellKnownText(m.Descriptor()))
		}
		list.Append(protoreflect.ValueOfString(path))
	}
	return nil
}

func float(value string, bits int) (float64, error) {
	n, err := strconv.ParseFloat(value, bits)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%q is too large for a number of %d bits", value, bits)
	case err != nil:
		return 0, fmt.Errorf("%q is not a number; allowed are numbers like 1.5 and -2e3, NaN, Infinity, -Infinity", value)
	}
	return n, nil
}

func scalar(fd protoreflect.FieldDescriptor, value string) (protoreflect.Value, error) {
	none := protoreflect.Value{}
	whole := func(low int64, high uint64) error {
		return fmt.Errorf("%q is not a whole number between %d and %d", value, low, high)
	}
	switch fd.Kind() {
	case protoreflect.BoolKind:
		switch strings.ToLower(value) {
		case "true":
			return protoreflect.ValueOfBool(true), nil
		case "false":
			return protoreflect.ValueOfBool(false), nil
		}
		return none, fmt.Errorf("%q is not allowed; allowed are true, false", value)
	case protoreflect.EnumKind:
		names := enumNames(fd.Enum())
		prefix := enumPrefix(names)
		for i, name := range names {
			if strings.EqualFold(name, value) || strings.EqualFold(name[prefix:], value) {
				return protoreflect.ValueOfEnum(fd.Enum().Values().Get(i).Number()), nil
			}
		}
		return none, fmt.Errorf("%q is not known%s; allowed are %s", value, suggest.Hint(value, names), strings.Join(names, ", "))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil {
			return none, whole(math.MinInt32, math.MaxInt32)
		}
		return protoreflect.ValueOfInt32(int32(n)), nil
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return none, whole(math.MinInt64, math.MaxInt64)
		}
		return protoreflect.ValueOfInt64(n), nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return none, whole(0, math.MaxUint32)
		}
		return protoreflect.ValueOfUint32(uint32(n)), nil
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return none, whole(0, math.MaxUint64)
		}
		return protoreflect.ValueOfUint64(n), nil
	case protoreflect.FloatKind:
		n, err := float(value, 32)
		if err != nil {
			return none, err
		}
		return protoreflect.ValueOfFloat32(float32(n)), nil
	case protoreflect.DoubleKind:
		n, err := float(value, 64)
		if err != nil {
			return none, err
		}
		return protoreflect.ValueOfFloat64(n), nil
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(value), nil
	case protoreflect.BytesKind:
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return none, fmt.Errorf("%q is not base64", value)
		}
		return protoreflect.ValueOfBytes(raw), nil
	default:
		return none, fmt.Errorf("fields of kind %v cannot be set here", fd.Kind())
	}
}
