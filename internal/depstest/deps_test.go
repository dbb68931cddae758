// Package depstest checks that imports point down only.
package depstest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rocketcycle/rocketcycle/"

// pkg is what go list tells of a package; Imports and Deps leave tests out.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	TestImports,
	XTestImports []string
}

// name is the import path within the module.
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module) }

// uses returns what the package depends on, within the module.
func (p pkg) uses() (names []string) {
	for _, d := range p.Deps {
		if strings.HasPrefix(d, module) {
			names = append(names, strings.TrimPrefix(d, module))
		}
	}
	return names
}

// touch looks at every folder, so that a result that go test has in its cache
// does not count once a file has changed.
func touch(t *testing.T) {
	t.Helper()
	const root = "../.."
	if err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || path == filepath.Join(root, "build")) {
			return filepath.SkipDir
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T) map[string]pkg {
	t.Helper()
	touch(t)
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,Deps,TestImports,XTestImports", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	packages := map[string]pkg{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.name()] = p
	}
	for _, name := range []string{"pkg/txn", "pkg/stream", "pkg/edge", "pkg/concern", "pkg/storage", "pkg/platform", "pkg/platform/node", "pkg/storage/postgres"} {
		if _, ok := packages[name]; !ok {
			t.Fatalf("go list did not find %s: a rule about it would check nothing", name)
		}
	}
	return packages
}

// within says whether a package is the given one or below it.
func within(name, root string) bool { return name == root || strings.HasPrefix(name, root+"/") }

func withinAny(name string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return within(name, root) })
}

// meeting are the places where the siblings meet, and what is above them.
func meeting(name string) bool {
	return !strings.HasPrefix(name, "pkg/") || withinAny(name, "pkg/platform/node", "pkg/platform/cli")
}

// rules return what is wrong with a package, or nothing.
func rules() map[string]func(p pkg) []string {
	siblings := []string{"pkg/edge", "pkg/concern", "pkg/storage", "pkg/platform"}
	return map[string]func(p pkg) []string{
		"siblings never import each other": func(p pkg) (wrong []string) {
			if meeting(p.name()) {
				return nil
			}
			for _, own := range siblings {
				for _, other := range siblings {
					for _, used := range p.uses() {
						if own != other && within(p.name(), own) && within(used, other) {
							wrong = append(wrong, used)
						}
					}
				}
			}
			return wrong
		},
		"nothing below imports where the siblings meet": func(p pkg) (wrong []string) {
			for _, used := range p.uses() {
				if !meeting(p.name()) && withinAny(used, "pkg/platform/node", "pkg/platform/cli") {
					wrong = append(wrong, used)
				}
				if within(p.name(), "pkg/platform/node") && within(used, "pkg/platform/cli") {
					wrong = append(wrong, used)
				}
			}
			return wrong
		},
		"pkg/txn imports only proto": func(p pkg) (wrong []string) {
			for _, used := range p.uses() {
				if within(p.name(), "pkg/txn") && !withinAny(used, "proto", "pkg/txn") {
					wrong = append(wrong, used)
				}
			}
			return wrong
		},
		"pkg/stream imports only txn and proto": func(p pkg) (wrong []string) {
			for _, used := range p.uses() {
				if p.name() == "pkg/stream" && !withinAny(used, "proto", "pkg/txn", "internal/failpoint") {
					wrong = append(wrong, used)
				}
			}
			return wrong
		},
		"proto imports only proto": func(p pkg) (wrong []string) {
			for _, used := range p.uses() {
				if within(p.name(), "proto") && !within(used, "proto") {
					wrong = append(wrong, used)
				}
			}
			return wrong
		},
		"the edge does not know Kafka": func(p pkg) (wrong []string) {
			for _, used := range p.uses() {
				if within(p.name(), "pkg/edge") && within(used, "pkg/stream") {
					wrong = append(wrong, used)
				}
			}
			return wrong
		},
		"librdkafka is known in pkg/stream only": func(p pkg) (wrong []string) {
			for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
				if strings.HasPrefix(path, "github.com/confluentinc/confluent-kafka-go") && !within(p.name(), "pkg/stream") {
					wrong = append(wrong, path)
				}
			}
			return wrong
		},
		"PostgreSQL is known in pkg/storage/postgres only": func(p pkg) (wrong []string) {
			for _, path := range p.Imports {
				if (strings.HasPrefix(path, "github.com/jackc/pgx") || path == "database/sql") &&
					!withinAny(p.name(), "pkg/storage/postgres", "internal") {
					wrong = append(wrong, path)
				}
			}
			return wrong
		},
		"examples import public packages only": func(p pkg) (wrong []string) {
			for _, path := range p.Imports {
				if within(p.name(), "examples") && strings.HasPrefix(path, module+"internal/") {
					wrong = append(wrong, path)
				}
			}
			return wrong
		},
		"nothing imports an example": func(p pkg) (wrong []string) {
			for _, path := range p.Imports {
				if strings.HasPrefix(path, module+"examples/") && !withinAny(p.name(), "examples", "internal") {
					wrong = append(wrong, path)
				}
			}
			return wrong
		},
		"commands are tiny": func(p pkg) (wrong []string) {
			if within(p.name(), "cmd") && len(p.Imports) > 6 {
				wrong = p.Imports
			}
			return wrong
		},
	}
}

