package main

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// edit replaces a text that occurs once in a file.
type edit struct {
	File     string // from the root of the module
	Old, New string
}

// mutation is a mistake that somebody could make, as edits of the product's source.
type mutation struct {
	Name  string
	Edits []edit
	// Expect are the oracles of which one must see it: V1 to V22 of ha.md 4.4, and those that the simulator adds.
	Expect []string
	Seeds  int      // within how many schedules it must be caught; 0: within the usual number
	Args   []string // what the simulator is told beside the seeds
	// Open says what is missing in the simulator for it to be caught. Such a mutation is run and told, and fails nothing.
	Open string
}

// one is a mutation of a single place.
func one(name, file, old, new string, expect ...string) mutation {
	return mutation{Name: name, Edits: []edit{{file, old, new}}, Expect: expect}
}

// mutate returns the files that the edits change, with their new text.
func mutate(root string, edits []edit) (map[string]string, error) {
	files := map[string]string{}
	for _, e := range edits {
		text, read := files[e.File]
		if !read {
			b, err := os.ReadFile(filepath.Join(root, e.File))
			if err != nil {
				return nil, fmt.Errorf("read what is to be mutated: %w", err)
			}
			text = string(b)
		}
		if n := strings.Count(text, e.Old); n != 1 {
			return nil, fmt.Errorf("mutate %s: have the text %d times, want it once; the table must follow the code:\n%s", e.File, n, e.Old)
		}
		files[e.File] = strings.Replace(text, e.Old, e.New, 1)
	}
	for name, text := range files {
		if _, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution); err != nil {
			return nil, fmt.Errorf("mutate %s: %w", name, err)
		}
	}
	return files, nil
}

// overlay writes the changed files into dir and returns the file that tells the go command to build with them. The
// source itself is left alone.
func overlay(root, dir string, files map[string]string) (string, error) {
	replace := map[string]string{}
	for name, text := range files {
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace[filepath.Join(root, name)] = to
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "overlay.json")
	return to, os.WriteFile(to, b, 0o644)
}
