package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/regent-ha/regent/"

// pure packages are values in and values out, so that a recorded view replays and the simulator runs the real
// decisions. They import the standard library and one another only.
var pure = []string{"internal/cluster", "internal/quorum", "internal/ha", "internal/loop"}

// leaves import nothing of ours, and every package that is not pure may import them.
var leaves = []string{"internal/boottime", "internal/version"}

// allowed says which packages of this module a package may import, beside the leaves.
var allowed = map[string][]string{
	"client":                {"internal/cluster"},
	"internal/agent":        {"internal/ha", "internal/quorum", "internal/loop", "internal/dcs", "internal/postgres", "internal/config", "internal/cluster", "internal/guard", "internal/watchdog", "internal/metrics"},
	"internal/arch":         {},
	"internal/boottime":     {},
	"internal/compat":       {}, // a test alone
	"internal/schema":       {},
	"internal/cluster":      {},
	"internal/config":       {"internal/cluster", "internal/postgres"},
	"internal/ctl":          {"client", "internal/cluster", "internal/config", "internal/dcs"},
	"internal/dcs":          {"internal/cluster"},
	"internal/guard":        {"internal/guard/process"},
	"internal/ha":           {"internal/cluster", "internal/quorum"},
	"internal/logging":      {"internal/config"},
	"internal/loop":         {"internal/ha", "internal/cluster", "internal/dcs"}, // dcs: its errors and the lock's type
	"internal/metrics":      {"internal/cluster", "internal/dcs"},
	"internal/operator":     {"api", "client", "internal/cluster"},
	"internal/postgres":     {"internal/cluster"},
	"internal/proxy":        {"client", "internal/cluster", "internal/dcs"},
	"internal/quorum":       {"internal/cluster"},
	"internal/rest":         {"internal/agent", "internal/dcs", "internal/cluster", "internal/config", "internal/metrics", "internal/ha"},
	"internal/sim":          {"internal/loop", "internal/ha", "internal/quorum", "internal/cluster", "internal/dcs", "internal/dcs/memory", "internal/postgres", "internal/config"},
	"internal/sim/explore":  {"internal/loop", "internal/ha", "internal/cluster", "internal/dcs"},
	"internal/version":      {},
	"internal/watchdog":     {},
	"internal/web":          {"client", "internal/cluster"},
	"internal/dcs/embedded": {"internal/dcs", "internal/cluster", "internal/dcs/etcd"}, // it is an etcd that we start ourselves
}

// early packages run before the rest of the program is initialized, because they import nothing else (package guard/process).
var early = map[string][]string{"internal/guard/process": {"sync/atomic", "syscall", "unsafe"}}

// families give a row to all packages below a folder that has none of its own.
var families = map[string][]string{
	"internal/dcs":      {"internal/dcs", "internal/cluster"},
	"internal/postgres": {"internal/postgres", "internal/cluster"},
	"internal/ctl":      {"internal/ctl", "client", "internal/cluster", "internal/config", "internal/dcs"},
	"api":               {},
}

// free packages wire others together and may import anything but cmd.
var free = []string{"cmd", "internal/demo", "test"}

// impure says why a package of the standard library has no place in a pure one.
var impure = map[string]string{
	"os": "it reaches the machine", "io/fs": "it reaches the disk", "path/filepath": "it reaches the disk", "syscall": "it reaches the machine",
	"net": "it reaches the network", "context": "nothing in a pure function can be cancelled", "sync": "a pure function has no other goroutine to wait for",
	"log": "what is decided is returned, not logged", "math/rand": "chance is a value that comes in", "crypto/rand": "chance is a value that comes in",
	"runtime": "the answer would depend on the process", "unsafe": "memory is not ours to look at",
}

// harmless packages lie below an impure one but do no I/O.
var harmless = []string{"net/url", "net/netip"}

// clock names what asks the time or waits; time's types are welcome.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

func within(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

func withinAny(pkg string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return within(pkg, f) })
}

// row returns what pkg may import, ok false when the tables do not know it.
func row(pkg string) (may []string, ok bool) {
	if may, ok = allowed[pkg]; ok {
		return may, true
	}
	for folder, may := range families {
		if strings.HasPrefix(pkg, folder+"/") {
			return may, true
		}
	}
	return nil, false
}

// importProblem returns why pkg must not import the path, "" when it may.
func importProblem(pkg, imported string, test bool) string {
	local, ours := strings.CutPrefix(imported, module)
	if ours && within(local, "cmd") {
		return "cmd wires everything together, so whoever imports it imports all"
	}
	if test || withinAny(pkg, free) || strings.HasSuffix(pkg, "test") { // dcstest, etcdtest, pgtest: only tests import them
		return ""
	}
	if may, ok := early[pkg]; ok && !slices.Contains(may, imported) {
		return fmt.Sprintf("the package is initialized before all others as long as it imports only %v", may)
	}
	isPure := slices.Contains(pure, pkg)
	thirdParty := strings.Contains(strings.SplitN(imported, "/", 2)[0], ".")
	switch {
	case ours && !isPure && slices.Contains(leaves, local):
		return ""
	case ours:
		return directionProblem(pkg, local)
	case thirdParty && isPure:
		return "a pure package uses the standard library only, so that its decisions depend on nothing else"
	case thirdParty && pkg == "client":
		return "client is public: whoever uses it must not inherit our dependencies"
	case isPure && !slices.Contains(harmless, imported):
		for folder, why := range impure {
			if within(imported, folder) {
				return "the package is pure, and " + why
			}
		}
	}
	return ""
}

