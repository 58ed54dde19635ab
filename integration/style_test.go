package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// topLevel is the house as the design fixes it.
var topLevel = []string{
	".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "cmd", "dnsd", "docs", "examples",
	"go.mod", "go.sum", "hostdb", "integration", "lbd", "mesh", "node", "packaging", "vmd",
}

func repoFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "-C", "..", "ls-files").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestTopLevelIsFixed(t *testing.T) {
	for _, f := range repoFiles(t) {
		top, _, _ := strings.Cut(f, "/")
		if !slices.Contains(topLevel, top) {
			t.Errorf("%s: the top level of the house is fixed; find it a room in one of %q", f, topLevel)
		}
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	for _, p := range packages(t) {
		if p.Name == "main" || len(p.GoFiles) == 0 {
			continue
		}
		if !strings.HasPrefix(p.Doc, "Package "+p.Name+" ") || len(p.Doc) < 30 {
			t.Errorf("%s: its comment must begin with %q and say what it owns: %q", p.ImportPath, "Package "+p.Name, p.Doc)
		}
	}
}

// maxLines is where a file must answer what second thing lives in it.
const maxLines = 600

func TestSourceRules(t *testing.T) {
	fset := token.NewFileSet()
	for _, name := range repoFiles(t) {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		path := filepath.Join("..", name)
		src, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // deleted, not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		test := strings.HasSuffix(name, "_test.go")
		if n := strings.Count(string(src), "\n"); n > maxLines && !test {
			t.Errorf("%s has %d lines: what second thing lives in it?", name, n)
		}
		file, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		if file.Name.Name == "util" || file.Name.Name == "utils" || file.Name.Name == "common" {
			t.Errorf("%s: a package named %s owns nothing", name, file.Name.Name)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" && !test {
					t.Errorf("%s: init functions hide an order; pass what is needed", name)
				}
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok {
					break
				}
				pkg, _ := sel.X.(*ast.Ident)
				switch {
				case pkg != nil && pkg.Name == "os" && sel.Sel.Name == "Exit" && !test && !strings.HasPrefix(name, "cmd/") && !strings.HasPrefix(name, "integration/"):
					t.Errorf("%s: os.Exit belongs in cmd; return an error", fset.Position(n.Pos()))
				case pkg != nil && pkg.Name == "t" && (sel.Sel.Name == "Skip" || sel.Sel.Name == "Skipf" || sel.Sel.Name == "SkipNow"):
					t.Errorf("%s: a skipped test is a failed one; install what it needs", fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}
