package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// named finds commands of ours in a text: "hostmesh" and the words and flags after it.
var named = regexp.MustCompile("\\bhostmesh ([a-z][a-z-]*(?: (?:-{1,2}[a-z][a-z-]*|[A-Za-z0-9/%+._-]+|\"[^\"]*\"))*)")

// wrongIn tells what is wrong with a command that a text names: words that there are no commands for, too many or too few of them, flags that it does not have. Words after a command may be prose:
// only flags, and names in capitals, are held against it.
func wrongIn(root *cobra.Command, text string) string {
	words := strings.Fields(text)
	cmd, depth := root, 0
	for depth < len(words) && cmd.HasSubCommands() {
		var next *cobra.Command
		for _, c := range cmd.Commands() {
			if c.Name() == words[depth] {
				next = c
			}
		}
		if next == nil {
			return "there is no command " + cmd.CommandPath() + " " + words[depth]
		}
		cmd, depth = next, depth+1
	}
	if cmd.Name() == "failover" && slices.Contains(words, "--force") && !slices.Contains(words, "-m") {
		return "--force needs -m"
	}
	for _, w := range words[depth:] {
		name := strings.TrimLeft(w, "-")
		if name == w || name == "" || name == "help" {
			continue
		}
		flag := cmd.Flags().Lookup(name)
		if flag == nil && len(name) == 1 {
			flag = cmd.Flags().ShorthandLookup(name)
		}
		if flag == nil {
			flag = cmd.InheritedFlags().Lookup(name)
		}
		if flag == nil {
			return cmd.CommandPath() + " has no flag " + w
		}
	}
	return ""
}

// TestCommandsThatTextsNameExist: whoever reads at three in the morning what to do about a database finds the command that is named. The texts are those of the diagnoses, of errors, and of the pages.
func TestCommandsThatTextsNameExist(t *testing.T) {
	var files []string
	for _, pattern := range []string{
		"../../lbd/mysqlha/*.go", "../../lbd/mysqlha/*/*.go", "../../lbd/mysqlha/testdata/*.txt", "../../node/mysql*.go", "../../node/api/mysql.go", "mysql*.go", "../../docs/mysql.md", "../../docs/mysql-servers.md",
	} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		files = append(files, names...)
	}
	a := &app{stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
	root := a.rootCommand()
	found := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if trimmed := strings.TrimSpace(line); strings.HasPrefix(trimmed, "//") || strings.HasPrefix(trimmed, "\"hostmesh/") {
				continue
			}
			line = strings.NewReplacer(`"+tag+"`, "TAG", `"+d.c.Tag+"`, "TAG", `"+c.Tag+"`, "TAG", `"+host+"`, "HOST", `"+host`, "HOST", `"+tag`, "TAG").Replace(line)
			line = strings.NewReplacer(`" + name + "`, "pause", `"+name+"`, "pause").Replace(line)
			for _, m := range named.FindAllStringSubmatch(line, -1) {
				if prose[strings.Fields(m[1])[0]] {
					continue
				}
				found++
				if why := wrongIn(root, m[1]); why != "" {
					t.Errorf("%s:%d: hostmesh %s: %s", name, i+1, m[1], why)
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d commands were found: texts have another form", found)
	}
}

// prose are words that follow the name of the program where no command is meant.
var prose = map[string]bool{"on": true, "is": true, "runs": true, "leads": true, "knows": true}
