package codegen

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
)

// compensations finds the commands that undo others in a saga, once all
// commands of the Concern are known.
func (c *collector) compensations(concern *concernModel) {
	for i := range concern.commands {
		cmd := &concern.commands[i]
		name := cmd.options.GetCompensation()
		switch {
		case name == "" && cmd.options.GetNoCompensation() && cmd.readOnly:
			c.refuse(cmd.method.Desc, "a read-only command needs no compensation; remove no_compensation")
		case name == "":
		case cmd.readOnly:
			c.refuse(cmd.method.Desc, "a read-only command needs no compensation; remove compensation")
		case cmd.options.GetNoCompensation():
			c.refuse(cmd.method.Desc, "compensation and no_compensation exclude each other; remove one")
		default:
			c.compensation(concern, cmd, name)
		}
	}
}

func (c *collector) compensation(concern *concernModel, cmd *commandModel, name string) {
	var undo *commandModel
	var writing []string
	for i := range concern.commands {
		other := &concern.commands[i]
		if string(other.method.Desc.Name()) == name {
			undo = other
		}
		if !other.readOnly {
			writing = append(writing, string(other.method.Desc.Name()))
		}
	}
	switch d := cmd.method.Desc; {
	case undo == nil:
		c.refuse(d, "compensation %q is no command of %s; it has %s", name, concern.message.Desc.Name(), strings.Join(writing, ", "))
	case undo.readOnly:
		c.refuse(d, "compensation %s is read-only, so it undoes nothing; name one of %s", name, strings.Join(writing, ", "))
	case undo.method.Input.Desc.FullName() == cmd.method.Input.Desc.FullName():
		cmd.compensation = ".CompensatedBy(" + quoteGo(name) + ")"
	case undo.method.Input.Desc.FullName() == cmd.method.Output.Desc.FullName():
		cmd.compensation = ".CompensatedByResult(" + quoteGo(name) + ")"
	default:
		c.refuse(d, "compensation %s takes a %s, but must take what %s takes (%s) or returns (%s)",
			name, typeName(undo.method.Input), cmd.method.Desc.Name(), typeName(cmd.method.Input), typeName(cmd.method.Output))
	}
}

func typeName(m *protogen.Message) string { return string(m.Desc.FullName()) }

func quoteGo(s string) string { return fmt.Sprintf("%q", s) }
