package column

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
)

func encodeScalar(fd protoreflect.FieldDescriptor, v protoreflect.Value) (any, error) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return v.String(), checkText(v.String())
	case protoreflect.BoolKind:
		return v.Bool(), nil
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return int32(v.Int()), nil
	case protoreflect.EnumKind:
		return int32(v.Enum()), nil
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return v.Int(), nil
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return int64(v.Uint()), nil
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return strconv.FormatUint(v.Uint(), 10), nil
	case protoreflect.FloatKind:
		return float32(v.Float()), nil
	case protoreflect.DoubleKind:
		return v.Float(), nil
	case protoreflect.BytesKind:
		if b := v.Bytes(); b != nil {
			return b, nil
		}
		return []byte{}, nil // nil would be NULL
	default:
		return nil, fmt.Errorf("kind %s has no column type", fd.Kind())
	}
}

// checkText refuses what a text column cannot hold.
func checkText(s string) error {
	switch {
	case !utf8.ValidString(s):
		return errors.New("the text is not valid UTF-8")
	case strings.IndexByte(s, 0) >= 0:
		return errors.New("the text contains a NUL character")
	}
	return nil
}

func decodeScalar(fd protoreflect.FieldDescriptor, value any) (none protoreflect.Value, err error) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		if s, ok := value.(string); ok {
			return protoreflect.ValueOfString(s), nil
		}
	case protoreflect.BoolKind:
		if b, ok := value.(bool); ok {
			return protoreflect.ValueOfBool(b), nil
		}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		n, err := asInt(value, math.MinInt32, math.MaxInt32)
		return protoreflect.ValueOfInt32(int32(n)), err
	case protoreflect.EnumKind:
		n, err := asInt(value, math.MinInt32, math.MaxInt32)
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n)), err
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		n, err := asInt(value, math.MinInt64, math.MaxInt64)
		return protoreflect.ValueOfInt64(n), err
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		n, err := asInt(value, 0, math.MaxUint32)
		return protoreflect.ValueOfUint32(uint32(n)), err
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		if s, ok := value.(string); ok {
			n, err := strconv.ParseUint(s, 10, 64)
			return protoreflect.ValueOfUint64(n), err
		}
	case protoreflect.FloatKind:
		switch f := value.(type) {
		case float32:
			return protoreflect.ValueOfFloat32(f), nil
		case float64:
			return protoreflect.ValueOfFloat32(float32(f)), nil
		}
	case protoreflect.DoubleKind:
		switch f := value.(type) {
		case float64:
			return protoreflect.ValueOfFloat64(f), nil
		case float32:
			return protoreflect.ValueOfFloat64(float64(f)), nil
		}
	case protoreflect.BytesKind:
		if b, ok := value.([]byte); ok {
			return protoreflect.ValueOfBytes(bytes.Clone(b)), nil
		}
	default:
		return none, fmt.Errorf("kind %s has no column type", fd.Kind())
	}
	return none, fmt.Errorf("a %T cannot be a %s", value, fd.Kind())
}

// asInt takes any width of integer, since a column may have been widened.
func asInt(value any, low, high int64) (int64, error) {
	var n int64
	switch v := value.(type) {
	case int16:
		n = int64(v)
	case int32:
		n = int64(v)
	case int64:
		n = v
	default:
		return 0, fmt.Errorf("a %T is not an integer", value)
	}
	if n < low || n > high {
		return 0, fmt.Errorf("%d is not within %d and %d", n, low, high)
	}
	return n, nil
}
