package platform

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rocketcycle/rocketcycle/internal/yamltree"
)

// Fault is one thing that is wrong with a platform file.
type Fault struct {
	// File is the name given to Parse. Line and Column count from 1; 0 if the
	// configuration was not read from a file.
	File         string
	Line, Column int
	// Path names the field, e.g. "concerns[1].partitions"; empty for the file
	// as a whole.
	Path string
	// Message says what is wrong and what is allowed.
	Message string
}

// String returns "file:line: path: message", without what is not known.
func (f Fault) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File + ":")
	}
	if f.Line > 0 {
		fmt.Fprintf(&b, "%d:", f.Line)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Faults is everything that is wrong with a configuration, in order of line.
// It is the error type of Parse and Validate.
type Faults []Fault

// Error returns one line per fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, one := range f {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

func (f Faults) orNil() error {
	if len(f) == 0 {
		return nil
	}
	slices.SortStableFunc(f, func(a, b Fault) int { return a.Line - b.Line })
	return f
}

// source remembers where in a file the fields stand.
type source struct {
	file string
	at   map[string]yamltree.Place
}

// fault makes a Fault; a field that is missing gets the place of what it is
// missing in.
func (s *source) fault(path, format string, args ...any) Fault {
	f := Fault{Path: path, Message: fmt.Sprintf(format, args...)}
	if s == nil {
		return f
	}
	f.File = s.file
	for p := path; ; {
		if at, ok := s.at[p]; ok {
			if at == (yamltree.Place{}) {
				f.File = ""
			}
			f.Line, f.Column = at.Line, at.Column
			return f
		}
		i := strings.LastIndexAny(p, ".[")
		if i < 0 {
			return f
		}
		p = p[:i]
	}
}

// outside returns the source without the place of a field whose value came
// from somewhere else.
func (s *source) outside(path string) *source {
	if s == nil {
		return nil
	}
	c := &source{file: s.file, at: maps.Clone(s.at)}
	c.at[path] = yamltree.Place{}
	return c
}
