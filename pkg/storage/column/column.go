package column

import "google.golang.org/protobuf/reflect/protoreflect"

// The PostgreSQL types that columns have.
const (
	Text    = "text"
	Boolean = "boolean"
	Integer = "integer"
	Bigint  = "bigint"
	Real    = "real"
	Double  = "double precision"
	Bytea   = "bytea"
	JSONB   = "jsonb"
)

// Type returns the type of the column that a field is stored in.
func Type(fd protoreflect.FieldDescriptor) string {
	if fd.IsList() || fd.IsMap() {
		return JSONB
	}
	switch fd.Kind() {
	case protoreflect.StringKind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return Text
	case protoreflect.BoolKind:
		return Boolean
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind, protoreflect.EnumKind:
		return Integer
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind,
		protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return Bigint
	case protoreflect.FloatKind:
		return Real
	case protoreflect.DoubleKind:
		return Double
	case protoreflect.BytesKind:
		return Bytea
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return JSONB
	}
	panic("column: protobuf kind " + fd.Kind().String() + " is not known")
}

// Nullable says whether NULL stands for a field that is not set. Where it does
// not, the column always has a value.
func Nullable(fd protoreflect.FieldDescriptor) bool { return fd.HasPresence() }
