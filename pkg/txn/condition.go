package txn

import (
	"cmp"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Operator compares a field of a result with a value.
type Operator = rkcyv1.Condition_Operator

// The operators. Set and NotSet look at presence and ignore the value; a field
// without presence is set unless it is zero.
const (
	Equal          = rkcyv1.Condition_OPERATOR_EQUAL
	NotEqual       = rkcyv1.Condition_OPERATOR_NOT_EQUAL
	Less           = rkcyv1.Condition_OPERATOR_LESS
	LessOrEqual    = rkcyv1.Condition_OPERATOR_LESS_OR_EQUAL
	Greater        = rkcyv1.Condition_OPERATOR_GREATER
	GreaterOrEqual = rkcyv1.Condition_OPERATOR_GREATER_OR_EQUAL
	Set            = rkcyv1.Condition_OPERATOR_SET
	NotSet         = rkcyv1.Condition_OPERATOR_NOT_SET
)

// SkipWhen makes a step not run if the field path of an earlier step's result
// compares to value as op says. Several conditions of one step must all hold.
// value is a bool, an integer, a float, a string, a value of the field's enum, or
// nil with Set and NotSet.
// A fault is returned by Build.
func SkipWhen[A, B proto.Message](b *Builder, step *Handle[B], from *Handle[A], path string, op Operator, value any) {
	if from.of != b || step.of != b {
		b.fault("skip: a step belongs to another builder")
		return
	}
	c := &rkcyv1.Condition{FromStep: uint32(from.index), FromPath: path, Operator: op} //nolint:gosec // < MaxSteps
	switch v := value.(type) {
	case nil:
	case protoreflect.Enum:
		c.Value = strconv.Itoa(int(v.Number()))
	default:
		c.Value = fmt.Sprint(value)
	}
	src := b.results[from.index]
	if from.index >= step.index {
		b.fault("skip step %d: a condition can use results of earlier steps only", step.index)
		return
	}
	c.FromType = string(src.FullName())
	fd, err := fieldAt(src, path)
	switch {
	case err != nil:
		b.fault("skip step %d: result of step %d: %w", step.index, from.index, err)
		return
	case fd == nil:
		b.fault("skip step %d: a condition is on a field, and the path is empty", step.index)
		return
	}
	if _, err := compare(fd, fd.Default(), c); err != nil {
		b.fault("skip step %d: %w", step.index, err)
		return
	}
	b.conditions[step.index] = append(b.conditions[step.index], c)
}

// Skips reports whether a step must not run, since all its conditions hold. An
// error means that the transaction was built against other descriptors than
// the processor has.
func Skips(s *rkcyv1.Step, results []*rkcyv1.StepResult) (bool, error) {
	for _, c := range s.GetSkipWhen() {
		if int(c.GetFromStep()) >= len(results) || results[c.GetFromStep()] == nil {
			return false, fmt.Errorf("condition on step %d, which has not run", c.GetFromStep())
		}
		mt, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(c.GetFromType()))
		if err != nil {
			return false, fmt.Errorf("type %s of a condition: %w", c.GetFromType(), err)
		}
		m := mt.New()
		if err := proto.Unmarshal(results[c.GetFromStep()].GetValue(), m.Interface()); err != nil {
			return false, fmt.Errorf("result of step %d: %w", c.GetFromStep(), err)
		}
		fd, err := fieldAt(m.Descriptor(), c.GetFromPath())
		if err != nil {
			return false, err
		}
		if fd == nil {
			return false, fmt.Errorf("the path of a condition is empty")
		}
		holder := parentOf(m, c.GetFromPath())
		var holds bool
		switch c.GetOperator() {
		case Set:
			holds = holder.Has(fd)
		case NotSet:
			holds = !holder.Has(fd)
		default:
			if holds, err = compare(fd, holder.Get(fd), c); err != nil {
				return false, err
			}
		}
		if !holds {
			return false, nil
		}
	}
	return len(s.GetSkipWhen()) > 0, nil
}

// compare evaluates a condition on the value of a field.
func compare(fd protoreflect.FieldDescriptor, v protoreflect.Value, c *rkcyv1.Condition) (bool, error) {
	switch c.GetOperator() {
	case Set, NotSet:
		return false, nil // of presence, not of value
	case rkcyv1.Condition_OPERATOR_UNSPECIFIED:
		return false, fmt.Errorf("the condition on %s has no operator", fd.FullName())
	default: // of value
	}
	if fd.IsList() || fd.IsMap() {
		return false, fmt.Errorf("%s is a list or map; only Set and NotSet are possible", fd.FullName())
	}
	order, err := orderOf(fd, v, c.GetValue())
	if err != nil {
		return false, fmt.Errorf("the condition on %s compares with %q: %w", fd.FullName(), c.GetValue(), err)
	}
	switch c.GetOperator() {
	case Equal:
		return order == 0, nil
	case NotEqual:
		return order != 0, nil
	case Less:
		return order < 0, nil
	case LessOrEqual:
		return order <= 0, nil
	case Greater:
		return order > 0, nil
	case GreaterOrEqual:
		return order >= 0, nil
	default:
		return false, fmt.Errorf("operator %v is not known here", c.GetOperator())
	}
}

func orderOf(fd protoreflect.FieldDescriptor, v protoreflect.Value, text string) (int, error) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		return cmp.Compare(v.String(), text), nil
	case protoreflect.BoolKind:
		want, err := strconv.ParseBool(text)
		return cmp.Compare(number(v.Bool()), number(want)), err
	case protoreflect.EnumKind:
		want, err := strconv.ParseInt(text, 10, 32)
		return cmp.Compare(int64(v.Enum()), want), err
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind,
		protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		want, err := strconv.ParseInt(text, 10, 64)
		return cmp.Compare(v.Int(), want), err
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		want, err := strconv.ParseUint(text, 10, 64)
		return cmp.Compare(v.Uint(), want), err
	case protoreflect.FloatKind: // 0.1 is another number as a double
		want, err := strconv.ParseFloat(text, 32)
		return cmp.Compare(v.Float(), want), err
	case protoreflect.DoubleKind:
		want, err := strconv.ParseFloat(text, 64)
		return cmp.Compare(v.Float(), want), err
	default:
		return 0, fmt.Errorf("a field of kind %v has no order", fd.Kind())
	}
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
