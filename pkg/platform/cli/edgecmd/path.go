package edgecmd

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
)

// fieldPath leads from the request to a field. After a map field mapKey is the
// entry that is meant.
type fieldPath struct {
	fields []protoreflect.FieldDescriptor
	mapKey string
}

func (p fieldPath) last() protoreflect.FieldDescriptor { return p.fields[len(p.fields)-1] }

// String returns the full path, with the names of the .proto file.
func (p fieldPath) String() string {
	names := make([]string, len(p.fields))
	for i, fd := range p.fields {
		names[i] = fd.TextName()
	}
	if p.last().IsMap() && p.mapKey != "" {
		names = append(names, p.mapKey)
	}
	return strings.Join(names, ".")
}

// resolve finds the field that a dotted name means. A name that a message does
// not have is looked for in the messages inside it, nearest first.
func resolve(md protoreflect.MessageDescriptor, name string) (fieldPath, error) {
	var path fieldPath
	at, rest, done := md, name, ""
	for {
		part, more, deeper := strings.Cut(rest, ".")
		found := search(at, part)
		switch {
		case len(found) == 0:
			return path, unknownField(md, name, part, done)
		case len(found) > 1:
			options := make([]string, len(found))
			for i, f := range found {
				options[i] = printable(done + fieldPath{fields: f}.String() + strings.TrimPrefix(rest, part))
			}
			return path, fmt.Errorf("field %q could be %s; say which", name, strings.Join(options, " or "))
		}
		path.fields = append(path.fields, found[0]...)
		done = path.String() + "."
		if !deeper {
			return path, nil
		}
		fd := path.last()
		switch {
		case fd.IsMap():
			path.mapKey = more
			return path, nil
		case !inside(fd):
			return path, fmt.Errorf("field %q: %s is %s, so nothing can follow it", name, path, describe(fd))
		}
		at, rest = fd.Message(), more
	}
}

// inside tells whether names can lead into a field.
func inside(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && !fd.IsList() && !fd.IsMap() && !wellKnown(fd.Message())
}

// wellKnown messages have a text form of their own.
func wellKnown(md protoreflect.MessageDescriptor) bool {
	return md.FullName().Parent() == "google.protobuf"
}

func byName(md protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := md.Fields().ByTextName(name); fd != nil {
		return fd
	}
	return md.Fields().ByJSONName(name)
}

// search returns the ways to a field of that name that are shortest.
func search(md protoreflect.MessageDescriptor, name string) [][]protoreflect.FieldDescriptor {
	type place struct {
		md  protoreflect.MessageDescriptor
		way []protoreflect.FieldDescriptor
	}
	level, seen := []place{{md: md}}, map[protoreflect.FullName]bool{}
	for len(level) > 0 {
		var found [][]protoreflect.FieldDescriptor
		var next []place
		for _, p := range level {
			if fd := byName(p.md, name); fd != nil {
				found = append(found, append(slices.Clone(p.way), fd))
			}
			seen[p.md.FullName()] = true
		}
		if len(found) > 0 {
			return found
		}
		for _, p := range level {
			for i := range p.md.Fields().Len() {
				if fd := p.md.Fields().Get(i); inside(fd) && !seen[fd.Message().FullName()] {
					next = append(next, place{fd.Message(), append(slices.Clone(p.way), fd)})
				}
			}
		}
		level = next
	}
	return nil
}

func unknownField(md protoreflect.MessageDescriptor, name, part, done string) error {
	var allowed, last []string
	for _, f := range listFields(md) {
		if strings.HasPrefix(f.full, done) {
			allowed = append(allowed, f.name)
			last = append(last, f.field.TextName())
		}
	}
	hint := suggest.Nearest(name, allowed)
	if hint == "" {
		if n := suggest.Nearest(part, last); n != "" {
			hint = n
			if done != "" {
				hint = strings.TrimSuffix(name, part) + n
			}
		}
	}
	if hint != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", hint)
	}
	if len(allowed) == 0 {
		return fmt.Errorf("unknown field %q; the command takes no fields", name)
	}
	return fmt.Errorf("unknown field %q%s; allowed are %s", name, hint, strings.Join(allowed, ", "))
}

// field is a field that an argument may set.
type field struct {
	// name is what to write, full the path from the request.
	name, full string
	field      protoreflect.FieldDescriptor
}

// listFields lists what may be set, in order of the .proto file. The name of a
// message that wraps the rest of the request is left out where it may be.
func listFields(md protoreflect.MessageDescriptor) []field {
	var out []field
	var walk func(md protoreflect.MessageDescriptor, prefix string, above []protoreflect.FullName)
	walk = func(in protoreflect.MessageDescriptor, prefix string, above []protoreflect.FullName) {
		if slices.Contains(above, in.FullName()) {
			return
		}
		above = append(slices.Clone(above), in.FullName())
		for i := range in.Fields().Len() {
			fd := in.Fields().Get(i)
			full := prefix + fd.TextName()
			f := field{name: full, full: full, field: fd}
			_, short, wrapped := strings.Cut(full, ".")
			if p, err := resolve1(md, short); wrapped && err == nil && p.String() == full {
				f.name = short
			}
			switch {
			case fd.IsMap():
				f.name += ".KEY"
				out = append(out, f)
			case inside(fd):
				if idField(fd.Message()) != nil {
					out = append(out, f)
				}
				walk(fd.Message(), full+".", above)
			default:
				out = append(out, f)
			}
		}
	}
	walk(md, "", nil)
	return out
}

// resolve1 resolves a name whose parts must each be unique at the first level
// that has them, without building an error.
func resolve1(md protoreflect.MessageDescriptor, name string) (fieldPath, error) {
	var path fieldPath
	first, rest, _ := strings.Cut(name, ".")
	found := search(md, first)
	if len(found) != 1 {
		return path, fmt.Errorf("%d fields", len(found))
	}
	path.fields = found[0]
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, ".")
		if !inside(path.last()) {
			return path, fmt.Errorf("%s is no message", path)
		}
		fd := byName(path.last().Message(), part)
		if fd == nil {
			return path, fmt.Errorf("no %s", part)
		}
		path.fields = append(path.fields, fd)
	}
	return path, nil
}

// idField returns the only field of a message that is an id by its name.
func idField(md protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	var id protoreflect.FieldDescriptor
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		if fd.Kind() != protoreflect.StringKind || fd.IsList() || fd.TextName() != "id" && !strings.HasSuffix(fd.TextName(), "_id") {
			continue
		}
		if id != nil {
			return nil
		}
		id = fd
	}
	return id
}
