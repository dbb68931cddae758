package txn

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Names of the commands that every Concern has.
const (
	CommandCreate = "create"
	CommandRead   = "read"
	CommandUpdate = "update"
	CommandDelete = "delete"
)

// Step is one command on one instance. The generator writes a constructor for
// each command; few programs make a Step by hand.
type Step struct {
	Concern string
	Key     string
	Command string
	Access  rkcyv1.Access
	// Payload must not be changed once the step was added to a Builder.
	Payload proto.Message
}

// TypedStep is a Step that knows what its command returns.
type TypedStep[R proto.Message] struct {
	Step
	newResult func() R
}

// NewStep makes a step whose result is decoded into what newResult returns.
func NewStep[R proto.Message](
	concern, key, command string, access rkcyv1.Access, payload proto.Message, newResult func() R,
) TypedStep[R] {
	return TypedStep[R]{
		Step:      Step{Concern: concern, Key: key, Command: command, Access: access, Payload: payload},
		newResult: newResult,
	}
}

// UpdatePayload packs the payload of the provided update command. Without
// paths every field but the key is taken from in. A message that cannot be
// serialized is refused when the transaction is built.
func UpdatePayload(in proto.Message, paths ...string) proto.Message {
	value, err := proto.Marshal(in)
	if err != nil {
		return unserializable{err}
	}
	return &rkcyv1.UpdatePayload{Value: value, Paths: paths}
}

// unserializable stands in for a payload that failed to serialize, so that
// constructors need no error result; Build reports it.
type unserializable struct{ err error }

func (unserializable) ProtoReflect() protoreflect.Message {
	return (*rkcyv1.Empty)(nil).ProtoReflect()
}
