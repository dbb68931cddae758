package codegen

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// collector reads the options of all files and gathers faults.
type collector struct {
	faults []error
	// concerns and tables know who took a name, over all files.
	concerns map[string]protoreflect.Descriptor
	tables   map[string]protoreflect.Descriptor
	goNames  map[protogen.GoImportPath]goNames
}

// collect returns the models of the files to generate that have Concerns.
func collect(files []*protogen.File) ([]*fileModel, error) {
	c := &collector{
		concerns: map[string]protoreflect.Descriptor{},
		tables:   map[string]protoreflect.Descriptor{},
		goNames:  map[protogen.GoImportPath]goNames{},
	}
	for _, f := range files {
		if c.goNames[f.GoImportPath] == nil {
			c.goNames[f.GoImportPath] = goNames{}
		}
		c.goNames[f.GoImportPath].addFile(f)
	}
	var models []*fileModel
	for _, f := range files {
		known := len(c.faults)
		model := c.file(f)
		if !f.Generate {
			c.faults = c.faults[:known] // its own generation tells
			continue
		}
		if len(model.concerns) > 0 {
			models = append(models, model)
		}
	}
	return models, errors.Join(c.faults...)
}

// refuse notes a fault of an element: file, line, what the element is, and what
// would be right.
func (c *collector) refuse(d protoreflect.Descriptor, format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf("%s: %s: %s", position(d), describe(d), fmt.Sprintf(format, args...)))
}

func position(d protoreflect.Descriptor) string {
	file := d.ParentFile()
	if loc := file.SourceLocations().ByDescriptor(d); loc.Path != nil {
		return fmt.Sprintf("%s:%d", file.Path(), loc.StartLine+1)
	}
	return file.Path()
}

func describe(d protoreflect.Descriptor) string {
	switch d := d.(type) {
	case protoreflect.MessageDescriptor:
		return "message " + string(d.Name())
	case protoreflect.ServiceDescriptor:
		return "service " + string(d.Name())
	case protoreflect.MethodDescriptor:
		return fmt.Sprintf("rpc %s.%s", d.Parent().Name(), d.Name())
	default:
		return fmt.Sprintf("field %s.%s", d.Parent().Name(), d.Name())
	}
}

func (c *collector) file(f *protogen.File) *fileModel {
	model := &fileModel{proto: f}
	byMessage := map[string]*concernModel{}
	for _, m := range f.Messages {
		if concern := c.message(m); concern != nil {
			model.concerns = append(model.concerns, concern)
			byMessage[string(m.Desc.Name())] = concern
		}
	}
	for _, s := range f.Services {
		c.service(s, model, byMessage)
	}
	for _, concern := range model.concerns {
		c.relations(concern, model, byMessage)
		c.unique(concern)
	}
	for _, concern := range model.concerns {
		c.compensations(concern)
		c.goNames[f.GoImportPath].addConcern(c, concern)
	}
	return model
}

// message returns the model of a Concern, nil for any other message.
func (c *collector) message(m *protogen.Message) *concernModel {
	c.nested(m)
	if !proto.HasExtension(m.Desc.Options(), rkcyv1.E_Concern) {
		c.strayFields(m)
		return nil
	}
	options := proto.GetExtension(m.Desc.Options(), rkcyv1.E_Concern).(*rkcyv1.ConcernOptions)
	concern := &concernModel{message: m, name: options.GetName(), table: options.GetTable(), config: options.GetConfig()}
	if concern.name == "" {
		concern.name = snakeCase(string(m.Desc.Name()))
	}
	if concern.config {
		c.configConcern(concern)
		return concern
	}
	if concern.table == "" {
		concern.table = concern.name
	}
	c.names(concern)
	c.tableName(concern)
	c.fields(concern)
	return concern
}

func (c *collector) names(concern *concernModel) {
	d := concern.message.Desc
	if !validConcern.MatchString(concern.name) {
		c.refuse(d, "the Concern's name %q must match %s; set it with option (rkcy.v1.concern).name", concern.name, validConcern)
	}
	if other := c.concerns[concern.name]; other != nil {
		c.refuse(d, "the Concern's name %q is taken by %s (%s); set another with option (rkcy.v1.concern).name",
			concern.name, describe(other), position(other))
	} else {
		c.concerns[concern.name] = d
	}
}

func (c *collector) tableName(concern *concernModel) {
	d := concern.message.Desc
	switch {
	case !validIdentifier.MatchString(concern.table):
		c.refuse(d, "the table's name %q must match %s; set it with option (rkcy.v1.concern).table", concern.table, validIdentifier)
	case strings.HasPrefix(concern.table, platformPrefix), strings.HasPrefix(concern.table, "pg_"),
		concern.table == "goose_db_version", concern.table == "schema_migrations":
		c.refuse(d, "the table's name %q is reserved (%s*, pg_*, goose_db_version, schema_migrations); set another with option (rkcy.v1.concern).table",
			concern.table, platformPrefix)
	case c.tables[concern.table] != nil:
		other := c.tables[concern.table]
		c.refuse(d, "table %q is taken by %s (%s); set another with option (rkcy.v1.concern).table",
			concern.table, describe(other), position(other))
	default:
		c.tables[concern.table] = d
	}
}

// nested refuses Concerns, and options of their fields, within a message.
func (c *collector) nested(m *protogen.Message) {
	for _, n := range m.Messages {
		if proto.HasExtension(n.Desc.Options(), rkcyv1.E_Concern) {
			c.refuse(n.Desc, "a Concern must be a message at the top level of its file; move it out of %s", m.Desc.Name())
		} else {
			c.strayFields(n)
		}
		c.nested(n)
	}
}

// strayFields refuses field options where they would do nothing.
func (c *collector) strayFields(m *protogen.Message) {
	for _, f := range m.Fields {
		if proto.HasExtension(f.Desc.Options(), rkcyv1.E_Field) {
			c.refuse(f.Desc, "option (rkcy.v1.field) counts only in a Concern; mark the message with option (rkcy.v1.concern) = {}, or remove it")
		}
	}
}
