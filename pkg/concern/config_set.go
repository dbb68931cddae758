package concern

import (
	"fmt"

	"google.golang.org/protobuf/proto"
)

// ConfigSet has the instances of all config Concerns as they were at one
// moment. It is immutable.
type ConfigSet struct {
	// Version is that of the latest record that the set contains.
	Version uint64
	sets    map[string]map[string]proto.Message
}

// With returns a set in which the instances of one config Concern are replaced.
// They must not be changed afterwards.
func (s *ConfigSet) With(version uint64, concern string, instances map[string]proto.Message) *ConfigSet {
	next := &ConfigSet{Version: version, sets: map[string]map[string]proto.Message{}}
	if s != nil {
		for name, set := range s.sets {
			next.sets[name] = set
		}
	}
	next.sets[concern] = instances
	return next
}

// ConfigVersion returns the version of the configuration that the handler sees,
// 0 if there is none.
func (c Context) ConfigVersion() uint64 {
	if c.config == nil {
		return 0
	}
	return c.config.Version
}

// ConfigOf returns an instance of a config Concern, a private copy; ok is false if
// there is none.
func ConfigOf[M proto.Message](c Context, concern, key string) (m M, ok bool) {
	if c.config == nil {
		return m, false
	}
	found, ok := c.config.sets[concern][key]
	if !ok {
		return m, false
	}
	if m, ok = proto.Clone(found).(M); !ok {
		panic(fmt.Sprintf("config Concern %s has instances of type %T, not %T", concern, found, m))
	}
	return m, true
}

// ConfigDefinition describes a config Concern. The generator writes one.
type ConfigDefinition struct {
	// Name has the rules of Definition.Name.
	Name string
	// New returns an empty instance, KeyOf its key.
	New   func() proto.Message
	KeyOf func(proto.Message) string
	// Validate, where set, may refuse an instance before it is published.
	Validate func(proto.Message) error
}