func directionProblem(pkg, local string) string {
	may, ok := row(pkg)
	switch {
	case !ok:
		return "the package has no row in the table of this test: add one and draw its arrows in the design"
	case slices.Contains(may, local):
		return ""
	case strings.HasPrefix(pkg, "internal/dcs/") && strings.HasPrefix(local, "internal/dcs/"):
		return "backends do not know each other; what they share belongs to dcs, and cmd chooses one"
	case slices.Contains(pure, pkg):
		return fmt.Sprintf("the package is pure and may import only %v", may)
	default:
		return fmt.Sprintf("the arrows point from it to %v only; move the code, or turn the dependency into an interface of the consumer", may)
	}
}

// problems returns what is wrong with one file.
func problems(pkg, name string, file *ast.File) []string {
	var found []string
	test := strings.HasSuffix(name, "_test.go")
	for _, spec := range file.Imports {
		imported := strings.Trim(spec.Path.Value, `"`)
		if why := importProblem(pkg, imported, test); why != "" {
			found = append(found, fmt.Sprintf("%s/%s imports %s: %s", pkg, name, strings.TrimPrefix(imported, module), why))
		}
	}
	if test || !slices.Contains(pure, pkg) {
		return found
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, fmt.Sprintf("%s/%s starts a goroutine: a pure package computes and returns", pkg, name))
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
				found = append(found, fmt.Sprintf("%s/%s calls time.%s: in a pure package the time is a value that comes in, or nothing replays", pkg, name, n.Sel.Name))
			}
		}
		return true
	})
	return found
}

func TestArrowsPointOneWay(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	err = fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (d.Name() == "testdata" || d.Name() == "vendor" || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files++
		for _, p := range problems(path.Dir(name), path.Base(name), file) {
			t.Error(p)
		}
		return nil
	})
	if err != nil || files < 2 {
		t.Fatalf("walk the module: read %d files, %v; want all of its Go files", files, err)
	}
}

// The watch itself is watched: each rule finds what it forbids and nothing else.
func TestRules(t *testing.T) {
	for _, c := range []struct{ pkg, name, code, want string }{
		{"internal/cluster", "a.go", `import "time"; var d time.Duration`, ""},
		{"internal/cluster", "a.go", `import "net/url"`, ""},
		{"internal/cluster", "a.go", `import "net/http"`, "network"},
		{"internal/cluster", "a.go", `import "sync/atomic"`, "pure"},
		{"internal/cluster", "a_test.go", `import "os"`, ""},
		{"internal/cluster", "a.go", `import "github.com/regent-ha/regent/internal/ha"`, "pure"},
		{"internal/cluster", "a.go", `import "github.com/regent-ha/regent/internal/boottime"`, "pure"},
		{"internal/cluster", "a.go", `import "go.yaml.in/yaml/v3"`, "standard library"},
		{"internal/ha", "a.go", `import "time"; var now = time.Now()`, "time.Now"},
		{"internal/ha", "a.go", `func f() { go f() }`, "goroutine"},
		{"internal/ha", "a.go", `import "github.com/regent-ha/regent/internal/quorum"`, ""},
		{"internal/quorum", "a.go", `import "github.com/regent-ha/regent/internal/ha"`, "pure"},
		{"internal/dcs/etcd", "a.go", `import "github.com/regent-ha/regent/internal/dcs"`, ""},
		{"internal/dcs/etcd", "a.go", `import "github.com/regent-ha/regent/internal/boottime"`, ""},
		{"internal/dcs/etcd", "a.go", `import "github.com/regent-ha/regent/internal/dcs/memory"`, "backends"},
		{"internal/dcs/etcd", "a_test.go", `import "github.com/regent-ha/regent/internal/dcs/dcstest"`, ""},
		{"internal/dcs/embedded", "a.go", `import "github.com/regent-ha/regent/internal/dcs/etcd"`, ""},
		{"internal/ctl", "a.go", `import "github.com/regent-ha/regent/internal/agent"`, "arrows"},
		{"internal/guard/process", "a.go", `import "syscall"`, ""},
		{"internal/guard/process", "a.go", `import "os"`, "initialized before"},
		{"internal/rest", "a_test.go", `import "github.com/regent-ha/regent/cmd/regent"`, "cmd"},
		{"internal/demo", "a.go", `import "github.com/regent-ha/regent/cmd/regent"`, "cmd"},
		{"internal/demo", "a.go", `import "github.com/regent-ha/regent/internal/dcs/memory"`, ""},
		{"client", "a.go", `import "google.golang.org/grpc"`, "public"},
		{"internal/novel", "a.go", `import "github.com/regent-ha/regent/internal/cluster"`, "no row"},
	} {
		file, err := parser.ParseFile(token.NewFileSet(), c.name, "package p; "+c.code, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		have := strings.Join(problems(c.pkg, c.name, file), "\n")
		if (have == "") != (c.want == "") || !strings.Contains(have, c.want) {
			t.Errorf("%s/%s %s: have %q, want %q", c.pkg, c.name, c.code, have, c.want)
		}
	}
}
