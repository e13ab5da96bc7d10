package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrEmpty says that neither a file nor the environment configures anything. The text is Patroni's,
// which people and scripts look for.
//
//lint:ignore ST1005 see above
var ErrEmpty = errors.New("Config is empty.")

// Source is where the local configuration came from.
type Source string

const (
	FromFile        Source = "file"        // a file or a directory, with the environment over it
	FromVariable    Source = "variable"    // PATRONI_CONFIGURATION alone
	FromEnvironment Source = "environment" // the other variables alone
)

// File is the local configuration, merged and not yet interpreted.
type File struct {
	Path     string // as given; empty when nothing was read from it
	Source   Source
	Document *Map
	Used     []string        // names of the environment variables that were used, sorted
	Problems []Problem       // warnings
	environ  func() []string // the PATRONI_* variables of the start, which a reload uses again; a function, since it does not print
}

// Load reads the local configuration: the file or directory at path with the environment over it;
// without one, PATRONI_CONFIGURATION alone; else the environment alone (config.md 1.2). A path
// that does not exist counts as not given. All mistakes in all files come back joined.
func Load(path string, environ []string) (*File, error) {
	f, err := Read(path, environ)
	if err != nil {
		return nil, err
	}
	if f.Document.Len() == 0 {
		return nil, ErrEmpty
	}
	return f, nil
}

// Read is Load, but an empty configuration is no error: validation wants to tell what is missing.
func Read(path string, environ []string) (*File, error) {
	doc, used, problems := FromEnviron(environ)
	ours := onlyOurs(environ)
	used = append(used, variableConfiguration) // it may hold passwords, so no child gets it even when it does not count
	slices.Sort(used)
	f := &File{Document: doc, Used: used, Problems: problems, Source: FromEnvironment, environ: func() []string { return ours }}
	if path != "" {
		info, err := os.Stat(path)
		switch {
		case err == nil:
			base, err := readPath(path, info)
			if err != nil {
				return nil, err
			}
			Merge(base, doc)
			f.Path, f.Source, f.Document = path, FromFile, base
			return f, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("read configuration: %w", err)
		}
	}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if name != variableConfiguration || value == "" {
			continue
		}
		v, err := ParseYAML(name, []byte(value))
		if err != nil {
			return nil, err
		}
		m, ok := v.(*Map)
		if !ok {
			return nil, fmt.Errorf("read %s: expected a YAML mapping, have %T", name, v)
		}
		f.Source, f.Document, f.Problems = FromVariable, NewMap(), nil
		Merge(f.Document, m)
	}
	return f, nil
}

const variableConfiguration = "PATRONI_CONFIGURATION"

// Reload reads the same path again under the environment of the start. Without a path there is
// nothing to read and the document stays (config.md 1.9).
func (f *File) Reload() (next *File, changed bool, err error) {
	if f.Source != FromFile {
		return f, false, nil
	}
	next, err = Load(f.Path, f.environ())
	if err != nil {
		return f, false, err
	}
	if next.Source != FromFile {
		return f, false, fmt.Errorf("reload configuration: %s is gone; keeping the old one", f.Path)
	}
	return next, !Equal(f.Document, next.Document), nil
}

func onlyOurs(environ []string) []string {
	var ours []string
	for _, e := range environ {
		if strings.HasPrefix(e, "PATRONI_") {
			ours = append(ours, e)
		}
	}
	return ours
}

func readPath(path string, info fs.FileInfo) (*Map, error) {
	files := []string{path}
	switch {
	case info.IsDir():
		var err error
		if files, err = configFiles(path); err != nil {
			return nil, err
		}
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("invalid config path %s: expected a file or a directory", path)
	}
	doc := NewMap()
	var errs []error
	for _, name := range files {
		m, err := readFile(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		Merge(doc, m)
	}
	return doc, errors.Join(errs...)
}

func readFile(name string) (*Map, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	v, err := ParseYAML(name, text)
	if err != nil {
		return nil, err
	}
	m, ok := v.(*Map)
	if !ok {
		return nil, fmt.Errorf("invalid config file %s: expected a mapping of sections", name)
	}
	return m, nil
}

// configFiles lists *.yml and *.yaml of a directory by name, hidden ones too, subdirectories not.
func configFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var files []string
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		if !strings.HasSuffix(name, ".yml") && !strings.HasSuffix(name, ".yaml") {
			continue
		}
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() { // Kubernetes mounts links
			files = append(files, name)
		}
	}
	return files, nil
}
