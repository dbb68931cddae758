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
	message  *protogen.Message
	name     string
	table    string
	key      *protogen.Field
	columns  []columnModel
	commands []commandModel
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
	return names
}
