package codegen

import (
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

const keyHint = "mark one plain string field with [(rkcy.v1.field).key = true]"

func (c *collector) fields(concern *concernModel) {
	for _, f := range concern.message.Fields {
		options, _ := proto.GetExtension(f.Desc.Options(), rkcyv1.E_Field).(*rkcyv1.FieldOptions)
		if options.GetKey() {
			c.key(concern, f, options)
		}
		if options.GetTransient() {
			if options.GetIndex() {
				c.refuse(f.Desc, "a transient field has no column, so it cannot have an index; remove index or transient")
			}
			continue
		}
		c.column(f)
		concern.columns = append(concern.columns, columnModel{
			field: f, key: options.GetKey(), index: options.GetIndex() && !options.GetKey(),
		})
	}
	if concern.key == nil {
		c.refuse(concern.message.Desc, "a Concern needs a key; %s", keyHint)
	}
}

func (c *collector) key(concern *concernModel, f *protogen.Field, options *rkcyv1.FieldOptions) {
	if concern.key != nil {
		c.refuse(f.Desc, "a Concern has one key, and field %s is marked already; remove one", concern.key.Desc.Name())
	} else {
		concern.key = f
	}
	switch {
	case f.Desc.IsMap():
		c.refuse(f.Desc, "the key is a map; %s", keyHint)
	case f.Desc.IsList():
		c.refuse(f.Desc, "the key is repeated; %s", keyHint)
	case f.Desc.Kind() != protoreflect.StringKind:
		c.refuse(f.Desc, "the key is of kind %s; %s", f.Desc.Kind(), keyHint)
	case f.Oneof != nil && !f.Oneof.Desc.IsSynthetic():
		c.refuse(f.Desc, "the key is a member of oneof %s, but every instance has a key; %s", f.Oneof.Desc.Name(), keyHint)
	case f.Desc.HasPresence():
		c.refuse(f.Desc, "the key is optional, but every instance has a key; "+
			"remove optional (in proto2 and editions: use features.field_presence = IMPLICIT)")
	}
	if options.GetTransient() {
		c.refuse(f.Desc, "the key is transient, but a row needs its key; remove transient")
	}
}

func (c *collector) column(f *protogen.Field) {
	name := string(f.Desc.Name())
	switch {
	case strings.HasPrefix(name, platformPrefix):
		c.refuse(f.Desc, "columns that begin with %s are the platform's; rename the field, or mark it transient", platformPrefix)
	case systemColumns[name]:
		c.refuse(f.Desc, "every PostgreSQL table has a system column %s; rename the field, or mark it transient", name)
	case !validIdentifier.MatchString(name):
		c.refuse(f.Desc, "the name of a column must match %s; rename the field, or mark it transient", validIdentifier)
	}
}
