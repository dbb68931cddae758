package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
)

// jsonCodec reads and writes bodies. It refuses what the gateway's own lets
// pass: unknown fields, and anything after the first JSON value.
type jsonCodec struct{ runtime.JSONPb }

func newJSONCodec() *jsonCodec {
	return &jsonCodec{runtime.JSONPb{
		// The names of the .proto file, as everywhere else; both forms are read.
		MarshalOptions: protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true},
	}}
}

// NewDecoder implements runtime.Marshaler. The decoder takes the whole body,
// so it serves methods whose request is a single message.
func (j *jsonCodec) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(data)) == 0 {
			return io.EOF // an empty body is an empty message
		}
		return j.Unmarshal(data, v)
	})
}

// Unmarshal implements runtime.Marshaler.
func (j *jsonCodec) Unmarshal(data []byte, v any) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("the body is not valid UTF-8 (at byte %d)", invalidAt(data))
	}
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return fmt.Errorf("the body is not valid JSON: %w (at byte %d)", err, syntax.Offset)
		}
		return fmt.Errorf("the body is not valid JSON: %w", err)
	}
	err := j.JSONPb.Unmarshal(data, v)
	if err == nil {
		return nil
	}
	if md := messageOf(v); md != nil {
		var tree any
		if json.Unmarshal(data, &tree) == nil {
			if unknown := unknownField(tree, md, ""); unknown != nil {
				return unknown
			}
		}
	}
	return errors.New(tidy(err.Error()))
}

func invalidAt(data []byte) int {
	at := 0
	for at < len(data) {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

// messageOf returns the descriptor of the message that v points to, through
// any number of pointers.
func messageOf(v any) protoreflect.MessageDescriptor {
	for t := reflect.TypeOf(v); t != nil && t.Kind() == reflect.Pointer; t = t.Elem() {
		if m, ok := reflect.Zero(t).Interface().(proto.Message); ok {
			return m.ProtoReflect().Descriptor()
		}
	}
	return nil
}

// unknownField looks for the first field, in order of name, that the message
// does not have.
func unknownField(tree any, md protoreflect.MessageDescriptor, path string) error {
	object, ok := tree.(map[string]any)
	if !ok || md.FullName().Parent() == "google.protobuf" {
		return nil // those have a JSON form of their own
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		fd := md.Fields().ByJSONName(name)
		if fd == nil {
			fd = md.Fields().ByTextName(name)
		}
		if fd == nil {
			names := make([]string, md.Fields().Len())
			for i := range names {
				names[i] = md.Fields().Get(i).TextName()
			}
			return fmt.Errorf("unknown field %q%s; %s has %s",
				path+name, suggest.Hint(name, names), md.FullName(), strings.Join(names, ", "))
		}
		values := []any{object[name]}
		switch {
		case fd.IsMap():
			if fd = fd.MapValue(); fd.Message() != nil {
				entries, _ := object[name].(map[string]any)
				values = slices.Collect(maps.Values(entries))
			}
		case fd.IsList():
			values, _ = object[name].([]any)
		}
		if fd.Message() == nil {
			continue
		}
		for _, v := range values {
			if err := unknownField(v, fd.Message(), path+name+"."); err != nil {
				return err
			}
		}
	}
	return nil
}

// protobuf's messages begin with "proto:" and a space that is sometimes a
// non-breaking one, so that nobody relies on their text.
var protoPrefix = regexp.MustCompile(`^proto:[\s\x{a0}]*(syntax error )?`)

func tidy(message string) string {
	return strings.ReplaceAll(protoPrefix.ReplaceAllString(message, ""), "\u00a0", " ")
}
