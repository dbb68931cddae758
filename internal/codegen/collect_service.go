package codegen

import (
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// providedCommands are there for every Concern, and rules are the optional
// methods of a handler; neither can be the name of an own command.
var (
	providedCommands = map[string]bool{"create": true, "read": true, "update": true, "delete": true}
	rules            = map[string]bool{"ValidateCreate": true, "ValidateUpdate": true, "ValidateDelete": true}
)

// service adds the commands of a service to its Concern. Several services may
// share a Concern.
func (c *collector) service(s *protogen.Service, file *fileModel, byMessage map[string]*concernModel) {
	if !proto.HasExtension(s.Desc.Options(), rkcyv1.E_Commands) {
		for _, m := range s.Methods {
			if proto.HasExtension(m.Desc.Options(), rkcyv1.E_Command) {
				c.refuse(m.Desc, "option (rkcy.v1.command) counts only in a service of commands; "+
					"mark the service with option (rkcy.v1.commands).concern, or remove it")
			}
		}
		return
	}
	options := proto.GetExtension(s.Desc.Options(), rkcyv1.E_Commands).(*rkcyv1.CommandsOptions)
	concern := byMessage[options.GetConcern()]
	switch {
	case concern == nil:
		c.refuse(s.Desc, "option (rkcy.v1.commands).concern is %q, but must name a Concern message of the same file; %s",
			options.GetConcern(), file.knownConcerns())
		return
	case concern.config:
		c.refuse(s.Desc, "%s is a config Concern, which is read-only and has no commands; remove the option", options.GetConcern())
		return
	}
	for _, m := range s.Methods {
		c.method(m, concern)
	}
}

// knownConcerns says which Concerns a file has, for people. Config Concerns take
// no part in transactions.
func (f *fileModel) knownConcerns() string {
	var known []string
	for _, k := range f.concerns {
		if !k.config {
			known = append(known, string(k.message.Desc.Name()))
		}
	}
	if len(known) == 0 {
		return "it has none"
	}
	return "it has " + strings.Join(known, ", ")
}

func (c *collector) method(m *protogen.Method, concern *concernModel) {
	name := string(m.Desc.Name())
	switch {
	case m.Desc.IsStreamingClient() || m.Desc.IsStreamingServer():
		c.refuse(m.Desc, "a command takes one message and returns one; remove stream")
	case providedCommands[strings.ToLower(name)]:
		c.refuse(m.Desc, "create, read, update and delete are provided for every Concern; choose another name")
	case rules[m.GoName]:
		c.refuse(m.Desc, "ValidateCreate, ValidateUpdate and ValidateDelete are optional rules of a handler; choose another name")
	}
	for _, other := range concern.commands {
		if other.method.GoName == m.GoName {
			c.refuse(m.Desc, "the handler's method %s is there for rpc %s.%s (%s) already; choose another name",
				m.GoName, other.method.Parent.Desc.Name(), other.method.Desc.Name(), position(other.method.Desc))
			return
		}
	}
	options, _ := proto.GetExtension(m.Desc.Options(), rkcyv1.E_Command).(*rkcyv1.CommandOptions)
	cmd := commandModel{method: m, options: options, readOnly: options.GetReadOnly()}
	if options.GetNoCompensation() {
		cmd.compensation = ".WithoutCompensation()"
	}
	concern.commands = append(concern.commands, cmd)
}
