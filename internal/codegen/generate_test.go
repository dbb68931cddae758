package codegen_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketcycle/rocketcycle/internal/codegen"
	"github.com/rocketcycle/rocketcycle/internal/codegen/compile"
)

// Where generated code does not compile, this test does not either: then
// generate with go run ./internal/protogen all.
var update = flag.Bool("update", false, "write the golden files")

const golden = "testdata/golden"

func generate(t *testing.T, folder string, names ...string) ([]compile.File, error) {
	t.Helper()
	request, err := compile.Compile(context.Background(), []string{folder}, names...)
	if err != nil {
		t.Fatal(err)
	}
	return compile.Function("paths=source_relative", codegen.Generate)(context.Background(), request)
}

func TestGolden(t *testing.T) {
	names, err := compile.Find(golden)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 7 {
		t.Fatalf("found %v only", names)
	}
	files, err := generate(t, golden, names...)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := compile.Write(golden, files); err != nil {
			t.Fatal(err)
		}
	}
	generated := map[string]bool{}
	for _, f := range files {
		generated[filepath.Join(golden, f.Name)] = true
		want, err := os.ReadFile(filepath.Join(golden, f.Name))
		if err != nil {
			t.Error(err)
		} else if string(want) != f.Content {
			t.Errorf("%s differs from what is generated (go test ./internal/codegen -update writes it):\n%s", f.Name, firstDifference(string(want), f.Content))
		}
	}
	have, err := filepath.Glob(golden + "/*/*.rkcy.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range have {
		if !generated[name] {
			t.Errorf("%s is left over", name)
		}
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			return "golden: " + w[i] + "\n   now: " + strings.Join(g[i:min(i+1, len(g))], "")
		}
	}
	return "more lines than before"
}

// The order of files given to the generator does not matter, and generating
// one alone gives what generating all does.
func TestGenerateOneByOne(t *testing.T) {
	names, err := compile.Find(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		files, err := generate(t, golden, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, f := range files {
			if want, err := os.ReadFile(filepath.Join(golden, f.Name)); err != nil || string(want) != f.Content {
				t.Errorf("%s differs when it is generated alone (%v)", f.Name, err)
			}
		}
	}
}

// The program writes what the function does.
func TestPluginProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "protoc-gen-rkcy")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/rocketcycle/rocketcycle/cmd/protoc-gen-rkcy").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	request, err := compile.Compile(t.Context(), []string{golden}, "plain/plain.proto")
	if err != nil {
		t.Fatal(err)
	}
	files, err := compile.Program(program, "paths=source_relative")(t.Context(), request)
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if want, err := os.ReadFile(filepath.Join(golden, f.Name)); err != nil || string(want) != f.Content {
			t.Errorf("%s differs when the program makes it (%v)", f.Name, err)
		}
	}
}
