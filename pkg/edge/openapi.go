package edge

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// openapi is the merged description of what is served over HTTP.
type openapi struct {
	document []byte // nil: nothing is described
	routes   []described
}

type described struct {
	path    *regexp.Regexp
	methods []string
}

// newOpenAPI merges the documents of the services. Fields are renamed to the
// names of the .proto files, which is what bodies have.
func newOpenAPI(documents ...[]byte) (*openapi, error) {
	var merged map[string]any
	for i, d := range documents {
		if d == nil {
			continue
		}
		var doc map[string]any
		if err := json.Unmarshal(d, &doc); err != nil {
			return nil, fmt.Errorf("OpenAPI document of service %d: %w", i, err)
		}
		renameFields(doc)
		if merged == nil {
			merged = doc
			continue
		}
		if err := merge(merged, doc, "paths"); err != nil {
			return nil, fmt.Errorf("OpenAPI document of service %d: %w", i, err)
		}
		if err := merge(merged, doc, "components", "schemas"); err != nil {
			return nil, fmt.Errorf("OpenAPI document of service %d: %w", i, err)
		}
		if tags, ok := doc["tags"].([]any); ok {
			have, _ := merged["tags"].([]any)
			merged["tags"] = append(have, tags...)
		}
	}
	o := &openapi{}
	if merged == nil {
		return o, nil
	}
	var err error
	if o.document, err = json.MarshalIndent(merged, "", "  "); err != nil {
		return nil, fmt.Errorf("OpenAPI document: %w", err)
	}
	paths, _ := merged["paths"].(map[string]any)
	for path, item := range paths {
		methods, _ := item.(map[string]any)
		o.routes = append(o.routes, described{pathPattern(path), allowed(methods)})
	}
	return o, nil
}

func merge(into, from map[string]any, keys ...string) error {
	src := from
	for _, k := range keys {
		src, _ = src[k].(map[string]any)
		child, ok := into[k].(map[string]any)
		if !ok {
			child = map[string]any{}
			into[k] = child
		}
		into = child
	}
	for name, value := range src {
		if have, ok := into[name]; ok && !reflect.DeepEqual(have, value) {
			return fmt.Errorf("%s is described in another way by an earlier service", name)
		}
		into[name] = value
	}
	return nil
}

// renameFields gives the properties of messages their names in the .proto
// file.
func renameFields(doc map[string]any) {
	components, _ := doc["components"].(map[string]any)
	schemas, _ := components["schemas"].(map[string]any)
	for name, s := range schemas {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		md, ok := d.(protoreflect.MessageDescriptor)
		if err != nil || !ok {
			continue
		}
		schema, _ := s.(map[string]any)
		properties, _ := schema["properties"].(map[string]any)
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			if p, ok := properties[fd.JSONName()]; ok && fd.JSONName() != fd.TextName() {
				delete(properties, fd.JSONName())
				properties[fd.TextName()] = p
			}
		}
	}
}

var pathVariable = regexp.MustCompile(`\{[^}]*\}`)

func pathPattern(path string) *regexp.Regexp {
	var b strings.Builder
	rest := path
	for {
		at := pathVariable.FindStringIndex(rest)
		if at == nil {
			break
		}
		b.WriteString(regexp.QuoteMeta(rest[:at[0]]) + "[^/]+")
		rest = rest[at[1]:]
	}
	return regexp.MustCompile("^" + b.String() + regexp.QuoteMeta(rest) + "$")
}

func allowed(item map[string]any) []string {
	var out []string
	for _, m := range []string{http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut} {
		if _, ok := item[strings.ToLower(m)]; ok {
			out = append(out, m)
		}
	}
	return out
}

// methods returns what is served at a path, sorted.
func (o *openapi) methods(path string) []string {
	found := map[string]bool{}
	for _, r := range o.routes {
		if r.path.MatchString(path) {
			for _, m := range r.methods {
				found[m] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
