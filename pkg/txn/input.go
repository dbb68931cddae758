package txn

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// ApplyInputs copies what inputs name from the results of earlier steps into
// payload. An error means that the transaction was built against other
// descriptors than the processor has.
func ApplyInputs(payload proto.Message, inputs []*rkcyv1.Input, results []*rkcyv1.StepResult) error {
	for _, in := range inputs {
		if int(in.GetFromStep()) >= len(results) || results[in.GetFromStep()] == nil {
			return fmt.Errorf("input from step %d, which has not run", in.GetFromStep())
		}
		mt, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(in.GetFromType()))
		if err != nil {
			return fmt.Errorf("input type %s: %w", in.GetFromType(), err)
		}
		src := mt.New()
		if err := proto.Unmarshal(results[in.GetFromStep()].GetValue(), src.Interface()); err != nil {
			return fmt.Errorf("result of step %d: %w", in.GetFromStep(), err)
		}
		if err := copyField(src, in.GetFromPath(), payload.ProtoReflect(), in.GetToPath()); err != nil {
			return err
		}
	}
	return nil
}

func copyField(src protoreflect.Message, from string, dst protoreflect.Message, to string) error {
	sf, err := fieldAt(src.Descriptor(), from)
	if err != nil {
		return err
	}
	df, err := fieldAt(dst.Descriptor(), to)
	if err != nil {
		return err
	}
	if !sameType(src.Descriptor(), sf, dst.Descriptor(), df) {
		return fmt.Errorf("%s and %s differ in type", describe(src.Descriptor(), sf), describe(dst.Descriptor(), df))
	}
	// A copy by value, so that source and payload never share memory.
	var value protoreflect.Value
	if sf != nil {
		holder := parentOf(src, from)
		// A field without presence has its zero value, which one with
		// presence can tell from none.
		zero := df != nil && df.HasPresence() && !sf.HasPresence()
		if !holder.Has(sf) && !zero {
			switch {
			case df == nil:
				proto.Reset(dst.Interface())
			case parentOf(dst, to).Has(df):
				mutableParentOf(dst, to).Clear(df)
			}
			return nil
		}
		value = proto.Clone(holder.Interface()).ProtoReflect().Get(sf)
	} else {
		value = protoreflect.ValueOfMessage(proto.Clone(src.Interface()).ProtoReflect())
	}
	if df == nil {
		proto.Reset(dst.Interface())
		proto.Merge(dst.Interface(), value.Message().Interface())
		return nil
	}
	mutableParentOf(dst, to).Set(df, value)
	return nil
}

// fieldAt finds the field that a dotted path names; nil for the empty path.
func fieldAt(md protoreflect.MessageDescriptor, path string) (protoreflect.FieldDescriptor, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // no field: the message itself
	}
	var fd protoreflect.FieldDescriptor
	for name := range strings.SplitSeq(path, ".") {
		if md == nil {
			return nil, fmt.Errorf("%s is not a message, so it has no field %q", fd.Name(), name)
		}
		if fd = md.Fields().ByName(protoreflect.Name(name)); fd == nil {
			return nil, fmt.Errorf("message %s has no field %q", md.FullName(), name)
		}
		md = nil
		if fd.Kind() == protoreflect.MessageKind && !fd.IsList() && !fd.IsMap() {
			md = fd.Message()
		}
	}
	return fd, nil
}

func parentOf(m protoreflect.Message, path string) protoreflect.Message {
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		m = m.Get(m.Descriptor().Fields().ByName(protoreflect.Name(name))).Message()
	}
	return m
}

func mutableParentOf(m protoreflect.Message, path string) protoreflect.Message {
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		m = m.Mutable(m.Descriptor().Fields().ByName(protoreflect.Name(name))).Message()
	}
	return m
}

func sameType(
	srcMsg protoreflect.MessageDescriptor, src protoreflect.FieldDescriptor,
	dstMsg protoreflect.MessageDescriptor, dst protoreflect.FieldDescriptor,
) bool {
	if srcMsg == nil || dstMsg == nil {
		return false
	}
	whole := func(md protoreflect.MessageDescriptor, fd protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
		switch {
		case fd == nil:
			return md
		case fd.Kind() == protoreflect.MessageKind && !fd.IsList() && !fd.IsMap():
			return fd.Message()
		}
		return nil
	}
	a, b := whole(srcMsg, src), whole(dstMsg, dst)
	if a != nil || b != nil {
		return a != nil && b != nil && a.FullName() == b.FullName()
	}
	if src.Kind() != dst.Kind() || src.IsList() != dst.IsList() || src.IsMap() != dst.IsMap() {
		return false
	}
	switch {
	case src.IsMap():
		return src.MapKey().Kind() == dst.MapKey().Kind() && sameScalar(src.MapValue(), dst.MapValue())
	default:
		return sameScalar(src, dst)
	}
}

func sameScalar(a, b protoreflect.FieldDescriptor) bool {
	switch {
	case a.Kind() != b.Kind():
		return false
	case a.Kind() == protoreflect.EnumKind:
		return a.Enum().FullName() == b.Enum().FullName()
	case a.Kind() == protoreflect.MessageKind:
		return a.Message().FullName() == b.Message().FullName()
	}
	return true
}

func describe(md protoreflect.MessageDescriptor, fd protoreflect.FieldDescriptor) string {
	switch {
	case md == nil:
		return "an untyped result"
	case fd == nil:
		return string(md.FullName())
	}
	return string(fd.FullName())
}
