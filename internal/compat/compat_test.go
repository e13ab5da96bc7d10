package compat

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the tables of the page anew")

const (
	root  = "../.."
	lists = root + "/docs/reference/compat/*.txt"
	page  = root + "/docs/reference/compatibility.md"
	// marker divides the page: above it people write, below it this test.
	marker = "<!-- What follows is made from docs/reference/compat by: go test ./internal/compat -rewrite -->\n"
)

// count is how many rows a list has, by what is said of them.
type count struct{ shown, differs, missing, left int }

func TestPage(t *testing.T) {
	files, err := filepath.Glob(lists)
	if err != nil || len(files) == 0 {
		t.Fatalf("have no lists %s: %v", lists, err)
	}
	var tables, summary strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		title, n, body := render(t, filepath.Base(file), string(text))
		tables.WriteString(body)
		fmt.Fprintf(&summary, "| %s | %d | %d | %d | %d |\n", title, n.shown, n.differs, n.missing, n.left)
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	above, _, _ := strings.Cut(string(have), marker)
	want := above + marker + "\n# What is shown by which test\n\n" +
		"| | shown as in Patroni | shown, different on purpose | missing | left out |\n|---|---|---|---|---|\n" + summary.String() + tables.String()
	if *rewrite {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(have) != want {
		t.Errorf("%s is not what the lists say; run: go test ./internal/compat -rewrite", page)
	}
}

// render makes the tables of one list.
func render(t *testing.T, file, text string) (title string, n count, body string) {
	t.Helper()
	var b strings.Builder
	folder := ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		bad := func(format string, args ...any) {
			t.Helper()
			t.Errorf("%s:%d: %s", file, i+1, fmt.Sprintf(format, args...))
		}
		switch {
		case line == "":
		case strings.HasPrefix(line, "# "):
			title = line[2:]
			b.WriteString("\n## " + title + "\n")
		case strings.HasPrefix(line, "## "):
			b.WriteString("\n### " + line[3:] + "\n\n| What | Shown by | Remark |\n|---|---|---|\n")
		case strings.HasPrefix(line, "in "):
			folder = line[3:]
		default:
			cells := strings.Split(line, " | ")
			if len(cells) == 2 {
				cells = append(cells, "")
			}
			if len(cells) != 3 || cells[0] == "" {
				bad("have %d cells, want what, tests and a remark between blanks and bars", len(cells))
				continue
			}
			remark, tests := cells[2], shown(cells[1], folder, bad)
			switch {
			case len(tests) > 0 && remark == "":
				n.shown++
			case len(tests) > 0:
				n.differs++
			case strings.HasPrefix(remark, "missing: "):
				n.missing++
			case strings.HasPrefix(remark, "not: "):
				n.left++
			default:
				bad(`without a test the remark begins with "missing: " or "not: " and says more`)
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", cells[0], strings.Join(tests, ", "), remark)
		}
	}
	return title, n, b.String()
}

var testName = regexp.MustCompile(`^(?:([a-z0-9/]+)\.)?((?:Test|Fuzz)\w*)(?:/(.+))?$`)

// shown checks the tests of a row and returns them as the page shows them.
func shown(cell, folder string, bad func(string, ...any)) (tests []string) {
	if cell = strings.TrimSpace(cell); cell == "-" {
		return nil
	}
	for _, name := range strings.Split(cell, ", ") {
		m := testName.FindStringSubmatch(strings.TrimSpace(name))
		if m == nil {
			bad("have %q, want - or tests such as TestName, TestName/recorded-*.txt, internal/rest.TestName", name)
			continue
		}
		in := folder
		if m[1] != "" {
			in = m[1]
		}
		if !testsOf(in)[m[2]] {
			bad("there is no test %s in %s", m[2], in)
		}
		if m[3] != "" {
			if found, err := filepath.Glob(filepath.Join(root, in, "testdata", m[3])); err != nil || len(found) == 0 {
				bad("no file fits %s in %s/testdata", m[3], in)
			}
		}
		tests = append(tests, "`"+strings.TrimSpace(name)+"`")
	}
	return tests
}

var known = map[string]map[string]bool{}

// testsOf are the names of the tests in a folder.
func testsOf(folder string) map[string]bool {
	if names := known[folder]; names != nil {
		return names
	}
	names := map[string]bool{}
	files, _ := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			continue // a package that does not build has no tests
		}
		for _, d := range parsed.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[fn.Name.Name] = true
			}
		}
	}
	known[folder] = names
	return names
}

func TestWrongRowsAreFound(t *testing.T) {
	for row, want := range map[string]string{
		"a | TestNoSuchThing":          "there is no test TestNoSuchThing in internal/compat",
		"a | TestPage/nosuch*.txt":     "no file fits nosuch*.txt in internal/compat/testdata",
		"a | internal/nosuch.TestPage": "there is no test TestPage in internal/nosuch",
		"a | yes":                      `have "yes", want - or tests such as TestName, TestName/recorded-*.txt, internal/rest.TestName`,
		"a | TestPage":                 "",
		"a | TestPage, internal/rest.TestMatrices | b": "",
	} {
		have := ""
		shown(strings.Split(row, " | ")[1], "internal/compat", func(format string, args ...any) { have = fmt.Sprintf(format, args...) })
		if have != want {
			t.Errorf("%s: have %q, want %q", row, have, want)
		}
	}
}
