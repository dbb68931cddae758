package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/rocketcycle/rocketcycle/internal/codegen/compile"
)

// all generates the code of every target and removes left-overs.
func all(ctx context.Context) error {
	root, err := prepare(ctx)
	if err != nil {
		return err
	}
	for _, t := range targets() {
		files, err := t.generate(ctx, root)
		if err != nil {
			return err
		}
		if err := compile.Write(filepath.Join(root, filepath.FromSlash(t.folder)), files); err != nil {
			return err
		}
		old, err := t.leftOver(root, files)
		if err != nil {
			return err
		}
		for _, name := range old {
			fmt.Fprintln(os.Stderr, "protogen: removing", name)
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify compares what would be generated with what is there. It writes nothing
// but build/tools.
func verify(ctx context.Context) error {
	root, err := prepare(ctx)
	if err != nil {
		return err
	}
	var faults []string
	for _, t := range targets() {
		files, err := t.generate(ctx, root)
		if err != nil {
			return err
		}
		found, err := t.compare(root, files)
		if err != nil {
			return err
		}
		faults = append(faults, found...)
	}
	if len(faults) > 0 {
		return fmt.Errorf("generated code is not what the .proto files say; run make generate\n\t%s", strings.Join(faults, "\n\t"))
	}
	return nil
}

func prepare(ctx context.Context) (root string, err error) {
	if root, err = repository(ctx); err != nil {
		return "", err
	}
	return root, buildPrograms(ctx, root)
}

// compare names each file of the target that is stale, missing or left over.
func (t target) compare(root string, files []compile.File) ([]string, error) {
	var faults []string
	for _, f := range files {
		have, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(t.folder), filepath.FromSlash(f.Name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			faults = append(faults, path.Join(t.folder, f.Name)+" is missing")
		case err != nil:
			return nil, err
		case string(have) != f.Content:
			faults = append(faults, path.Join(t.folder, f.Name)+" is stale")
		}
	}
	old, err := t.leftOver(root, files)
	if err != nil {
		return nil, err
	}
	for _, name := range old {
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return nil, err
		}
		faults = append(faults, filepath.ToSlash(relative)+" is left over")
	}
	return faults, nil
}
