package codegen

import (
	"slices"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

func fieldOptions(f *protogen.Field) *rkcyv1.FieldOptions {
	options, _ := proto.GetExtension(f.Desc.Options(), rkcyv1.E_Field).(*rkcyv1.FieldOptions)
	return options
}

// oneString reports whether a field is a single string.
func oneString(f *protogen.Field) bool {
	return f.Desc.Kind() == protoreflect.StringKind && f.Desc.Cardinality() != protoreflect.Repeated
}

// kindOf says what a field is, for people.
func kindOf(f *protogen.Field) string {
	switch {
	case f.Desc.IsMap():
		return "a map"
	case f.Desc.IsList():
		return "repeated"
	default:
		return "of kind " + f.Desc.Kind().String()
	}
}

// relations finds the parents of a Concern, once all Concerns of the file are
// known.
func (c *collector) relations(concern *concernModel, file *fileModel, byMessage map[string]*concernModel) {
	if concern.config {
		return
	}
	parents := map[*concernModel]*protogen.Field{}
	for _, f := range concern.message.Fields {
		options := fieldOptions(f)
		if options.GetRefersTo() == "" {
			if len(options.GetCopy()) > 0 {
				c.refuse(f.Desc, "option (rkcy.v1.field).copy says what a parent sees, so it needs refers_to; add refers_to, or remove copy")
			}
			continue
		}
		parent := byMessage[options.GetRefersTo()]
		switch {
		case parent == nil:
			c.refuse(f.Desc, "option (rkcy.v1.field).refers_to is %q, but must name a Concern message of the same file; %s",
				options.GetRefersTo(), file.knownConcerns())
		case parent.config:
			c.refuse(f.Desc, "refers_to names %s, a config Concern, whose instances know no children; remove refers_to", options.GetRefersTo())
		case !oneString(f):
			c.refuse(f.Desc, "a field with refers_to has a key, so it is one string, but this is %s; remove refers_to", kindOf(f))
		case options.GetTransient():
			c.refuse(f.Desc, "a transient field is forgotten, so nobody could tell a parent that it lost a child; remove refers_to or transient")
		case parents[parent] != nil:
			c.refuse(f.Desc, "a parent knows a child once, and field %s refers to %s already; remove refers_to from one",
				parents[parent].Desc.Name(), options.GetRefersTo())
		default:
			parents[parent] = f
			concern.relations = append(concern.relations, relationModel{field: f, parent: parent, copies: c.copies(concern, f, options.GetCopy())})
			parent.children = append(parent.children, concern)
		}
	}
}

// copies returns the fields that a parent sees of a child.
func (c *collector) copies(concern *concernModel, f *protogen.Field, names []string) []*protogen.Field {
	var out []*protogen.Field
	if concern.key != nil {
		out = append(out, concern.key)
	}
	for _, name := range names {
		i := slices.IndexFunc(concern.message.Fields, func(o *protogen.Field) bool { return string(o.Desc.Name()) == name })
		if i < 0 {
			c.refuse(f.Desc, "copy names %q, but %s has no such field", name, concern.message.Desc.Name())
			continue
		}
		switch other := concern.message.Fields[i]; {
		case other == concern.key:
			c.refuse(f.Desc, "copy names %q, the key, which is always copied; remove it", name)
		case slices.Contains(out, other):
			c.refuse(f.Desc, "copy names %q twice; remove one", name)
		case fieldOptions(other).GetTransient():
			c.refuse(f.Desc, "copy names %q, which is transient: once it is forgotten, the copy would be too; remove it", name)
		default:
			out = append(out, other)
		}
	}
	return out
}

// unique finds the fields whose values are unique. Each makes a Concern and a
// table of its own.
func (c *collector) unique(concern *concernModel) {
	if concern.config {
		return
	}
	for _, f := range concern.message.Fields {
		options := fieldOptions(f)
		if !options.GetUnique() {
			continue
		}
		u := uniqueModel{field: f, index: concern.name + "_" + string(f.Desc.Name())}
		switch {
		case options.GetKey():
			c.refuse(f.Desc, "a key is unique without saying so; remove unique")
		case !oneString(f):
			c.refuse(f.Desc, "a unique field is one string, but this is %s; remove unique", kindOf(f))
		case options.GetTransient():
			c.refuse(f.Desc, "a transient field is forgotten, so its value could not be given back; remove unique or transient")
		case !validConcern.MatchString(u.index) || !validIdentifier.MatchString(u.index):
			c.refuse(f.Desc, "the values of a unique field are in a Concern and a table that are both called %q, which must match %s; rename the field",
				u.index, validIdentifier)
		case c.concerns[u.index] != nil:
			other := c.concerns[u.index]
			c.refuse(f.Desc, "the values of a unique field are in a Concern called %q, and that name is taken by %s (%s); rename one of the two",
				u.index, describe(other), position(other))
		case c.tables[u.index] != nil:
			other := c.tables[u.index]
			c.refuse(f.Desc, "the values of a unique field are in table %q, and that name is taken by %s (%s); rename one of the two",
				u.index, describe(other), position(other))
		default:
			c.concerns[u.index], c.tables[u.index] = f.Desc, f.Desc
			concern.unique = append(concern.unique, u)
		}
	}
}

// configConcern checks a Concern that has neither commands nor a table.
func (c *collector) configConcern(concern *concernModel) {
	c.names(concern)
	if concern.table != "" {
		c.refuse(concern.message.Desc, "a config Concern has no table; remove table")
	}
	for _, f := range concern.message.Fields {
		options := fieldOptions(f)
		if options.GetKey() {
			c.key(concern, f, options)
		}
		for _, o := range []struct {
			name string
			used bool
		}{
			{"index", options.GetIndex()},
			{"transient", options.GetTransient() && !options.GetKey()},
			{"unique", options.GetUnique()},
			{"refers_to", options.GetRefersTo() != ""},
			{"copy", len(options.GetCopy()) > 0},
		} {
			if o.used {
				c.refuse(f.Desc, "a config Concern has no table and takes no part in transactions; remove %s", o.name)
			}
		}
	}
	if concern.key == nil {
		c.refuse(concern.message.Desc, "a Concern needs a key; %s", keyHint)
	}
}
