package codegen

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// goNames are the package-level names of one Go package, each with what it was
// made of.
type goNames map[string]string

// addFile adds what protoc-gen-go and protoc-gen-go-grpc make of a file.
func (n goNames) addFile(f *protogen.File) {
	add := func(d protoreflect.Descriptor, what string, names ...string) {
		for _, name := range names {
			n[name] = fmt.Sprintf("%s %s (%s)", what, d.Name(), position(d))
		}
	}
	enums := func(list []*protogen.Enum) {
		for _, e := range list {
			add(e.Desc, "enum", e.GoIdent.GoName)
			for _, v := range e.Values {
				add(v.Desc, "enum value", v.GoIdent.GoName)
			}
		}
	}
	var messages func(list []*protogen.Message)
	messages = func(list []*protogen.Message) {
		for _, m := range list {
			if m.Desc.IsMapEntry() {
				continue
			}
			add(m.Desc, "message", m.GoIdent.GoName)
			for _, field := range m.Fields {
				if field.Oneof != nil && !field.Oneof.Desc.IsSynthetic() {
					add(field.Desc, "oneof member", field.GoIdent.GoName)
				}
			}
			enums(m.Enums)
			messages(m.Messages)
		}
	}
	enums(f.Enums)
	messages(f.Messages)
	for _, s := range f.Services {
		g := s.GoName
		add(s.Desc, "service", g+"Client", g+"Server", "New"+g+"Client", "Register"+g+"Server",
			"Unimplemented"+g+"Server", "Unsafe"+g+"Server")
	}
}

// addConcern adds what is generated for a Concern, and refuses what is there
// already.
func (n goNames) addConcern(c *collector, concern *concernModel) {
	message := concern.message
	claim := func(d protoreflect.Descriptor, name, what, hint string) {
		if other, taken := n[name]; taken {
			c.refuse(d, "the Go name %s, %s, is taken by %s; %s", name, what, other, hint)
			return
		}
		n[name] = fmt.Sprintf("%s of %s (%s)", what, describe(message.Desc), position(message.Desc))
	}
	names := concern.goNames()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		claim(message.Desc, name, names[name], "rename one of the two")
	}
	for _, cmd := range concern.commands {
		if providedCommands[strings.ToLower(cmd.method.GoName)] {
			continue // was refused for that
		}
		claim(cmd.method.Desc, message.GoIdent.GoName+cmd.method.GoName, "the constructor of the step", "rename the rpc")
	}
}
