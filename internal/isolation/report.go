package isolation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind names an anomaly.
type Kind string

// The kinds that are no circles.
const (
	// Internal: a transaction did not see its own writes, or saw two versions
	// of one object.
	Internal Kind = "internal"
	// Garbage: a read saw what nobody wrote.
	Garbage Kind = "garbage-read"
	// Duplicate: a list has an element twice.
	Duplicate Kind = "duplicate"
	// Incompatible: two reads of a list do not agree on its order.
	Incompatible Kind = "incompatible-order"
	// G1a, aborted read: a read saw what a failed transaction wrote.
	G1a Kind = "G1a"
	// G1b, intermediate read: a read saw what a transaction wrote before the
	// last of its writes to that object.
	G1b Kind = "G1b"
	// LostUpdate: two transactions saw the same version of an object and both
	// wrote the next one.
	LostUpdate Kind = "lost-update"
	// LostWrite: an acknowledged append is in no read that began afterwards.
	LostWrite Kind = "lost-write"
)

// The kinds of circles. Each may have Realtime behind it.
const (
	// G0: a circle of ww.
	G0 Kind = "G0"
	// G1c: a circle of ww and wr.
	G1c Kind = "G1c"
	// GSingle: a circle with one rw.
	GSingle Kind = "G-single"
	// G2: a circle with several rw.
	G2 Kind = "G2-item"
	// Realtime is the ending of a circle that needs rt.
	Realtime Kind = "-realtime"
)

// Edge is one link of a circle.
type Edge struct {
	// From and To are indices of operations.
	From, To int
	// Type is ww, wr, rw or rt.
	Type string
	// Object and Value say by what it is known; not for rt.
	Object Object
	Value  int64
}

// String returns the reason for the edge.
func (e Edge) String() string {
	var why string
	switch e.Type {
	case "ww":
		why = fmt.Sprintf("T%d put %d into %v, after T%d's write", e.To, e.Value, e.Object, e.From)
	case "wr":
		why = fmt.Sprintf("T%d saw %d in %v, which T%d put there", e.To, e.Value, e.Object, e.From)
	case "rw":
		why = fmt.Sprintf("T%d did not see %d in %v, which T%d put there", e.From, e.Value, e.Object, e.To)
	default:
		why = fmt.Sprintf("T%d had ended before T%d began", e.From, e.To)
	}
	return fmt.Sprintf("T%d -%s-> T%d: %s", e.From, e.Type, e.To, why)
}

// Anomaly is something that no order of the transactions explains.
type Anomaly struct {
	Kind Kind
	// Operations are the indices of those that take part.
	Operations []int
	// Text says what is wrong; empty if Cycle does.
	Text  string
	Cycle []Edge
}

// Report is the result of Check.
type Report struct {
	history History
	// Anomalies found: of each kind a few.
	Anomalies []Anomaly
	// More counts, by kind, those that were found and are not listed.
	More map[Kind]int
	// OK, Failed and Unknown count operations; Observed are those of unknown
	// outcome whose writes were seen.
	OK, Failed, Unknown, Observed int
	// Objects is the number of instances, Edges that of known dependencies
	// without rt.
	Objects, Edges int
}

// most is how many anomalies of a kind are listed.
const most = 4

// Valid reports whether no anomaly was found.
func (r *Report) Valid() bool { return len(r.Anomalies) == 0 }

// Kinds returns the kinds that were found, sorted.
func (r *Report) Kinds() []Kind {
	found := map[Kind]bool{}
	for _, a := range r.Anomalies {
		found[a.Kind] = true
	}
	return slices.Sorted(maps.Keys(found))
}

func (r *Report) add(a Anomaly) {
	listed := 0
	for _, o := range r.Anomalies {
		if o.Kind == a.Kind {
			listed++
		}
	}
	if listed == most {
		r.More[a.Kind]++
		return
	}
	r.Anomalies = append(r.Anomalies, a)
}

// String tells everything, anomalies with their operations.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d operations ok, %d failed, %d of unknown outcome (%d of them seen); %d instances, %d dependencies: ",
		r.OK, r.Failed, r.Unknown, r.Observed, r.Objects, r.Edges)
	if r.Valid() {
		b.WriteString("strictly serializable")
		return b.String()
	}
	b.WriteString("NOT strictly serializable")
	for _, a := range r.Anomalies {
		fmt.Fprintf(&b, "\n\n%s", a.Kind)
		if a.Text != "" {
			fmt.Fprintf(&b, ": %s", a.Text)
		}
		for _, i := range a.Operations {
			fmt.Fprintf(&b, "\n  T%d %v", i, r.history[i])
		}
		for _, e := range a.Cycle {
			fmt.Fprintf(&b, "\n  %v", e)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(r.More)) {
		fmt.Fprintf(&b, "\n\nand %d more of %s", r.More[k], k)
	}
	return b.String()
}
