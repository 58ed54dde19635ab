package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that the page on conformance names is there, and runs: it is no comment, and not behind a skip.
func TestConformanceNamesTests(t *testing.T) {
	text, err := os.ReadFile("../docs/dns-conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, dir := range []string{"dnsd", "dnsd/transfer", "dnsd/zone"} {
		files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
					have[dir+"."+fn.Name.Name] = true
				}
			}
		}
	}
	named := regexp.MustCompile("`([a-z/]+\\.(?:Test|Fuzz)[A-Za-z0-9]+)`")
	lines := 0
	for line := range strings.Lines(string(text)) {
		found := named.FindAllStringSubmatch(line, -1)
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| RFC") {
			if lines++; len(found) == 0 {
				t.Errorf("no test is named in: %s", line)
			}
		}
		for _, m := range found {
			if !have[m[1]] {
				t.Errorf("%s does not exist", m[1])
			}
		}
	}
	if lines < 30 {
		t.Errorf("%d lines were found", lines)
	}
}
