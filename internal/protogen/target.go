package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/types/pluginpb"

	"github.com/rocketcycle/rocketcycle/internal/codegen/compile"
)

// target is a folder of .proto files, with the code that is made of them
// beside them.
type target struct {
	folder     string
	generators []string
}

// targets are all folders with generated code, relative to the repository.
func targets() []target {
	return []target{
		{"proto", []string{"go", "go-grpc", "grpc-gateway", "openapiv3"}},
		{"examples/rpg/proto", []string{"go", "go-grpc", "grpc-gateway", "openapiv3", "rkcy"}},
		{"internal/codegen/testdata/golden", []string{"go", "rkcy"}},
	}
}

// suffixes end the names of generated files. A file with such a name that is not
// generated any more is a left-over.
func suffixes() []string {
	return []string{".pb.go", ".pb.gw.go", ".openapi.json", ".rkcy.go", ".rkcy.sql"}
}

// programs are the plugins pinned in tools/go.mod.
func programs() []string {
	return []string{
		"google.golang.org/protobuf/cmd/protoc-gen-go",
		"google.golang.org/grpc/cmd/protoc-gen-go-grpc",
		"github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway",
		"github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv3",
	}
}

// repository returns the folder of the module that go was started in.
func repository(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// buildPrograms builds the plugins into build/tools. Go's cache makes that
// quick when they are there already.
func buildPrograms(ctx context.Context, root string) error {
	args := append([]string{"build", "-C", filepath.Join(root, "tools"), "-o", filepath.Join(root, "build", "tools") + string(filepath.Separator)},
		programs()...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// buildOwn builds the plugin of this module. It is built anew for each target,
// since generating another target may have changed the options that it reads.
func buildOwn(ctx context.Context, root string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-C", root, "-o", filepath.Join("build", "tools", "protoc-gen-rkcy"), "./cmd/protoc-gen-rkcy")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build protoc-gen-rkcy: %w", err)
	}
	return nil
}

// generate returns what belongs into the target's folder.
func (t target) generate(ctx context.Context, root string) ([]compile.File, error) {
	folder := filepath.Join(root, filepath.FromSlash(t.folder))
	names, err := compile.Find(folder)
	if err != nil {
		return nil, err
	}
	request, err := compile.Compile(ctx, []string{folder, filepath.Join(root, "proto")}, names...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.folder, err)
	}
	var files []compile.File
	for _, name := range t.generators {
		out, err := runGenerator(ctx, root, name, request)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.folder, err)
		}
		files = append(files, out...)
	}
	return files, nil
}

func runGenerator(ctx context.Context, root, name string, request *pluginpb.CodeGeneratorRequest) ([]compile.File, error) {
	const relative = "paths=source_relative"
	program := filepath.Join(root, "build", "tools", "protoc-gen-"+name)
	switch name {
	case "rkcy":
		if err := buildOwn(ctx, root); err != nil {
			return nil, err
		}
		return compile.Program(program, relative)(ctx, request)
	case "go":
		return compile.Program(program, relative)(ctx, request)
	}
	// The others are for services that clients call.
	if request = compile.Served(request); request == nil {
		return nil, nil
	}
	if name == "openapiv3" {
		return compile.Program(program, "")(ctx, request)
	}
	return compile.Program(program, relative)(ctx, request)
}

// leftOver returns the generated files below the target's folder that are not
// among the given ones.
func (t target) leftOver(root string, files []compile.File) ([]string, error) {
	folder := filepath.Join(root, filepath.FromSlash(t.folder))
	current := map[string]bool{}
	for _, f := range files {
		current[filepath.Join(folder, filepath.FromSlash(f.Name))] = true
	}
	var old []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || current[path] {
			return err
		}
		for _, suffix := range suffixes() {
			if strings.HasSuffix(path, suffix) {
				old = append(old, path)
				break
			}
		}
		return nil
	})
	return old, err
}
