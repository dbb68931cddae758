package isolation

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Object is an instance of a Concern.
type Object struct {
	Concern string `json:"concern"`
	Key     string `json:"key"`
}

// String returns concern/key.
func (o Object) String() string { return o.Concern + "/" + o.Key }

// Verb is what a step does to its object. An object is a list or a register,
// never both.
type Verb uint8

// The verbs.
const (
	// Append adds Value to the end of a list.
	Append Verb = iota
	// ReadList sees all elements of a list.
	ReadList
	// Write puts Value into a register.
	Write
	// ReadRegister sees the value of a register, or none.
	ReadRegister
)

func (v Verb) reads() bool { return v == ReadList || v == ReadRegister }

// Step is one access of a transaction to one object.
type Step struct {
	Verb   Verb   `json:"verb"`
	Object Object `json:"object"`
	// Value of Append and Write. No two steps of a history put the same value
	// into the same object.
	Value int64 `json:"value,omitempty"`
	// Seen is what a read of an operation that is OK saw: the list, or the
	// value of the register, empty for none.
	Seen []int64 `json:"seen,omitempty"`
}

// String returns the step as it stands in reports.
func (s Step) String() string {
	switch s.Verb {
	case Append:
		return fmt.Sprintf("append %d to %v", s.Value, s.Object)
	case Write:
		return fmt.Sprintf("write %d to %v", s.Value, s.Object)
	default:
		return fmt.Sprintf("read %v: %s", s.Object, values(s.Seen))
	}
}

// values writes a list; of a long one the end, where things happen.
func values(list []int64) string {
	const most = 12
	text := strings.Trim(fmt.Sprint(list[max(0, len(list)-most):]), "[]")
	if len(list) > most {
		text = fmt.Sprintf("… %s; %d elements", text, len(list))
	}
	return "[" + text + "]"
}

// Outcome is how an operation ended.
type Outcome uint8

// The outcomes.
const (
	// OK: it took effect, once.
	OK Outcome = iota
	// Failed: it had no effect, and never will.
	Failed
	// Unknown: it may have taken effect, or may still do so.
	Unknown
)

// String returns the outcome in a word.
func (o Outcome) String() string { return [...]string{"ok", "failed", "unknown"}[o] }

// Operation is one transaction as its client knows it.
type Operation struct {
	Client int `json:"client"`
	// Invoke and Return are times of one monotonic clock, before the request
	// was sent and after the answer had come. Return means nothing if the
	// outcome is unknown.
	Invoke  time.Duration `json:"invoke"`
	Return  time.Duration `json:"return"`
	Outcome Outcome       `json:"outcome"`
	// Steps in order. The steps on one object take effect in this order.
	Steps []Step `json:"steps"`
}

// String returns the operation as it stands in reports.
func (o Operation) String() string {
	steps := make([]string, len(o.Steps))
	for i, s := range o.Steps {
		steps[i] = s.String()
		if s.Verb.reads() && o.Outcome != OK {
			steps[i] = fmt.Sprintf("read %v", s.Object)
		}
	}
	until := o.Return.String()
	if o.Outcome == Unknown {
		until = "?"
	}
	return fmt.Sprintf("client %d, %v to %s, %v: %s", o.Client, o.Invoke, until, o.Outcome, strings.Join(steps, ", "))
}

// History is what all clients recorded, in any order.
type History []Operation

// Count returns the number of operations with an outcome.
func (h History) Count(o Outcome) int {
	n := 0
	for i := range h {
		if h[i].Outcome == o {
			n++
		}
	}
	return n
}

// Write writes the history, one JSON object a line.
func (h History) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	for i := range h {
		if err := e.Encode(h[i]); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	return nil
}

// ReadHistory reads what Write wrote.
func ReadHistory(r io.Reader) (History, error) {
	var h History
	for d := json.NewDecoder(r); ; {
		var o Operation
		err := d.Decode(&o)
		if err == io.EOF { //nolint:errorlint // returned as it is
			return h, nil
		}
		if err != nil {
			return nil, fmt.Errorf("history, operation %d: %w", len(h), err)
		}
		h = append(h, o)
	}
}