func TestImportsPointDown(t *testing.T) {
	packages := list(t)
	for rule, check := range rules() {
		t.Run(rule, func(t *testing.T) {
			for name, p := range packages {
				if wrong := check(p); len(wrong) > 0 {
					slices.Sort(wrong)
					t.Errorf("%s depends on %s", name, strings.Join(slices.Compact(wrong), ", "))
				}
			}
		})
	}
}

// Each rule must be able to fail.
func TestRulesBite(t *testing.T) {
	p := func(name string, imports ...string) pkg {
		return pkg{ImportPath: module + name, Imports: imports, Deps: imports}
	}
	for rule, bad := range map[string][]pkg{
		"siblings never import each other": {
			p("pkg/edge", module+"pkg/concern"), p("pkg/storage/postgres", module+"pkg/platform"), p("pkg/platform", module+"pkg/edge"),
		},
		"nothing below imports where the siblings meet": {
			p("pkg/platform", module+"pkg/platform/node"), p("pkg/platform/node", module+"pkg/platform/cli"),
		},
		"pkg/txn imports only proto":            {p("pkg/txn", module+"pkg/stream"), p("pkg/txn", module+"internal/x")},
		"pkg/stream imports only txn and proto": {p("pkg/stream", module+"pkg/concern")},
		"proto imports only proto":              {p("proto/rkcy/v1", module+"pkg/txn")},
		"the edge does not know Kafka":          {p("pkg/edge", module+"pkg/stream")},
		"librdkafka is known in pkg/stream only": {
			p("pkg/concern", "github.com/confluentinc/confluent-kafka-go/v2/kafka"),
			{ImportPath: module + "pkg/concern", XTestImports: []string{"github.com/confluentinc/confluent-kafka-go/v2/kafka"}},
		},
		"PostgreSQL is known in pkg/storage/postgres only": {p("pkg/storage", "github.com/jackc/pgx/v5/pgxpool")},
		"examples import public packages only":             {p("examples/rpg", module+"internal/devpostgres")},
		"nothing imports an example":                       {p("pkg/concern", module+"examples/rpg/logic")},
		"commands are tiny":                                {p("cmd/rkcy", "a", "b", "c", "d", "e", "f", "g")},
	} {
		check, ok := rules()[rule]
		if !ok {
			t.Errorf("no rule %q", rule)
			continue
		}
		for _, p := range bad {
			if len(check(p)) == 0 {
				t.Errorf("rule %q let %s import %v", rule, p.name(), p.Imports)
			}
		}
	}
	if len(rules()) != 11 {
		t.Errorf("%d rules, and 11 are tried here", len(rules()))
	}
}
