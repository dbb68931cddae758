package codegen

import (
	"strconv"
	"strings"
)

// derived prints what follows from a change of an instance: what parents are
// told, and which values are taken.
func (p *goPrinter) derived() {
	if len(p.relations) > 0 {
		p.P("Relations: []", concernPackage.Ident("Relation"), "{")
		for _, r := range p.relations {
			var numbers []string
			for _, f := range r.copies {
				numbers = append(numbers, strconv.Itoa(int(f.Desc.Number())))
			}
			p.P("{")
			p.P("Field: ", strconv.Quote(string(r.field.Desc.Name())), ",")
			p.P("Parent: ", r.parent.message.GoIdent.GoName, "Concern,")
			p.P("ParentKey: func(m ", p.message, ") string { return m.(*", p.typ, ").Get", r.field.GoName, "() },")
			p.P("Copy: func(m ", p.message, ") ", p.message, " { return ", handlerPackage.Ident("Copy"), "(m, ", strings.Join(numbers, ", "), ") },")
			p.P("},")
		}
		p.P("},")
	}
	if len(p.unique) > 0 {
		p.P("Unique: []", concernPackage.Ident("Unique"), "{")
		for _, u := range p.unique {
			p.P("{")
			p.P("Field: ", strconv.Quote(string(u.field.Desc.Name())), ",")
			p.P("Index: ", strconv.Quote(u.index), ",")
			p.P("Value: func(m ", p.message, ") string { return m.(*", p.typ, ").Get", u.field.GoName, "() },")
			p.P("},")
		}
		p.P("},")
	}
}

// childrenOf prints what finds the children of an instance.
func (p *goPrinter) childrenOf() {
	for _, child := range p.children {
		typ, name := child.message.GoIdent.GoName, p.childrenName(child)
		var seen []string
		for _, r := range child.relations {
			if r.parent == p.concernModel {
				for _, f := range r.copies {
					seen = append(seen, string(f.Desc.Name()))
				}
			}
		}
		p.doc(name+" returns every "+typ+" that refers to the "+p.typ+" whose handler got ctx, in order of key. Of", "")
		p.P("// each it has ", list(seen), ".")
		p.P("func ", name, "(ctx ", p.context, ") ([]*", typ, ", error) {")
		p.P("return ", concernPackage.Ident("Related"), "(ctx, ", typ, "Concern, func() *", typ, " { return new(", typ, ") })")
		p.P("}")
	}
}

// list puts words into a sentence.
func list(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
	return strings.Join(words, "") + " only"
}

// config prints all that there is of a config Concern.
func (p *goPrinter) config() {
	t := p.typ
	definition := p.QualifiedGoIdent(concernPackage.Ident("ConfigDefinition"))
	p.doc("New"+t+"Config makes the definition of the config Concern. validate, where it is not nil, may refuse", "")
	p.P("// an instance before it is published.")
	p.P("func New", t, "Config(validate func(*", t, ") error) ", definition, " {")
	p.P("d := ", definition, "{")
	p.P("Name: ", t, "Concern,")
	p.P("New: func() ", p.message, " { return new(", t, ") },")
	p.P("KeyOf: func(m ", p.message, ") string { return m.(*", t, ").Get", p.key.GoName, "() },")
	p.P("}")
	p.P("if validate != nil {")
	p.P("d.Validate = func(m ", p.message, ") error { return validate(m.(*", t, ")) }")
	p.P("}")
	p.P("return d")
	p.P("}")
	p.doc(t+"Of returns the "+t+" with the given "+string(p.key.Desc.Name())+", as published when the batch of the handler that", "")
	p.P("// got ctx began; ok is false if there is none.")
	p.P("func ", t, "Of(ctx ", p.context, ", id string) (found *", t, ", ok bool) {")
	p.P("return ", concernPackage.Ident("ConfigOf"), "[*", t, "](ctx, ", t, "Concern, id)")
	p.P("}")
}
