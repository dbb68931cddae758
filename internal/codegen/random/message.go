// Package random fills messages for tests that must hold for any of them.
package random

import (
	"math"
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// text is made of what JSON has to escape and what looks like a mark of the
// column codec.
func text(r *rand.Rand) string {
	parts := []string{"", "a", `"`, `\`, "\n", "\x1f", "ü", "𝛼", "\u2028", "</", `{"@wire":"AA=="}`, "@wire", `\u0000`, "null", " "}
	var b strings.Builder
	for range r.IntN(4) {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	return b.String()
}

// Message sets about half of the fields of a message, to extremes more often
// than not. Strings within messages, lists and maps may contain NUL, those that
// are columns of their own do not.
func Message(r *rand.Rand, m proto.Message) { fill(r, m.ProtoReflect(), 0) }

func fill(r *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if r.IntN(2) == 0 || fd.Message() != nil && depth > 3 {
			continue
		}
		switch {
		case fd.IsMap():
			entries := m.Mutable(fd).Map()
			for range r.IntN(3) {
				value := entries.NewValue()
				if fd.MapValue().Message() != nil {
					fill(r, value.Message(), depth+1)
				} else {
					value = scalar(r, fd.MapValue(), true)
				}
				entries.Set(scalar(r, fd.MapKey(), true).MapKey(), value)
			}
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range r.IntN(3) {
				if fd.Message() != nil {
					fill(r, list.AppendMutable().Message(), depth+1)
				} else {
					list.Append(scalar(r, fd, true))
				}
			}
		case fd.Message() != nil:
			if any, ok := m.Mutable(fd).Message().Interface().(*anypb.Any); ok {
				packed(r, any)
			} else {
				fill(r, m.Mutable(fd).Message(), depth+1)
			}
		default:
			m.Set(fd, scalar(r, fd, depth > 0))
		}
	}
}

func packed(r *rand.Rand, any *anypb.Any) {
	packed, err := anypb.New(wrapperspb.String(text(r)))
	if err != nil {
		panic(err)
	}
	proto.Merge(any, packed)
	if r.IntN(2) == 0 {
		any.TypeUrl = "type.example.com/not.Known"
	}
}

func scalar(r *rand.Rand, fd protoreflect.FieldDescriptor, nul bool) protoreflect.Value {
	extreme := []int64{0, 1, -1, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64, 1<<53 + 1, r.Int64()}
	n := extreme[r.IntN(len(extreme))]
	floats := []float64{0, math.Copysign(0, -1), 1.5, -1e-300, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.NaN(), r.NormFloat64()}
	f := floats[r.IntN(len(floats))]
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n%2 == 0)
	case protoreflect.EnumKind: // numbers that have no name too
		if fd.Enum().FullName() == "google.protobuf.NullValue" {
			return protoreflect.ValueOfEnum(0) // in JSON, any number of it is null
		}
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(n)))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(n)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(f))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(f)
	case protoreflect.StringKind:
		s := text(r)
		if nul && r.IntN(8) == 0 {
			s += "\x00"
		}
		return protoreflect.ValueOfString(s)
	default:
		return protoreflect.ValueOfBytes([]byte(text(r) + "\x00\xff"))
	}
}
