package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chooser is the environment variable that tells a simulator with all mistakes in it which one to make, by its number from 1 on; else none.
const chooser = "REGENT_MUTATION"

// combine returns sources with all the mistakes in them, of which one at most is made in a run: a build for each would take most of the time.
// A function that a mistake changes begins with a look at which one is to be made, and hands over to a copy of its own. apart says which
// mistakes cannot be put in so, since they change something else than the body of a function.
func combine(root string, list []mutation) (files map[string]string, apart []bool, err error) {
	all := map[string]*combined{}
	apart = make([]bool, len(list))
	for i, m := range list {
		mutated, err := mutate(root, m.Edits)
		if err != nil {
			return nil, nil, err
		}
		changed := map[string][]change{}
		for name, text := range mutated {
			if all[name] == nil {
				b, err := os.ReadFile(filepath.Join(root, name))
				if err != nil {
					return nil, nil, err
				}
				all[name] = &combined{text: string(b), heads: map[int]string{}}
			}
			if changed[name], err = changes(name, all[name].text, text, i+1); err != nil {
				return nil, nil, err
			}
			apart[i] = apart[i] || changed[name] == nil
		}
		if apart[i] {
			continue
		}
		for name, list := range changed {
			for _, c := range list {
				all[name].heads[c.at] += c.head
				all[name].copies += c.copy
			}
		}
	}
	files = map[string]string{}
	for name, c := range all {
		files[name] = c.String()
		dir := filepath.Dir(name)
		files[filepath.Join(dir, "zz_mutation.go")] = fmt.Sprintf("package %s\n\nimport (\n\t\"os\"\n\t\"strconv\"\n)\n\nvar mutation__, _ = strconv.Atoi(os.Getenv(%q))\n", filepath.Base(dir), chooser)
	}
	return files, apart, nil
}

// combined is a file that grows.
type combined struct {
	text   string
	heads  map[int]string // what is put in, by the place
	copies string
}

func (c *combined) String() string {
	text := c.text
	for _, at := range slices.Backward(slices.Sorted(maps.Keys(c.heads))) {
		text = text[:at] + c.heads[at] + text[at:]
	}
	return text + c.copies
}

// change is what a mistake does to one function.
type change struct {
	at         int // behind the brace
	head, copy string
}

// changes compares two texts of a file; nil: they differ in more than functions.
func changes(name, before, after string, number int) (list []change, err error) {
	was, err := declarations(name, before)
	if err != nil {
		return nil, err
	}
	is, err := declarations(name, after)
	if err != nil || len(was) != len(is) {
		return nil, err
	}
	for i := range was {
		old, altered := before[was[i].Pos()-1:was[i].End()-1], after[is[i].Pos()-1:is[i].End()-1]
		if old == altered {
			continue
		}
		f, ok := is[i].(*ast.FuncDecl)
		g, was := was[i].(*ast.FuncDecl)
		if !ok || !was || f.Name.Name != g.Name.Name {
			return nil, nil
		}
		own := fmt.Sprintf("%s__%d", f.Name.Name, number)
		call, ok := callOf(f, own)
		if !ok {
			return nil, nil
		}
		list = append(list, change{
			at:   int(g.Body.Lbrace),
			head: fmt.Sprintf(" if mutation__ == %d { %s };", number, call),
			copy: "\n" + after[f.Pos()-1:f.Name.Pos()-1] + own + after[f.Name.End()-1:f.End()-1] + "\n",
		})
	}
	return list, nil
}

func declarations(name, text string) ([]ast.Decl, error) {
	f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return f.Decls, nil
}

// callOf is the statement that hands over from a function to its copy; ok is false where a parameter has no name.
func callOf(f *ast.FuncDecl, to string) (text string, ok bool) {
	names := func(list *ast.FieldList) (out []string) {
		for _, field := range list.List {
			if len(field.Names) == 0 {
				ok = false
			}
			for _, n := range field.Names {
				ok = ok && n.Name != "_"
				name := n.Name
				if _, rest := field.Type.(*ast.Ellipsis); rest {
					name += "..."
				}
				out = append(out, name)
			}
		}
		return out
	}
	ok = f.Body != nil && f.Type.TypeParams == nil
	if f.Recv != nil {
		to = strings.Join(names(f.Recv), "") + "." + to
	}
	text = to + "(" + strings.Join(names(f.Type.Params), ", ") + ")"
	if f.Type.Results == nil {
		return text + "; return", ok
	}
	return "return " + text, ok
}
