package configset

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rocketcycle/rocketcycle/internal/suggest"
	"github.com/rocketcycle/rocketcycle/internal/yamltree"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
)

// parser turns a syntax tree into messages. protojson alone would stop at the
// first fault, and not know its line; it gets one value after the other.
type parser struct {
	file    string
	anchors yamltree.Anchors
	depth   int
	looks   int // how often a node was looked at
	faults  platform.Faults
}

// maxLooks bounds the work: with aliases of aliases a short file can be a huge
// set.
const maxLooks = 2_000_000

func (p *parser) at(n ast.Node, path string) platform.Fault {
	f := platform.Fault{File: p.file, Path: path}
	if at, ok := yamltree.PlaceOf(n); ok {
		f.Line, f.Column = at.Line, at.Column
	}
	return f
}

func (p *parser) fault(n ast.Node, path, format string, args ...any) {
	f := p.at(n, path)
	f.Message = fmt.Sprintf(format, args...)
	p.faults = append(p.faults, f)
}

// resolve returns the node that holds a value; nil after a fault.
func (p *parser) resolve(n ast.Node, path string) ast.Node {
	if p.looks++; p.looks >= maxLooks {
		if p.looks == maxLooks {
			p.fault(n, path, "with its aliases the file is too large")
		}
		return nil
	}
	node, err := p.anchors.Resolve(n)
	if err != nil {
		p.fault(n, path, "%s", err)
	}
	return node
}

// object fills a message with the fields that a mapping has.
func (p *parser) object(n ast.Node, m protoreflect.Message, path string) {
	if p.depth++; p.depth > yamltree.MaxNesting {
		p.fault(n, path, "nested too deep")
		return
	}
	defer func() { p.depth-- }()
	node := p.resolve(n, path)
	if node == nil {
		return
	}
	entries, ok := yamltree.Entries(node)
	if !ok {
		p.fault(n, path, "%s stands where the fields %s are wanted", yamltree.KindOf(node), strings.Join(fieldNames(m.Descriptor()), ", "))
		return
	}
	seen := map[protoreflect.FullName]string{}
	for _, e := range entries {
		name := e.Key.GetToken().Value
		at := path + "." + name
		fd := m.Descriptor().Fields().ByTextName(name)
		if fd == nil {
			fd = m.Descriptor().Fields().ByJSONName(name)
		}
		if fd == nil {
			names := fieldNames(m.Descriptor())
			p.fault(e.Key, at, "there is no such field%s; allowed are %s", suggest.Hint(name, names), strings.Join(names, ", "))
			continue
		}
		slot := fd.FullName()
		if one := fd.ContainingOneof(); one != nil {
			slot = one.FullName()
		}
		if other, twice := seen[slot]; twice {
			p.fault(e.Key, at, "it takes the place of %s, which is there already", other)
			continue
		}
		seen[slot] = name
		p.field(e.Value, m, fd, at)
	}
}

// field sets one field to the value of a node.
func (p *parser) field(n ast.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor, path string) {
	node := p.resolve(n, path)
	if node == nil || node.Type() == ast.NullType {
		return // as if it were not there
	}
	switch {
	case fd.IsMap():
		entries, ok := yamltree.Entries(node)
		if !ok {
			p.fault(n, path, "%s stands where a set of names and values is wanted", yamltree.KindOf(node))
			return
		}
		for _, e := range entries {
			key := e.Key.GetToken().Value
			value, err := p.plain(e.Value, 0)
			p.set(e.Key, m, fd, map[string]any{key: value}, err, path+"."+key)
		}
	case fd.IsList():
		list, ok := node.(*ast.SequenceNode)
		if !ok {
			p.fault(n, path, "%s stands where a list is wanted", yamltree.KindOf(node))
			return
		}
		for i, item := range list.Values {
			at := fmt.Sprintf("%s[%d]", path, i)
			if nested(fd) {
				p.object(item, m.Mutable(fd).List().AppendMutable().Message(), at)
				continue
			}
			value, err := p.plain(item, 0)
			p.set(item, m, fd, []any{value}, err, at)
		}
	case nested(fd):
		p.object(n, m.Mutable(fd).Message(), path)
	default:
		value, err := p.plain(n, 0)
		p.set(n, m, fd, value, err, path)
	}
}

// nested says whether a field is a message that is written as its fields.
func nested(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && !strings.HasPrefix(string(fd.Message().FullName()), "google.protobuf.")
}

var protojsonPrefix = regexp.MustCompile(`^proto:[\s\x{a0}]*(syntax error )?(\(line \d+:\d+\):[\s\x{a0}]*)?`)

// set adds to a message what protojson makes of one value.
func (p *parser) set(n ast.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor, value any, err error, path string) {
	one := m.New().Interface()
	var raw []byte
	if err == nil {
		raw, err = json.Marshal(map[string]any{fd.TextName(): value})
	}
	if err == nil {
		err = protojson.Unmarshal(raw, one)
	}
	if err != nil {
		p.fault(n, path, "%s", protojsonPrefix.ReplaceAllString(err.Error(), ""))
		return
	}
	proto.Merge(m.Interface(), one)
}

// plain returns the value of a node as encoding/json takes it.
func (p *parser) plain(n ast.Node, depth int) (any, error) {
	if depth > yamltree.MaxNesting {
		return nil, errors.New("nested too deep")
	}
	switch node := p.resolve(n, "").(type) {
	case nil:
		return nil, errors.New("the value cannot be read")
	case *ast.NullNode:
		return nil, nil //nolint:nilnil // null is a value
	case *ast.StringNode:
		return node.Value, nil
	case *ast.LiteralNode:
		return node.Value.Value, nil
	case *ast.BoolNode:
		return node.Value, nil
	case *ast.IntegerNode:
		return node.Value, nil
	case *ast.FloatNode:
		return node.Value, nil
	case *ast.NanNode:
		return "NaN", nil
	case *ast.InfinityNode:
		if math.IsInf(node.Value, -1) {
			return "-Infinity", nil
		}
		return "Infinity", nil
	case *ast.SequenceNode:
		list := make([]any, len(node.Values))
		for i, item := range node.Values {
			var err error
			if list[i], err = p.plain(item, depth+1); err != nil {
				return nil, err
			}
		}
		return list, nil
	default:
		entries, ok := yamltree.Entries(node)
		if !ok {
			return nil, fmt.Errorf("%s stands where a value is wanted", yamltree.KindOf(node))
		}
		object := map[string]any{}
		for _, e := range entries {
			value, err := p.plain(e.Value, depth+1)
			if err != nil {
				return nil, err
			}
			object[e.Key.GetToken().Value] = value
		}
		return object, nil
	}
}

func fieldNames(d protoreflect.MessageDescriptor) []string {
	names := make([]string, d.Fields().Len())
	for i := range names {
		names[i] = d.Fields().Get(i).TextName()
	}
	return names
}
