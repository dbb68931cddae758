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
	// Compensation is the command of the same Concern that undoes the step in a
	// saga. It gets this step's payload, or its result.
	Compensation         string
	CompensateWithResult bool
	// NoCompensation says that nothing has to be undone.
	NoCompensation bool
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
	s := TypedStep[R]{
		Step:      Step{Concern: concern, Key: key, Command: command, Access: access, Payload: payload},
		newResult: newResult,
	}
	switch command {
	case CommandCreate:
		return s.CompensatedBy(CommandDelete)
	case CommandDelete:
		return s.CompensatedByResult(CommandCreate)
	}
	return s
}

// CompensatedBy returns the step with the command that undoes it in a saga and
// gets the same payload.
func (s TypedStep[R]) CompensatedBy(command string) TypedStep[R] {
	s.Compensation, s.CompensateWithResult, s.NoCompensation = command, false, false
	return s
}

// CompensatedByResult returns the step with the command that undoes it in a
// saga and gets its result as payload.
func (s TypedStep[R]) CompensatedByResult(command string) TypedStep[R] {
	s.Compensation, s.CompensateWithResult, s.NoCompensation = command, true, false
	return s
}

// WithoutCompensation returns the step as one that a saga need not undo.
func (s TypedStep[R]) WithoutCompensation() TypedStep[R] {
	s.Compensation, s.CompensateWithResult, s.NoCompensation = "", false, true
	return s
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
