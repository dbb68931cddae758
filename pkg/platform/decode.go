package platform

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
	"github.com/rocketcycle/rocketcycle/internal/yamltree"
)

// decoder turns a syntax tree into a Config. The library's own decoder stops
// at the first fault; a person who edits a file wants to see all of them.
type decoder struct {
	source  *source
	anchors yamltree.Anchors
	depth   int
	faults  Faults
}

// decode fills cfg from YAML, of which JSON is a part.
func decode(data []byte, file string, cfg *Config) Faults {
	d := &decoder{source: &source{file: file, at: map[string]yamltree.Place{}}, anchors: yamltree.Anchors{}}
	roots, err := yamltree.Documents(data)
	if err != nil {
		f := Fault{File: file, Message: err.Error()}
		if e, ok := errors.AsType[*yamltree.SyntaxError](err); ok {
			f.Line, f.Column = e.Line, e.Column
		}
		return Faults{f}
	}
	cfg.source = d.source
	switch len(roots) {
	case 0:
		return Faults{d.source.fault("", "the file is empty; at least name and concerns are needed")}
	case 1:
	default:
		d.fault(roots[1], "", "a second document starts here; a platform file has one")
	}
	d.value(roots[0], reflect.ValueOf(cfg).Elem(), "")
	return d.faults
}

func (d *decoder) fault(n ast.Node, path, format string, args ...any) {
	f := Fault{File: d.source.file, Path: path, Message: fmt.Sprintf(format, args...)}
	if at, ok := yamltree.PlaceOf(n); ok {
		f.Line, f.Column = at.Line, at.Column
	}
	d.faults = append(d.faults, f)
}

// resolve returns the node that holds a value; nil after a fault.
func (d *decoder) resolve(n ast.Node, path string) ast.Node {
	node, err := d.anchors.Resolve(n)
	if err != nil {
		d.fault(n, path, "%s", err)
	}
	return node
}

func (d *decoder) value(n ast.Node, v reflect.Value, path string) {
	if at, ok := yamltree.PlaceOf(n); ok {
		if _, known := d.source.at[path]; !known {
			d.source.at[path] = at
		}
	}
	if d.depth++; d.depth > yamltree.MaxNesting {
		d.fault(n, path, "nested too deep")
		return
	}
	defer func() { d.depth-- }()
	if n = d.resolve(n, path); n == nil || n.Type() == ast.NullType {
		return // as if it were not there
	}
	switch v.Kind() {
	case reflect.Struct:
		d.object(n, v, path)
	case reflect.Map:
		d.dictionary(n, v, path)
	case reflect.Slice:
		list, ok := n.(*ast.SequenceNode)
		if !ok {
			d.fault(n, path, "%s stands where a list is wanted", yamltree.KindOf(n))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(list.Values), len(list.Values)))
		for i, item := range list.Values {
			d.value(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) object(n ast.Node, v reflect.Value, path string) {
	list, ok := yamltree.Entries(n)
	if !ok {
		d.fault(n, path, "%s stands where the fields %s are wanted", yamltree.KindOf(n), strings.Join(fieldNames(v.Type()), ", "))
		return
	}
	for _, e := range list {
		name := e.Key.GetToken().Value
		at := name
		if path != "" {
			at = path + "." + name
		}
		i := fieldIndex(v.Type(), name)
		if i < 0 {
			names := fieldNames(v.Type())
			d.fault(e.Key, at, "there is no such field%s; allowed are %s", suggest.Hint(name, names), strings.Join(names, ", "))
			continue
		}
		d.source.at[at], _ = yamltree.PlaceOf(e.Key)
		d.value(e.Value, v.Field(i), at)
	}
}

func (d *decoder) dictionary(n ast.Node, v reflect.Value, path string) {
	list, ok := yamltree.Entries(n)
	if !ok {
		d.fault(n, path, "%s stands where settings (name: value) are wanted", yamltree.KindOf(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range list {
		name := e.Key.GetToken().Value
		at := path + "." + name
		d.source.at[at], _ = yamltree.PlaceOf(e.Key)
		text, ok := d.text(e.Value, at)
		if !ok {
			continue
		}
		v.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(text))
	}
}

// text returns any scalar as it is written.
func (d *decoder) text(n ast.Node, path string) (string, bool) {
	switch s := d.resolve(n, path).(type) {
	case nil:
		return "", false
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return s.GetToken().Value, true
	default:
		d.fault(n, path, "%s stands where a value is wanted", yamltree.KindOf(s))
		return "", false
	}
}

func (d *decoder) scalar(n ast.Node, v reflect.Value, path string) {
	text, ok := d.text(n, path)
	if !ok {
		return
	}
	var err error
	switch target := v.Addr().Interface().(type) {
	case *string:
		if kind := yamltree.KindOf(n); kind != "text" {
			err = fmt.Errorf("%s is %s where text is wanted; put it in quotes if it is meant", text, kind)
		}
		*target = text
	case *Duration:
		*target, err = ParseDuration(text)
	case *Size:
		*target, err = ParseSize(text)
	case *bool:
		if *target, err = strconv.ParseBool(text); err != nil || n.Type() != ast.BoolType {
			err = fmt.Errorf("%q is neither true nor false", text)
		}
	case *int:
		var number int64
		if number, err = strconv.ParseInt(text, 0, 32); err != nil || n.Type() != ast.IntegerType {
			err = fmt.Errorf("%q is not a whole number of a sensible size", text)
		}
		*target = int(number)
	default:
		err = fmt.Errorf("fields of type %T are not supported", target)
	}
	if err != nil {
		d.fault(n, path, "%s", err)
	}
}

func fieldIndex(t reflect.Type, name string) int {
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("yaml"); tag != "" && tag == name {
			return i
		}
	}
	return -1
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("yaml"); tag != "" {
			names = append(names, tag)
		}
	}
	return names
}
