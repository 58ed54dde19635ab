package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hostmesh/lbd/mysqlha"
)

// below is all that stands in the files of a directory, without tests.
func below(t *testing.T, dirs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(text)
		}
	}
	return b.String()
}

// TestDocsMySQL holds docs/mysql.md against what it tells of: each metric, log line, step and act is there, and is told.
func TestDocsMySQL(t *testing.T) {
	t.Parallel()
	page := readFile(t, "../docs/mysql.md")
	watch, local := below(t, "lbd/mysqlha"), below(t, "lbd/mysqlha/local")

	metrics := map[string]bool{}
	for _, m := range regexp.MustCompile(`\bdesc\("([a-z_]+)", "`).FindAllStringSubmatch(watch, -1) {
		metrics["hostmesh_mysql_"+m[1]] = true
	}
	for _, m := range regexp.MustCompile(`(?m)^\t\t"([a-z_]+)": +"[A-Z]`).FindAllStringSubmatch(local, -1) {
		metrics["hostmesh_mysql_local_"+m[1]] = true
	}
	for _, m := range regexp.MustCompile(`NewDesc\("(hostmesh_mysql_local_[a-z_]+[a-z])"`).FindAllStringSubmatch(local, -1) {
		metrics[m[1]] = true
	}
	if len(metrics) < 20 {
		t.Fatalf("only %d metrics are found: the files have another form", len(metrics))
	}
	for m := range metrics {
		if !regexp.MustCompile("`" + m + "[`{]").MatchString(page) {
			t.Errorf("docs/mysql.md does not tell of the metric %s", m)
		}
	}
	for _, m := range regexp.MustCompile("`(hostmesh_mysql_[a-z_]+)[`{]").FindAllStringSubmatch(page, -1) {
		if !metrics[m[1]] {
			t.Errorf("docs/mysql.md: there is no metric %s", m[1])
		}
	}

	_, log, _ := strings.Cut(page, "| log line | says |")
	log, _, _ = strings.Cut(log, "\n## ")
	lines := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(log, -1)
	if len(lines) < 15 {
		t.Fatalf("the page has %d log lines", len(lines))
	}
	sources := watch + local + below(t, "node")
	for _, l := range lines {
		if !strings.Contains(sources, `"`+l[1]+`"`) {
			t.Errorf("docs/mysql.md: nothing logs %q", l[1])
		}
	}

	for _, kind := range []mysqlha.Kind{mysqlha.Failover, mysqlha.Switchover} {
		for _, step := range append(mysqlha.Steps(kind), mysqlha.StepWithdraw) {
			if !strings.Contains(page, "`"+string(step)+"`") {
				t.Errorf("docs/mysql.md does not explain the step %s of a %s", step, kind)
			}
		}
	}
	acts := regexp.MustCompile(`(?m)^\tAct[A-Za-z]+ +Act = "([a-z-]+)"`).FindAllStringSubmatch(watch, -1)
	if len(acts) < 15 {
		t.Fatalf("%d acts are found", len(acts))
	}
	_, table, _ := strings.Cut(page, "| act | what is done | when |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, a := range acts {
		if !strings.Contains(table, "`"+a[1]+"`") {
			t.Errorf("docs/mysql.md does not explain the act %s", a[1])
		}
	}
}

// TestRunbook: each diagnosis has an entry, and says what to do; they stand in the order of urgency.
func TestRunbook(t *testing.T) {
	t.Parallel()
	page := readFile(t, "../docs/mysql.md")
	_, book, found := strings.Cut(page, "\n## Runbook\n")
	book, _, _ = strings.Cut(book, "\n## ")
	if !found {
		t.Fatal("docs/mysql.md has no runbook")
	}
	last := -1
	for _, name := range mysqlha.Names() {
		at := strings.Index(book, "\n### "+string(name)+"\n")
		if at < 0 {
			t.Errorf("docs/mysql.md has no entry for %q: add it to its runbook", name)
			continue
		}
		if at < last {
			t.Errorf("%q stands before what is more urgent", name)
		}
		last = at
		entry, _, _ := strings.Cut(book[at+4:], "\n### ")
		if !strings.Contains(entry, "**What to do**: ") {
			t.Errorf("%q does not say what to do", name)
		}
	}
}

// TestDocsServerFile: the server's file of the page is one that the check has nothing to say about.
func TestDocsServerFile(t *testing.T) {
	t.Parallel()
	p := readPage(t, "docs/mysql.md")
	i := slices.IndexFunc(p.fences, func(f fence) bool { return f.info == "ini" })
	if i < 0 {
		t.Fatal("the page has no server's file")
	}
	settings := map[string]string{}
	for _, line := range p.fences[i].text {
		if name, value, ok := strings.Cut(line, "="); ok {
			settings[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	if len(settings) < 15 {
		t.Fatalf("it has %d settings", len(settings))
	}
	settings["log_bin"] = "ON" // the server says so of one that has a name
	for _, s := range mysqlha.Check(mysqlha.Facts{Flavour: mysqlha.MariaDB, Settings: settings}, mysqlha.OnReplica, true) {
		if !strings.HasSuffix(s.Name, "_enabled") { // set by the agents, by role
			t.Errorf("%s is %q, and is to be %q: %s", s.Name, s.Have, s.Want, s.Why)
		}
	}
}
