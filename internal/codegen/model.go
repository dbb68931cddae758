package codegen

import (
	"google.golang.org/protobuf/compiler/protogen"

	"github.com/rocketcycle/rocketcycle/pkg/storage/column"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// fileModel is a .proto file that has Concerns.
type fileModel struct {
	proto    *protogen.File
	concerns []*concernModel
}

// concernModel is a Concern as the printers need it. It has no faults.
type concernModel struct {
	message *protogen.Message
	name    string
	// config Concerns have a name, a key, and nothing else of what follows.
	config   bool
	table    string
	key      *protogen.Field
	columns  []columnModel
	commands []commandModel
	// relations are those to parents, children the Concerns that have one to
	// this.
	relations []relationModel
	children  []*concernModel
	unique    []uniqueModel
}

// relationModel is a field that has the key of a parent.
type relationModel struct {
	field  *protogen.Field
	parent *concernModel
	// copies are what the parent sees: the key first.
	copies []*protogen.Field
}

// uniqueModel is a field whose values are unique.
type uniqueModel struct {
	field *protogen.Field
	// index is the name of the Concern, and of the table, that has the values.
	index string
}

type columnModel struct {
	field *protogen.Field
	key   bool
	index bool
}

func (c columnModel) name() string   { return string(c.field.Desc.Name()) }
func (c columnModel) typ() string    { return column.Type(c.field.Desc) }
func (c columnModel) nullable() bool { return column.Nullable(c.field.Desc) }

type commandModel struct {
	method   *protogen.Method
	options  *rkcyv1.CommandOptions
	readOnly bool
	// compensation is what makes the step one that a saga can undo: a call of a
	// method of txn.TypedStep, or nothing.
	compensation string
}

// goNames are the package-level Go names that are generated for the Concern,
// each with what it is for.
func (c *concernModel) goNames() map[string]string {
	m := c.message.GoIdent.GoName
	if c.config {
		return map[string]string{
			m + "Concern":        "the name of the Concern",
			"New" + m + "Config": "the constructor of the definition",
			m + "Of":             "what finds an instance",
		}
	}
	names := map[string]string{
		m + "Concern": "the name of the Concern",
		m + "Create":  "the constructor of the create step",
		m + "Read":    "the constructor of the read step",
		m + "Update":  "the constructor of the update step",
		m + "Delete":  "the constructor of the delete step",
		m + "Handler": "the interface of the handler",
		m + "Mapping": "the storage mapping",
		"New" + m:     "the constructor of the definition",
	}
	for _, child := range c.children {
		names[c.childrenName(child)] = "what finds the children of type " + child.message.GoIdent.GoName
	}
	return names
}

// childrenName is that of the function which returns the children of a type.
func (c *concernModel) childrenName(child *concernModel) string {
	return c.message.GoIdent.GoName + plural(child.message.GoIdent.GoName)
}
