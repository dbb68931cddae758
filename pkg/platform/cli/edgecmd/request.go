package edgecmd

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// newRequest builds the request of a method from field=value arguments. The
// error has every fault.
func newRequest(method protoreflect.MethodDescriptor, args []string) (proto.Message, error) {
	request := dynamicpb.NewMessage(method.Input())
	s := newSetter(request)
	var faults []error
	for _, arg := range args {
		if err := s.argument(arg); err != nil {
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	fillMask(method, s)
	return request, nil
}

var maskName = (*fieldmaskpb.FieldMask)(nil).ProtoReflect().Descriptor().FullName()

// fillMask names the fields that were given in the request's update mask,
// unless the mask was given, too. What identifies the instance is not part of
// what is updated.
func fillMask(method protoreflect.MethodDescriptor, s *setter) {
	var mask, resource protoreflect.FieldDescriptor
	fields := method.Input().Fields()
	for i := range fields.Len() {
		switch fd := fields.Get(i); {
		case fd.IsList() || fd.IsMap() || fd.Message() == nil:
		case fd.Message().FullName() == maskName:
			mask = fd
		case resource == nil:
			resource = fd
		default:
			return // it is not clear what the mask is about
		}
	}
	if mask == nil || resource == nil || s.request.Has(mask) {
		return
	}
	keys := pathVariables(method)
	var paths []string
	for _, p := range s.given {
		if p.fields[0] != resource || len(p.fields) == 1 || slices.Contains(keys, p.String()) {
			continue
		}
		path := fieldPath{fields: p.fields[1:]}.String() // a map is replaced as a whole
		if !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return
	}
	list := s.request.Mutable(mask).Message().Mutable(mask.Message().Fields().ByName("paths")).List()
	for _, path := range paths {
		list.Append(protoreflect.ValueOfString(path))
	}
}

var variable = regexp.MustCompile(`\{([^}=]+)`)

// pathVariables returns the fields that are part of the HTTP path of a method:
// they say which instance is meant.
func pathVariables(method protoreflect.MethodDescriptor) []string {
	rule, ok := proto.GetExtension(method.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return nil
	}
	template := strings.Join([]string{rule.GetGet(), rule.GetPut(), rule.GetPost(), rule.GetDelete(), rule.GetPatch()}, " ")
	var names []string
	for _, m := range variable.FindAllStringSubmatch(template, -1) {
		names = append(names, strings.TrimSpace(m[1]))
	}
	return names
}
