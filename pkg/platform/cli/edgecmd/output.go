package edgecmd

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// writeJSON writes an answer for programs.
func writeJSON(w io.Writer, m proto.Message) error {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, escape(text), "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

// writeText writes an answer for people: one field per line, in the order of
// the .proto file, values aligned.
func writeText(w io.Writer, m proto.Message) error {
	var b strings.Builder
	textMessage(&b, m.ProtoReflect(), "")
	if b.Len() == 0 {
		b.WriteString("ok\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func textMessage(b *strings.Builder, m protoreflect.Message, indent string) {
	fields := m.Descriptor().Fields()
	width := 0
	for i := range fields.Len() {
		if fd := fields.Get(i); shown(m, fd) {
			width = max(width, len(fd.TextName()))
		}
	}
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !shown(m, fd) {
			continue
		}
		name, v := fd.TextName(), m.Get(fd)
		one := func(text string) {
			fmt.Fprintf(b, "%s%s:%s %s\n", indent, name, strings.Repeat(" ", width-len(name)), text)
		}
		switch {
		case fd.IsMap():
			if v.Map().Len() == 0 {
				one("{}")
				continue
			}
			fmt.Fprintf(b, "%s%s:\n", indent, name)
			textMap(b, fd, v.Map(), indent+"  ")
		case fd.IsList():
			if v.List().Len() == 0 {
				one("[]")
				continue
			}
			fmt.Fprintf(b, "%s%s:\n", indent, name)
			for i := range v.List().Len() {
				textItem(b, fd, v.List().Get(i), indent+"  ")
			}
		case fd.Message() != nil && !wellKnown(fd.Message()):
			if !m.Has(fd) {
				one("none")
				continue
			}
			fmt.Fprintf(b, "%s%s:\n", indent, name)
			textMessage(b, v.Message(), indent+"  ")
		default:
			one(textScalar(fd, v))
		}
	}
}

// shown leaves out fields of a oneof that were not chosen.
func shown(m protoreflect.Message, fd protoreflect.FieldDescriptor) bool {
	return m.Has(fd) || fd.ContainingOneof() == nil && (!wellKnownMessage(fd))
}

func wellKnownMessage(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && !fd.IsMap() && !fd.IsList() && wellKnown(fd.Message())
}

// textItem writes an element of a list; the first line gets the dash.
func textItem(b *strings.Builder, fd protoreflect.FieldDescriptor, v protoreflect.Value, indent string) {
	if fd.Message() == nil || wellKnown(fd.Message()) {
		fmt.Fprintf(b, "%s- %s\n", indent, textScalar(fd, v))
		return
	}
	var item strings.Builder
	textMessage(&item, v.Message(), indent+"  ")
	text := item.String()
	if text == "" {
		text = indent + "  {}\n"
	}
	b.WriteString(indent + "- " + strings.TrimPrefix(text, indent+"  "))
}

func textMap(b *strings.Builder, fd protoreflect.FieldDescriptor, m protoreflect.Map, indent string) {
	keys := make([]protoreflect.MapKey, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return strings.Compare(a.String(), b.String()) })
	for _, k := range keys {
		if value := fd.MapValue(); value.Message() != nil && !wellKnown(value.Message()) {
			fmt.Fprintf(b, "%s%s:\n", indent, printable(k.String()))
			textMessage(b, m.Get(k).Message(), indent+"  ")
		} else {
			fmt.Fprintf(b, "%s%s: %s\n", indent, printable(k.String()), textScalar(value, m.Get(k)))
		}
	}
}

func textScalar(fd protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return printable(v.String())
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	case protoreflect.EnumKind:
		if ev := fd.Enum().Values().ByNumber(v.Enum()); ev != nil {
			return string(ev.Name())
		}
		return strconv.Itoa(int(v.Enum()))
	case protoreflect.MessageKind, protoreflect.GroupKind:
		text, err := protojson.Marshal(v.Message().Interface())
		if err != nil {
			return "?"
		}
		return string(compact(text))
	default:
		return v.String()
	}
}

// printable returns text as it is where that is safe on a terminal and reads
// back as the same, else in quotes.
func printable(s string) string {
	quote := s == "" || s != strings.TrimSpace(s) || s[0] == '"' || !utf8.ValidString(s)
	for _, r := range s {
		quote = quote || !unicode.IsPrint(r)
	}
	if quote {
		return strconv.Quote(s)
	}
	return s
}

// visible writes what a terminal may act upon as Go would in a string.
func visible(s string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// escape writes the characters of a JSON document that a terminal may act upon
// as \u sequences. JSON itself asks for that below U+0020 only.
func escape(document []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(document) {
		switch {
		case unicode.IsPrint(r) || r == '\n' || r == '\t' || r == '\r': // the latter are between values
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// compact takes out the white space that protojson puts in at random, and
// makes the document safe to show.
func compact(document []byte) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, document); err != nil {
		return escape(document)
	}
	return escape(b.Bytes())
}
