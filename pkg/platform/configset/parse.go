package configset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"google.golang.org/protobuf/proto"

	"github.com/rocketcycle/rocketcycle/internal/yamltree"
	"github.com/rocketcycle/rocketcycle/pkg/platform"
)

// Parse reads the instances of a config Concern from a list in YAML or JSON,
// whose elements have the fields of the Concern's message as protobuf writes
// them in JSON, and checks them. file is used in messages; a name that ends in
// .json makes the syntax JSON's. The error is of type platform.Faults and has
// everything that is wrong.
func Parse(d Definition, data []byte, file string) ([]proto.Message, error) {
	p := &parser{file: file, anchors: yamltree.Anchors{}}
	instances, places := p.list(d, data)
	if instances != nil {
		p.faults = append(p.faults, d.check(instances, func(i int) platform.Fault { return places[i] })...)
	}
	if len(p.faults) > 0 {
		slices.SortStableFunc(p.faults, func(a, b platform.Fault) int { return a.Line - b.Line })
		return nil, p.faults
	}
	return instances, nil
}

// list returns the instances that could be read and where they stand; nil if
// there is no list.
func (p *parser) list(d Definition, data []byte) (instances []proto.Message, places []platform.Fault) {
	root := p.root(data)
	if root == nil {
		return nil, nil
	}
	list, ok := p.resolve(root, "").(*ast.SequenceNode)
	if !ok {
		p.fault(root, "", "%s stands where the list of all instances of %s is wanted", yamltree.KindOf(root), d.Name)
		return nil, nil
	}
	instances = []proto.Message{}
	for i, item := range list.Values {
		m, path := d.New(), fmt.Sprintf("[%d]", i)
		known := len(p.faults)
		p.object(item, m.ProtoReflect(), path)
		if len(p.faults) == known { // else its faults would lead to others
			instances, places = append(instances, m), append(places, p.at(item, path))
		}
	}
	return instances, places
}

// root returns the one document of a file.
func (p *parser) root(data []byte) ast.Node {
	if !utf8.Valid(data) {
		p.faults = append(p.faults, platform.Fault{File: p.file, Message: "the file is not valid UTF-8"})
		return nil
	}
	if strings.EqualFold(filepath.Ext(p.file), ".json") {
		if err := json.Unmarshal(data, new(json.RawMessage)); err != nil {
			f := platform.Fault{File: p.file, Message: "not valid JSON: " + err.Error()}
			if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
				f.Line = 1 + bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n"))
			}
			p.faults = append(p.faults, f)
			return nil
		}
	}
	roots, err := yamltree.Documents(data)
	if err != nil {
		f := platform.Fault{File: p.file, Message: err.Error()}
		if e, ok := errors.AsType[*yamltree.SyntaxError](err); ok {
			f.Line, f.Column = e.Line, e.Column
		}
		p.faults = append(p.faults, f)
		return nil
	}
	switch {
	case len(roots) == 0:
		p.faults = append(p.faults, platform.Fault{File: p.file, Message: "the file is empty; to remove all instances, write []"})
		return nil
	case len(roots) > 1:
		p.fault(roots[1], "", "a second document starts here; all instances are one list")
	}
	return roots[0]
}
