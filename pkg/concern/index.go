package concern

import (
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Relation says that a field of a child has the key of a parent.
type Relation struct {
	// Field is the name of the field, Parent that of the parent's Concern.
	Field, Parent string
	// ParentKey returns the field of a child; "" for a child without parent.
	ParentKey func(child proto.Message) string
	// Copy returns a message of the child's type with what the parent's
	// handlers may see of it.
	Copy func(child proto.Message) proto.Message
}

// Unique says that no two instances have the same value of a field.
type Unique struct {
	// Field is the name of the field, Index that of the Concern which has an
	// instance for every value that is taken.
	Field, Index string
	// Value returns the field; "" is not checked.
	Value func(proto.Message) string
}

// Definition returns the definition of the Concern that has an instance for
// every value that is taken. Nobody but the platform visits it.
func (u Unique) Definition() Definition {
	return Definition{
		Name:  u.Index,
		New:   func() proto.Message { return &rkcyv1.UniqueEntry{} },
		KeyOf: func(m proto.Message) string { return m.(*rkcyv1.UniqueEntry).GetValue() }, //nolint:forcetypeassert // what New returns
		taken: func(ctx Context) error {
			return txn.Errorf(txn.CodeAlreadyExists, "%s %q is taken", u.Field, ctx.Key()).
				With(txn.DetailConstraint, u.Index).With(txn.DetailField, u.Field)
		},
	}
}
