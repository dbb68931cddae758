package configset

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/pkg/platform"
	"github.com/rocketcycle/rocketcycle/pkg/txn"
)

// Definition describes a config Concern. It has the fields of
// concern.ConfigDefinition, and is converted from one.
type Definition struct {
	Name     string
	New      func() proto.Message
	KeyOf    func(proto.Message) string
	Validate func(proto.Message) error
}

// MaxBytes is the largest set, in wire form.
const MaxBytes = 4 << 20

// check finds what is wrong with a set. at returns a fault without a message,
// that says where an instance is from.
func (d Definition) check(instances []proto.Message, at func(i int) platform.Fault) platform.Faults {
	var faults platform.Faults
	fault := func(i int, format string, args ...any) {
		f := at(i)
		f.Message = fmt.Sprintf(format, args...)
		faults = append(faults, f)
	}
	seen := map[string]int{}
	size := 0
	for i, m := range instances {
		key := d.KeyOf(m)
		size += proto.Size(m) + len(key) + 16
		first, twice := seen[key]
		switch err := txn.CheckKey(key); {
		case err != nil:
			fault(i, "%v", err)
		case twice && at(first).Line > 0:
			fault(i, "the key %q is there twice, first in line %d", key, at(first).Line)
		case twice:
			fault(i, "the key %q is there twice", key)
		default:
			seen[key] = i
		}
		if d.Validate != nil {
			if err := d.Validate(m); err != nil {
				fault(i, "%v", reason(err))
			}
		}
	}
	if size > MaxBytes {
		f := platform.Fault{Message: fmt.Sprintf("the set has some %d bytes; at most %d are allowed", size, MaxBytes)}
		if len(instances) > 0 {
			f.File = at(0).File
		}
		faults = append(faults, f)
	}
	return faults
}

// reason leaves the code out of an error: that it is refused is plain.
func reason(err error) error {
	if e, ok := errors.AsType[*txn.Error](err); ok {
		return errors.New(e.Message)
	}
	return err
}

// numbered says which instance of a list is at fault.
func numbered(i int) platform.Fault { return platform.Fault{Path: fmt.Sprintf("[%d]", i)} }
