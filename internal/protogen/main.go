// Command protogen compiles the repository's .proto files and runs the code
// generators over them. It replaces protoc: the compiler is a Go library and
// every plugin is a tool pinned in tools/go.mod (or a program of this module),
// so nothing has to be installed by hand.
//
//	go run ./internal/protogen -I DIR [-I DIR] -plugin NAME=PATH[,opt][:OUT] file.proto ...
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bufbuild/protocompile"
	_ "google.golang.org/genproto/googleapis/api/annotations" // google/api/*.proto
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	var includes, plugins list
	flag.Var(&includes, "I", "folder to search for imports (repeatable)")
	flag.Var(&plugins, "plugin", "PROGRAM:OUTDIR[:PARAMETER], a protoc plugin to run (repeatable)")
	flag.Parse()
	if err := run(includes, plugins, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(includes, plugins, files []string) error {
	if len(files) == 0 {
		return errors.New("no .proto file named")
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.CompositeResolver{
			&protocompile.SourceResolver{ImportPaths: includes},
			protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
				desc, err := protoregistry.GlobalFiles.FindFileByPath(path)
				if err != nil {
					return protocompile.SearchResult{}, err
				}
				return protocompile.SearchResult{Desc: desc}, nil
			}),
		},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(context.Background(), files...)
	if err != nil {
		return err
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: files}
	seen := map[string]bool{}
	var add func(fd protoreflect.FileDescriptor) error
	add = func(fd protoreflect.FileDescriptor) error {
		if seen[fd.Path()] {
			return nil
		}
		seen[fd.Path()] = true
		for i := range fd.Imports().Len() {
			if err := add(fd.Imports().Get(i).FileDescriptor); err != nil {
				return err
			}
		}
		// A round trip through the wire makes the options' extensions concrete.
		raw, err := proto.Marshal(protodesc.ToFileDescriptorProto(fd))
		if err != nil {
			return err
		}
		fdp := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(raw, fdp); err != nil {
			return err
		}
		request.ProtoFile = append(request.ProtoFile, fdp)
		return nil
	}
	for _, fd := range compiled {
		if err := add(fd); err != nil {
			return err
		}
	}
	for _, plugin := range plugins {
		if err := runPlugin(plugin, request); err != nil {
			return err
		}
	}
	return nil
}

func runPlugin(spec string, request *pluginpb.CodeGeneratorRequest) error {
	parts := strings.SplitN(spec, ":", 3)
	if len(parts) < 2 {
		return fmt.Errorf("plugin %q: want PROGRAM:OUTDIR[:PARAMETER]", spec)
	}
	request = proto.CloneOf(request)
	if len(parts) == 3 {
		request.Parameter = proto.String(parts[2])
	}
	input, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	cmd := exec.Command(parts[0]) //nolint:gosec // the build names its own plugins
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("plugin %s: %w", parts[0], err)
	}
	response := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(output, response); err != nil {
		return fmt.Errorf("plugin %s: %w", parts[0], err)
	}
	if response.Error != nil {
		return fmt.Errorf("plugin %s: %s", parts[0], response.GetError())
	}
	for _, file := range response.GetFile() {
		path := filepath.Join(parts[1], filepath.FromSlash(file.GetName()))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // source folders
			return err
		}
		if err := os.WriteFile(path, []byte(file.GetContent()), 0o644); err != nil { //nolint:gosec // source files
			return err
		}
	}
	return nil
}
