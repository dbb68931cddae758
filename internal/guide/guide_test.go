package guide

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root of the repository.
const root = "../.."

// fence is a block of code in a page.
type fence struct {
	page     string
	line     int
	language string
	path     string
	text     []string
}

func (f fence) String() string { return fmt.Sprintf("%s:%d", f.page, f.line) }

// fences returns those of a page.
func fences(t *testing.T, page string) (out []fence) {
	t.Helper()
	file, err := os.Open(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var open *fence
	s := bufio.NewScanner(file)
	for line := 1; s.Scan(); line++ {
		text := s.Text()
		rest, mark := strings.CutPrefix(text, "```")
		switch {
		case mark && open != nil:
			out = append(out, *open)
			open = nil
		case mark:
			language, path, _ := strings.Cut(rest, " ")
			open = &fence{page: page, line: line, language: language, path: path}
		case open != nil:
			open.text = append(open.text, text)
		}
	}
	if err := s.Err(); err != nil || open != nil {
		t.Fatalf("%s: %v, a fence is open: %v", page, err, open)
	}
	return out
}

// pages are the README and the guide.
func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "docs", "guide", "*.md"))
	if err != nil || len(found) < 2 {
		t.Fatalf("%v: %v", found, err)
	}
	out := []string{"README.md"}
	for _, f := range found {
		out = append(out, filepath.Join("docs", "guide", filepath.Base(f)))
	}
	return out
}

// trimmed takes the common indentation away. Tabs of Go count like any.
func trimmed(lines []string) string {
	indent := -1
	for _, l := range lines {
		if strings.TrimSpace(l) != "" {
			n := len(l) - len(strings.TrimLeft(l, "\t "))
			if indent < 0 || n < indent {
				indent = n
			}
		}
	}
	var out []string
	for _, l := range lines {
		out = append(out, strings.TrimRight(l[min(max(indent, 0), len(l)):], " \t"))
	}
	return strings.Join(out, "\n")
}

// isExcerpt reports whether lines are somewhere in a text, one after the other.
func isExcerpt(lines []string, text string) bool {
	want, all := trimmed(lines), strings.Split(text, "\n")
	for i := range all {
		if end := i + len(lines); end <= len(all) && trimmed(all[i:end]) == want {
			return true
		}
	}
	return false
}

// Code in the README and the guide is an excerpt of a file that is compiled, or
// used, and tested.
func TestCodeIsOfTheRepository(t *testing.T) {
	n := 0
	for _, page := range pages(t) {
		for _, f := range fences(t, page) {
			switch {
			case f.language == "go" || f.language == "proto" || f.language == "sql" || f.language == "yaml":
				if f.path == "" {
					t.Errorf("%v: which file is it from?", f)
					continue
				}
				raw, err := os.ReadFile(filepath.Join(root, f.path))
				if err != nil {
					t.Errorf("%v: %v", f, err)
				} else if !isExcerpt(f.text, string(raw)) {
					t.Errorf("%v: not in %s:\n%s", f, f.path, strings.Join(f.text, "\n"))
				}
				n++
			case f.path != "":
				t.Errorf("%v: what is %s %s?", f, f.language, f.path)
			}
		}
	}
	if n < 20 {
		t.Errorf("%d excerpts only", n)
	}
	if isExcerpt([]string{"func TestCodeIsOfTheRepositry"}, "func TestCodeIsOfTheRepository") {
		t.Error("an excerpt with a mistake was taken")
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// What the pages link to is there.
func TestLinks(t *testing.T) {
	for _, page := range append(pages(t), "docs/guarantees.md", "docs/design.md") {
		raw, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range link.FindAllStringSubmatch(string(raw), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// testName is a test in docs/guarantees.md: package and name.
var testName = regexp.MustCompile("`([a-z/]+)` (?:`?)((?:Test|Fuzz)[A-Za-z0-9_]+)")

// The tests that docs/guarantees.md names exist.
func TestGuaranteesNameTests(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "docs", "guarantees.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := testName.FindAllStringSubmatch(string(raw), -1)
	if len(found) < 20 {
		t.Errorf("%d tests are named", len(found))
	}
	for _, m := range found {
		files, err := filepath.Glob(filepath.Join(root, m[1], "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		there := false
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			there = there || strings.Contains(string(text), "func "+m[2]+"(")
		}
		if !there {
			t.Errorf("there is no %s in %s", m[2], m[1])
		}
	}
}
