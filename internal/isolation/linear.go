package isolation

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Linear is the result of Linearizable.
type Linear struct {
	// Illegal are the instances that no order of operations explains.
	Illegal []Object
	// Undecided are those for which the time did not suffice.
	Undecided []Object
	// Objects is the number of all.
	Objects int
}

// Valid reports whether no instance was found to be wrong.
func (l Linear) Valid() bool { return len(l.Illegal) == 0 }

// String tells the result.
func (l Linear) String() string {
	return fmt.Sprintf("%d instances: %d not linearizable %v, %d undecided", l.Objects, len(l.Illegal), l.Illegal, len(l.Undecided))
}

// Linearizable looks at each instance for itself: the parts of transactions
// that touch it must have an order that agrees with the clock and explains
// every read. limit bounds the time spent on one instance.
//
// Strict serializability implies it. Where only reads tell the order of a
// register's values, it finds what Check cannot.
func Linearizable(h History, limit time.Duration) Linear {
	byObject := map[Object][]porcupine.Operation{}
	for i := range h {
		op := &h[i]
		if op.Outcome == Failed {
			continue
		}
		parts := map[Object][]access{}
		for _, s := range op.Steps {
			a := access{reads: s.Verb.reads(), list: s.Verb == Append || s.Verb == ReadList, value: s.Value}
			if a.reads {
				if op.Outcome != OK {
					continue // nobody knows what it saw
				}
				for _, v := range s.Seen {
					a.want = a.want.with(v, a.list)
				}
			}
			parts[s.Object] = append(parts[s.Object], a)
		}
		end := int64(op.Return)
		if op.Outcome == Unknown {
			end = math.MaxInt64
		}
		for o, p := range parts {
			byObject[o] = append(byObject[o], porcupine.Operation{ClientId: i, Input: p, Call: int64(op.Invoke), Return: end, Output: op.Outcome})
		}
	}
	out := Linear{Objects: len(byObject)}
	objects := slices.SortedFunc(maps.Keys(byObject), func(a, b Object) int {
		return cmp.Or(cmp.Compare(a.Concern, b.Concern), cmp.Compare(a.Key, b.Key))
	})
	for _, o := range objects {
		switch porcupine.CheckOperationsTimeout(instance, byObject[o], limit) {
		case porcupine.Illegal:
			out.Illegal = append(out.Illegal, o)
		case porcupine.Unknown:
			out.Undecided = append(out.Undecided, o)
		case porcupine.Ok:
		}
	}
	return out
}

// content is an instance: of a list the number of elements and a hash of them,
// of a register the same of its value.
type content struct {
	elements int
	hash     uint64
}

func (c content) with(v int64, list bool) content {
	if !list {
		c = content{}
	}
	// A multiplier and shifts that spread every bit (splitmix64).
	x := c.hash ^ uint64(v)*0x9e3779b97f4a7c15 + uint64(c.elements) + 1
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return content{elements: c.elements + 1, hash: x ^ x>>31}
}

// access is a step, reduced to its instance.
type access struct {
	reads, list bool
	value       int64
	want        content
}

// instance is the model of lists and registers. An operation of unknown outcome
// whose time has no end may be put behind all others, where nothing sees it.
var instance = porcupine.Model{
	Init: func() any { return content{} },
	Step: func(state, input, _ any) (bool, any) {
		now := state.(content)
		for _, a := range input.([]access) {
			if a.reads && now != a.want {
				return false, now
			}
			if !a.reads {
				now = now.with(a.value, a.list)
			}
		}
		return true, now
	},
}
