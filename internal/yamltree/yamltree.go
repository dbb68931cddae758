// Package yamltree looks at the syntax trees of YAML files, of which JSON is a
// part, for readers that report every fault of a file with its place. The
// library's own decoder stops at the first.
package yamltree

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxNesting bounds how deep aliases and nesting may go.
const MaxNesting = 64

// Place is where something stands; the zero value says that it is not known.
type Place struct{ Line, Column int }

// SyntaxError is what makes a file no YAML.
type SyntaxError struct {
	Place
	Message string
}

func (e *SyntaxError) Error() string { return e.Message }

// Documents returns the documents of a file that are not empty. The error is a
// SyntaxError.
func Documents(data []byte) ([]ast.Node, error) {
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		e := &SyntaxError{Message: err.Error()}
		if y, ok := errors.AsType[yaml.Error](err); ok {
			e.Message = y.GetMessage()
			if t := y.GetToken(); t != nil && t.Position != nil {
				e.Place = Place{t.Position.Line, t.Position.Column}
			}
		}
		return nil, e
	}
	var roots []ast.Node
	for _, doc := range tree.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			roots = append(roots, doc.Body)
		}
	}
	return roots, nil
}

// PlaceOf returns where a node begins: that of a mapping is its first name.
func PlaceOf(n ast.Node) (Place, bool) {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		n = m.Values[0].Key
	}
	if v, ok := n.(*ast.MappingValueNode); ok {
		n = v.Key
	}
	t := n.GetToken()
	if t == nil || t.Position == nil {
		return Place{}, false
	}
	return Place{t.Position.Line, t.Position.Column}, true
}

// Entries returns the names and values of a mapping.
func Entries(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch m := n.(type) {
	case *ast.MappingNode:
		return m.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{m}, true
	}
	return nil, false
}

// KindOf says in a person's words what a node is.
func KindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.NullNode:
		return "nothing"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a set of fields"
	}
	return "a " + strings.ToLower(n.Type().String())
}

// Anchors are those that the reader of a file has come by.
type Anchors map[string]ast.Node

// Resolve follows anchors, aliases and tags to the node that holds a value.
func (a Anchors) Resolve(n ast.Node) (ast.Node, error) {
	for range MaxNesting {
		switch node := n.(type) {
		case *ast.AnchorNode:
			a[node.Name.GetToken().Value] = node.Value
			n = node.Value
		case *ast.AliasNode:
			name := node.Value.GetToken().Value
			target, ok := a[name]
			if !ok {
				return nil, fmt.Errorf("alias *%s has no anchor before it", name)
			}
			n = target
		case *ast.TagNode:
			n = node.Value
		default:
			return n, nil
		}
	}
	return nil, errors.New("aliases go in circles")
}
