package column

import (
	"cmp"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// plan says how the fields of one type of message become JSON without
// protojson, which finds out everything about a message anew each time. The
// text is the same, byte by byte. Types that protojson writes in a way of their
// own, and everything of proto2 that is not of proto3, have no plan.
type plan struct {
	fields []plannedField
	plain  bool
}

type plannedField struct {
	fd   protoreflect.FieldDescriptor
	name []byte // with quotes and colon
	// message is the plan of the field's message, or of the values of the map.
	message *plan
}

// plans makes plans, one per type of message, which may contain itself.
type plans map[protoreflect.FullName]*plan

// field returns how to write a field, and whether that can be done.
func (ps plans) field(fd protoreflect.FieldDescriptor) (f plannedField, ok bool) {
	f = plannedField{fd: fd, name: []byte(`"` + fd.TextName() + `":`)}
	value := fd
	if fd.IsMap() {
		value = fd.MapValue()
	}
	switch value.Kind() {
	case protoreflect.GroupKind:
		return f, false
	case protoreflect.EnumKind:
		return f, value.Enum().FullName().Parent() != "google.protobuf"
	case protoreflect.MessageKind:
		f.message = ps.of(value.Message())
		return f, f.message.plain
	default:
		return f, true
	}
}

func (ps plans) of(m protoreflect.MessageDescriptor) *plan {
	if p := ps[m.FullName()]; p != nil {
		return p
	}
	// Until all its fields are known, a type that contains itself counts as one
	// with a plan. If it turns out to have none, settle corrects the others.
	p := &plan{plain: m.FullName().Parent() != "google.protobuf" && m.ExtensionRanges().Len() == 0}
	ps[m.FullName()] = p
	for i := range m.Fields().Len() {
		f, ok := ps.field(m.Fields().Get(i))
		p.fields = append(p.fields, f)
		p.plain = p.plain && ok
	}
	return p
}

// settle takes the plan from every type that contains one without.
func (ps plans) settle() {
	for again := true; again; {
		again = false
		for _, p := range ps {
			if p.plain && slices.ContainsFunc(p.fields, func(f plannedField) bool { return f.message != nil && !f.message.plain }) {
				p.plain, again = false, true
			}
		}
	}
}

// appendField appends the JSON of a field that is set. false: it has none, or
// protojson must say which.
func (f plannedField) appendField(b []byte, v protoreflect.Value, level int) ([]byte, bool) {
	if level > maxDepth {
		return b, false
	}
	var ok bool
	switch {
	case f.fd.IsList():
		b = append(b, '[')
		for i := range v.List().Len() {
			if i > 0 {
				b = append(b, ',')
			}
			if b, ok = f.appendOne(b, f.fd.Kind(), v.List().Get(i), level+1); !ok {
				return b, false
			}
		}
		return append(b, ']'), true
	case f.fd.IsMap():
		return f.appendMap(b, v.Map(), level)
	default:
		return f.appendOne(b, f.fd.Kind(), v, level)
	}
}

// appendMap writes a map in the order of its keys.
func (f plannedField) appendMap(b []byte, m protoreflect.Map, level int) ([]byte, bool) {
	type entry struct {
		key   protoreflect.MapKey
		value protoreflect.Value
	}
	entries := make([]entry, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		entries = append(entries, entry{k, v})
		return true
	})
	kind := f.fd.MapKey().Kind()
	slices.SortFunc(entries, func(x, y entry) int {
		switch kind {
		case protoreflect.StringKind:
			return strings.Compare(x.key.String(), y.key.String())
		case protoreflect.BoolKind:
			return cmp.Compare(zeroOrOne(x.key.Bool()), zeroOrOne(y.key.Bool()))
		case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
			return cmp.Compare(x.key.Uint(), y.key.Uint())
		default:
			return cmp.Compare(x.key.Int(), y.key.Int())
		}
	})
	b = append(b, '{')
	var ok bool
	for i, e := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		if b, ok = appendString(b, e.key.String()); !ok {
			return b, false
		}
		b = append(b, ':')
		if b, ok = f.appendOne(b, f.fd.MapValue().Kind(), e.value, level+1); !ok {
			return b, false
		}
	}
	return append(b, '}'), true
}

func zeroOrOne(b bool) int {
	if b {
		return 1
	}
	return 0
}

// appendOne writes one value.
func (f plannedField) appendOne(b []byte, kind protoreflect.Kind, v protoreflect.Value, level int) ([]byte, bool) {
	switch kind {
	case protoreflect.BoolKind:
		return strconv.AppendBool(b, v.Bool()), true
	case protoreflect.StringKind:
		return appendString(b, v.String())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return strconv.AppendInt(b, v.Int(), 10), true
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return strconv.AppendUint(b, v.Uint(), 10), true
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return append(strconv.AppendInt(append(b, '"'), v.Int(), 10), '"'), true
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return append(strconv.AppendUint(append(b, '"'), v.Uint(), 10), '"'), true
	case protoreflect.FloatKind:
		return appendFloat(b, v.Float(), 32), true
	case protoreflect.DoubleKind:
		return appendFloat(b, v.Float(), 64), true
	case protoreflect.BytesKind:
		return append(base64.StdEncoding.AppendEncode(append(b, '"'), v.Bytes()), '"'), true
	case protoreflect.EnumKind:
		return strconv.AppendInt(b, int64(v.Enum()), 10), true
	case protoreflect.MessageKind:
		return f.message.appendMessage(b, v.Message(), level)
	default:
		return b, false
	}
}

func (p *plan) appendMessage(b []byte, m protoreflect.Message, level int) ([]byte, bool) {
	b = append(b, '{')
	var ok bool
	first := true
	for i := range p.fields {
		f := &p.fields[i]
		if !m.Has(f.fd) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, f.name...)
		if b, ok = f.appendField(b, m.Get(f.fd), level+1); !ok {
			return b, false
		}
	}
	return append(b, '}'), true
}

// appendFloat writes a number as JavaScript does.
func appendFloat(b []byte, n float64, bits int) []byte {
	switch {
	case math.IsNaN(n):
		return append(b, `"NaN"`...)
	case math.IsInf(n, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(n, -1):
		return append(b, `"-Infinity"`...)
	}
	format := byte('f')
	abs := math.Abs(n)
	if abs != 0 && (bits == 64 && (abs < 1e-6 || abs >= 1e21) || bits == 32 && (float32(abs) < 1e-6 || float32(abs) >= 1e21)) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, n, format, -1, bits)
	if end := len(b); format == 'e' && end >= 4 && b[end-4] == 'e' && b[end-3] == '-' && b[end-2] == '0' {
		b[end-2] = b[end-1] // e-09 is e-9
		b = b[:end-1]
	}
	return b
}

const hexDigits = "0123456789abcdef"

// appendString writes a string. false: it is not valid UTF-8, or has a NUL
// character, which no jsonb may have.
func appendString(b []byte, s string) ([]byte, bool) {
	if !utf8.ValidString(s) {
		return b, false
	}
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(append(b, s[from:i]...), '\\')
		from = i + 1
		switch c {
		case 0:
			return b, false
		case '"', '\\':
			b = append(b, c)
		case '\b':
			b = append(b, 'b')
		case '\f':
			b = append(b, 'f')
		case '\n':
			b = append(b, 'n')
		case '\r':
			b = append(b, 'r')
		case '\t':
			b = append(b, 't')
		default:
			b = append(b, 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(b, s[from:]...), '"'), true
}
