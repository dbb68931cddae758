package concern

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/pkg/txn"
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// command is one command as the engine runs it: provided and own commands
// alike. instance is nil where none exists; the command returns the instance
// as it is to be, nil for none.
type command struct {
	name string
	// readOnly commands leave the instance as it is.
	readOnly bool
	run      func(ctx Context, instance proto.Message, payload []byte, bind func(proto.Message) error) (after, result proto.Message, err error)
}

// commandSet is a Definition made ready to run.
type commandSet struct {
	def    Definition
	byName map[string]*command
}

func newCommandSet(def Definition) (*commandSet, error) {
	if err := def.Validate(); err != nil {
		return nil, err
	}
	s := &commandSet{def: def, byName: map[string]*command{}}
	for _, c := range []*command{
		{name: txn.CommandCreate, run: s.create},
		{name: txn.CommandRead, readOnly: true, run: s.read},
		{name: txn.CommandUpdate, run: s.update},
		{name: txn.CommandDelete, run: s.delete},
	} {
		s.byName[c.name] = c
	}
	for _, own := range def.Commands {
		s.byName[own.Name] = &command{name: own.Name, readOnly: own.ReadOnly, run: s.own(own)}
	}
	return s, nil
}

func (s *commandSet) unknown(name string) error {
	var known []string
	for n := range s.byName {
		known = append(known, n)
	}
	slices.Sort(known)
	return txn.Errorf(txn.CodeUnimplemented, "concern %s has no command %q; it has %s", s.def.Name, name, strings.Join(known, ", "))
}

func (s *commandSet) missing(ctx Context) error {
	return txn.Errorf(txn.CodeNotFound, "%s %q does not exist", s.def.Name, ctx.Key())
}

func decode(what string, raw []byte, into proto.Message, bind func(proto.Message) error) error {
	if err := proto.Unmarshal(raw, into); err != nil {
		return txn.Errorf(txn.CodeInvalidArgument, "%s is not a %s: %w", what, into.ProtoReflect().Descriptor().FullName(), err)
	}
	if err := bind(into); err != nil {
		return txn.Errorf(txn.CodeInvalidArgument, "%s: %w", what, err)
	}
	return nil
}

func (s *commandSet) create(
	ctx Context, instance proto.Message, payload []byte, bind func(proto.Message) error,
) (proto.Message, proto.Message, error) {
	if instance != nil && s.def.taken != nil {
		return nil, nil, s.def.taken(ctx)
	}
	if instance != nil {
		return nil, nil, txn.Errorf(txn.CodeAlreadyExists, "%s %q exists already", s.def.Name, ctx.Key())
	}
	in := s.def.New()
	if err := decode("payload of create", payload, in, bind); err != nil {
		return nil, nil, err
	}
	if key := s.def.KeyOf(in); key != ctx.Key() {
		return nil, nil, txn.Errorf(txn.CodeInvalidArgument, "the %s to create has key %q, its step is on %q", s.def.Name, key, ctx.Key())
	}
	if s.def.ValidateCreate != nil {
		if err := s.def.ValidateCreate(ctx, in); err != nil {
			return nil, nil, err
		}
	}
	return in, in, nil
}

func (s *commandSet) read(
	ctx Context, instance proto.Message, _ []byte, _ func(proto.Message) error,
) (proto.Message, proto.Message, error) {
	if instance == nil {
		return nil, nil, s.missing(ctx)
	}
	return instance, instance, nil
}

func (s *commandSet) update(
	ctx Context, instance proto.Message, payload []byte, bind func(proto.Message) error,
) (proto.Message, proto.Message, error) {
	if instance == nil {
		return nil, nil, s.missing(ctx)
	}
	change := &rkcyv1.UpdatePayload{}
	if err := decode("payload of update", payload, change, bind); err != nil {
		return nil, nil, err
	}
	in := s.def.New()
	if err := decode("value of update", change.GetValue(), in, func(proto.Message) error { return nil }); err != nil {
		return nil, nil, err
	}
	after := proto.Clone(instance)
	if len(change.GetPaths()) == 0 {
		after = in
		if s.def.KeyOf(in) != ctx.Key() {
			return nil, nil, txn.Errorf(txn.CodeInvalidArgument, "the key of a %s cannot be changed, from %q to %q", s.def.Name, ctx.Key(), s.def.KeyOf(in))
		}
	}
	for _, path := range change.GetPaths() {
		if err := setPath(after.ProtoReflect(), in.ProtoReflect(), path); err != nil {
			return nil, nil, txn.Errorf(txn.CodeInvalidArgument, "update of %s: %w", s.def.Name, err).With(txn.DetailField, path)
		}
	}
	if s.def.ValidateUpdate != nil {
		if err := s.def.ValidateUpdate(ctx, instance, after); err != nil {
			return nil, nil, err
		}
	}
	return after, after, nil
}

// setPath sets the field of dst that a dotted path names to what src has.
func setPath(dst, src protoreflect.Message, path string) error {
	name, rest, nested := strings.Cut(path, ".")
	fd := dst.Descriptor().Fields().ByName(protoreflect.Name(name))
	if fd == nil {
		fd = dst.Descriptor().Fields().ByJSONName(name)
	}
	switch {
	case fd == nil:
		return fmt.Errorf("message %s has no field %q", dst.Descriptor().FullName(), name)
	case nested && (fd.Kind() != protoreflect.MessageKind || fd.IsList() || fd.IsMap()):
		return fmt.Errorf("field %q is not a message, so it has no field %q", name, rest)
	case nested:
		return setPath(dst.Mutable(fd).Message(), src.Get(fd).Message(), rest)
	case src.Has(fd):
		dst.Set(fd, src.Get(fd))
	default:
		dst.Clear(fd)
	}
	return nil
}

func (s *commandSet) delete(
	ctx Context, instance proto.Message, _ []byte, _ func(proto.Message) error,
) (proto.Message, proto.Message, error) {
	if instance == nil {
		return nil, nil, s.missing(ctx)
	}
	if s.def.ValidateDelete != nil {
		if err := s.def.ValidateDelete(ctx, instance); err != nil {
			return nil, nil, err
		}
	}
	return nil, instance, nil
}

func (s *commandSet) own(own Command) func(Context, proto.Message, []byte, func(proto.Message) error) (proto.Message, proto.Message, error) {
	return func(ctx Context, instance proto.Message, payload []byte, bind func(proto.Message) error) (proto.Message, proto.Message, error) {
		if instance == nil {
			return nil, nil, s.missing(ctx)
		}
		in := own.NewPayload()
		if err := decode("payload of "+own.Name, payload, in, bind); err != nil {
			return nil, nil, err
		}
		given := instance
		if own.ReadOnly {
			given = proto.Clone(instance) // what it changes is dropped
		}
		result, err := own.Run(ctx, given, in)
		return instance, result, err
	}
}
