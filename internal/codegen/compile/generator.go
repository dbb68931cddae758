package compile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/pluginpb"
)

// File is a generated file. Its name has slashes and is relative to the output
// folder.
type File struct {
	Name    string
	Content string
}

// Generator makes files of a request, which it does not change.
type Generator func(context.Context, *pluginpb.CodeGeneratorRequest) ([]File, error)

// Program is a protoc plugin, run with a parameter.
func Program(path, parameter string) Generator {
	return func(ctx context.Context, request *pluginpb.CodeGeneratorRequest) ([]File, error) {
		input, err := proto.Marshal(withParameter(request, parameter))
		if err != nil {
			return nil, err
		}
		var stderr bytes.Buffer
		cmd := exec.CommandContext(ctx, path)
		cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &stderr
		output, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", filepath.Base(path), err, stderr.String())
		}
		response := &pluginpb.CodeGeneratorResponse{}
		if err := proto.Unmarshal(output, response); err != nil {
			return nil, fmt.Errorf("%s: its answer: %w", filepath.Base(path), err)
		}
		return content(response)
	}
}

// Function is a plugin that is part of this program.
func Function(parameter string, generate func(*protogen.Plugin) error) Generator {
	return func(_ context.Context, request *pluginpb.CodeGeneratorRequest) ([]File, error) {
		plugin, err := protogen.Options{}.New(withParameter(request, parameter))
		if err != nil {
			return nil, err
		}
		if err := generate(plugin); err != nil {
			return nil, err
		}
		return content(plugin.Response())
	}
}

func withParameter(request *pluginpb.CodeGeneratorRequest, parameter string) *pluginpb.CodeGeneratorRequest {
	request = proto.CloneOf(request)
	if parameter != "" {
		request.Parameter = proto.String(parameter)
	}
	return request
}

func content(response *pluginpb.CodeGeneratorResponse) ([]File, error) {
	if response.Error != nil {
		return nil, errors.New(response.GetError())
	}
	var files []File
	for _, f := range response.GetFile() {
		if !filepath.IsLocal(filepath.FromSlash(f.GetName())) {
			return nil, fmt.Errorf("a generator wants to write %q, outside of its folder", f.GetName())
		}
		files = append(files, File{Name: f.GetName(), Content: f.GetContent()})
	}
	return files, nil
}

// Write writes files into a folder. Those that have the content already are
// left alone, so that what depends on them is not built again.
func Write(folder string, files []File) error {
	var faults []error
	for _, f := range files {
		path := filepath.Join(folder, filepath.FromSlash(f.Name))
		if old, err := os.ReadFile(path); err == nil && string(old) == f.Content {
			continue
		}
		err := os.MkdirAll(filepath.Dir(path), 0o755) //nolint:gosec // source folders
		if err == nil {
			err = os.WriteFile(path, []byte(f.Content), 0o644) //nolint:gosec // source files
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}
