package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/internal/codegen/compile"
)

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCompareNamesEveryFault(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"p/a/same.pb.go":       "same",
		"p/a/stale.pb.go":      "old",
		"p/a/gone.rkcy.sql":    "",
		"p/b/gone_grpc.pb.go":  "",
		"p/a/by_hand.go":       "package a",
		"p/a/a.proto":          "",
		"elsewhere/x.pb.go":    "",
		"p/a/old.openapi.json": "{}",
	})
	got, err := target{folder: "p"}.compare(root, []compile.File{
		{Name: "a/same.pb.go", Content: "same"}, {Name: "a/stale.pb.go", Content: "new"}, {Name: "c/new.rkcy.go", Content: "new"},
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := []string{
		"p/a/gone.rkcy.sql is left over", "p/a/old.openapi.json is left over", "p/a/stale.pb.go is stale",
		"p/b/gone_grpc.pb.go is left over", "p/c/new.rkcy.go is missing",
	}
	if !slices.Equal(got, want) {
		t.Errorf("faults\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A service of commands has no clients, so it gets neither gRPC nor HTTP code.
func TestServed(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, map[string]string{
		"model.proto": `syntax = "proto3"; package m; import "rkcy/v1/options.proto"; option go_package = "example.com/m";
			message M { option (rkcy.v1.concern) = {}; string id = 1 [(rkcy.v1.field).key = true]; }
			service C { option (rkcy.v1.commands).concern = "M"; rpc Do(M) returns (M); }`,
		"edge.proto": `syntax = "proto3"; package m; import "model.proto"; import "google/api/annotations.proto"; option go_package = "example.com/m";
			service S { rpc Do(M) returns (M) { option (google.api.http) = {get: "/m"}; } }`,
		"plain.proto": `syntax = "proto3"; package m; option go_package = "example.com/m"; message P {}`,
	})
	names, err := compile.Find(folder)
	if err != nil {
		t.Fatal(err)
	}
	request, err := compile.Compile(context.Background(), []string{folder}, names...)
	if err != nil {
		t.Fatal(err)
	}
	served := compile.Served(request)
	if got := served.GetFileToGenerate(); !slices.Equal(got, []string{"edge.proto"}) {
		t.Errorf("served: %v", got)
	}
	if len(served.GetProtoFile()) != len(request.GetProtoFile()) {
		t.Error("files that are imported were dropped")
	}
	if request, err = compile.Compile(context.Background(), []string{folder}, "model.proto", "plain.proto"); err != nil {
		t.Fatal(err)
	}
	if served := compile.Served(request); served != nil {
		t.Errorf("served: %v", served.GetFileToGenerate())
	}
}

// Every folder of the repository that has generated code is a target.
func TestTargetsAreComplete(t *testing.T) {
	root, err := repository(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	err = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || path == filepath.Join(root, "build")) {
			return filepath.SkipDir
		}
		generated := slices.ContainsFunc(suffixes(), func(s string) bool { return strings.HasSuffix(path, s) })
		if !generated {
			return nil
		}
		found++
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(targets(), func(t target) bool { return strings.HasPrefix(filepath.ToSlash(relative), t.folder+"/") }) {
			t.Errorf("%s belongs to no target", relative)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 10 {
		t.Errorf("found %d generated files only", found)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"nothing"}, {"all", "x"}, {"-plugin", "no-colon", "x.proto"}, {"-plugin", "p:out"}} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
