package ha

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

const reasonsPage = "../../docs/reference/reasons.md"

// The page for operators is made from the comments beside the reasons. Rewrite it with -rewrite.
func TestReasonsPage(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	page.WriteString("# Reasons of decisions\n\nThe words that the log, the journal, `regent why` and `regent_decisions_total` use. They do not change their meaning.\n")
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			if v.Doc != nil {
				page.WriteString("\n## " + strings.TrimSuffix(strings.TrimSpace(v.Doc.Text()), ".") + "\n\n| Reason | Meaning |\n|---|---|\n")
			}
			word, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			if v.Comment == nil {
				t.Errorf("%s has no comment that says what it means", v.Names[0].Name)
				continue
			}
			page.WriteString("| `" + word + "` | " + strings.TrimSpace(v.Comment.Text()) + " |\n")
		}
	}
	if flag.Lookup("rewrite").Value.String() == "true" {
		if err := os.WriteFile(reasonsPage, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(reasonsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page.String() {
		t.Errorf("%s is not what reason.go says; run: go test ./internal/ha -run ReasonsPage -rewrite", reasonsPage)
	}
}
