// Package compile turns .proto files into generated files without protoc: the
// compiler is a library, and a generator is a program that speaks the plugin
// protocol or a function of this process.
//
//	request, err := compile.Compile(ctx, []string{"proto"}, "shop/v1/model.proto")
//	files, err := compile.Program("build/tools/protoc-gen-go")(ctx, request)
//	err = compile.Write("proto", files)
package compile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	_ "google.golang.org/genproto/googleapis/api/annotations" // google/api/*.proto
	_ "google.golang.org/genproto/googleapis/rpc/status"      // google/rpc/status.proto
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	_ "github.com/rocketcycle/rocketcycle/proto/rkcy/edge/v1" // rkcy/edge/v1/*.proto
	rkcyv1 "github.com/rocketcycle/rocketcycle/proto/rkcy/v1"
)

// Compile reads files, named relative to one of the folders, with all that they
// import. What no folder has is looked for among the files that are linked into
// this program: google/protobuf, google/api, google/rpc/status, rkcy/v1
// and rkcy/edge/v1.
func Compile(ctx context.Context, folders []string, files ...string) (*pluginpb.CodeGeneratorRequest, error) {
	if len(files) == 0 {
		return nil, errors.New("compile: no .proto file named")
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.CompositeResolver{
			&protocompile.SourceResolver{ImportPaths: folders},
			protocompile.ResolverFunc(linked),
		},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(ctx, files...)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: files}
	seen := map[string]bool{}
	for _, fd := range compiled {
		if err := add(request, seen, fd); err != nil {
			return nil, fmt.Errorf("compile: %s: %w", fd.Path(), err)
		}
	}
	return request, nil
}

func linked(path string) (protocompile.SearchResult, error) {
	desc, err := protoregistry.GlobalFiles.FindFileByPath(path)
	return protocompile.SearchResult{Desc: desc}, err
}

// add puts a file behind those that it imports.
func add(request *pluginpb.CodeGeneratorRequest, seen map[string]bool, fd protoreflect.FileDescriptor) error {
	if seen[fd.Path()] {
		return nil
	}
	seen[fd.Path()] = true
	for i := range fd.Imports().Len() {
		if err := add(request, seen, fd.Imports().Get(i).FileDescriptor); err != nil {
			return err
		}
	}
	// A round trip through the wire gives the options the types of this program
	// instead of the compiler's dynamic ones.
	raw, err := proto.Marshal(protodesc.ToFileDescriptorProto(fd))
	if err != nil {
		return err
	}
	file := &descriptorpb.FileDescriptorProto{}
	if err := proto.Unmarshal(raw, file); err != nil {
		return err
	}
	request.ProtoFile = append(request.ProtoFile, file)
	return nil
}

// Find returns the .proto files below a folder, relative to it and sorted.
func Find(folder string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".proto") {
			return err
		}
		name, err := filepath.Rel(folder, path)
		files = append(files, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	slices.Sort(files)
	return files, nil
}

// Served narrows a request to the files with a service for clients, which is
// one that is not the commands of a Concern. It returns nil if there is none.
func Served(request *pluginpb.CodeGeneratorRequest) *pluginpb.CodeGeneratorRequest {
	narrow := &pluginpb.CodeGeneratorRequest{ProtoFile: request.GetProtoFile(), CompilerVersion: request.GetCompilerVersion()}
	for _, file := range request.GetProtoFile() {
		if !slices.Contains(request.GetFileToGenerate(), file.GetName()) {
			continue
		}
		for _, s := range file.GetService() {
			if !proto.HasExtension(s.GetOptions(), rkcyv1.E_Commands) {
				narrow.FileToGenerate = append(narrow.FileToGenerate, file.GetName())
				break
			}
		}
	}
	if len(narrow.GetFileToGenerate()) == 0 {
		return nil
	}
	return narrow
}
