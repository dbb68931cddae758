package compile_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/rocketcycle/rocketcycle/internal/codegen/compile"
)

func TestErrorsNameFileAndLine(t *testing.T) {
	folder := t.TempDir()
	source := "syntax = \"proto3\";\nmessage M {\n  Strin id = 1;\n}\n"
	if err := os.WriteFile(filepath.Join(folder, "a.proto"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := compile.Compile(t.Context(), []string{folder}, "a.proto"); err == nil || !strings.Contains(err.Error(), "a.proto:3:3") {
		t.Errorf("error %v", err)
	}
	if _, err := compile.Compile(t.Context(), []string{folder}, "b.proto"); err == nil || !strings.Contains(err.Error(), "b.proto") {
		t.Errorf("error %v", err)
	}
	if _, err := compile.Compile(t.Context(), []string{folder}); err == nil {
		t.Error("no file was taken")
	}
}

func TestGeneratorsStayInTheirFolder(t *testing.T) {
	folder := t.TempDir()
	source := `syntax = "proto3"; package p; option go_package = "example.com/p"; message M {}`
	if err := os.WriteFile(filepath.Join(folder, "a.proto"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	request, err := compile.Compile(t.Context(), []string{folder}, "a.proto")
	if err != nil {
		t.Fatal(err)
	}
	for name, allowed := range map[string]bool{"a.txt": true, "b/c.txt": true, "../a.txt": false, "/a.txt": false} {
		generator := compile.Function("", func(p *protogen.Plugin) error {
			p.NewGeneratedFile(name, "example.com/p").P("text")
			return nil
		})
		files, err := generator(t.Context(), request)
		if (err == nil) != allowed {
			t.Errorf("%s: %v, %v", name, files, err)
		}
	}
}

func TestProgramTellsWhatItSaid(t *testing.T) {
	script := filepath.Join(t.TempDir(), "protoc-gen-bad")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho went wrong >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := compile.Program(script, "")(context.Background(), &pluginpb.CodeGeneratorRequest{})
	if err == nil || !strings.Contains(err.Error(), "protoc-gen-bad: exit status 3") || !strings.Contains(err.Error(), "went wrong") {
		t.Errorf("error %v", err)
	}
}

// What is written already keeps its time, so that nothing is built again.
func TestWriteLeavesEqualFilesAlone(t *testing.T) {
	folder := t.TempDir()
	files := []compile.File{{Name: "a/b.go", Content: "one"}, {Name: "c.go", Content: "two"}}
	if err := compile.Write(folder, files); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "a", "b.go")
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	files[1].Content = "three"
	if err := compile.Write(folder, files); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("an equal file was written again (%v)", err)
	}
	if got, err := os.ReadFile(filepath.Join(folder, "c.go")); err != nil || string(got) != "three" {
		t.Errorf("c.go is %q (%v)", got, err)
	}
}
