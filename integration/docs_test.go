package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hostmesh/node"
)

// The documentation is executed. In docs/ a fenced block of the language console is run: lines that begin with "$ " are
// commands (a line that begins with "> " goes on with the one before), and what follows is what they print, on both
// outputs. There "..." stands for any text, alone on a line for any lines, and one blank for any number of them. A
// command must succeed unless it ends in "; true". Blocks of one page are one shell session on one fresh agent.
//
// "console mesh" is run on three agents instead, and "console mesh killed" after the third was killed. Other blocks are
// not run, but the commands and flags of hostmesh in them are looked up. In README.md the five-minute tour is run.

// fence is a fenced block of a page.
type fence struct {
	line int // of its first line of text
	info string
	text []string
}

// page is a page of documentation.
type page struct {
	name   string // path below the repository
	lines  []string
	fences []fence
	prose  []string // lines outside of fences; those inside are empty here
}

func readPage(t *testing.T, name string) page {
	t.Helper()
	p := page{name: name, lines: strings.Split(readFile(t, filepath.Join("..", name)), "\n")}
	open := -1
	for i, line := range p.lines {
		marker := strings.HasPrefix(line, "```")
		switch {
		case marker && open < 0:
			open = len(p.fences)
			p.fences = append(p.fences, fence{line: i + 2, info: strings.TrimSpace(strings.TrimLeft(line, "`"))})
		case marker:
			open = -1
		case open >= 0:
			p.fences[open].text = append(p.fences[open].text, line)
		}
		if marker || open >= 0 {
			line = ""
		}
		p.prose = append(p.prose, line)
	}
	if open >= 0 {
		t.Errorf("%s: a fenced block does not end", name)
	}
	return p
}

func allPages(t *testing.T) []page {
	t.Helper()
	var out []page
	for _, glob := range []string{"../*.md", "../docs/*.md", "../examples/*/*.md"} {
		names, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			out = append(out, readPage(t, strings.TrimPrefix(name, "../")))
		}
	}
	if len(out) < 8 {
		t.Fatalf("only %d pages are found", len(out))
	}
	return out
}

// command is one command of a page and what it prints.
type command struct {
	where string
	text  string
	want  []string // nil: whatever it likes
}

// commands are those of the blocks that have one of these languages.
func (p page) commands(infos ...string) []command {
	var out []command
	for _, f := range p.fences {
		if !slices.Contains(infos, f.info) {
			continue
		}
		for i, line := range f.text {
			last := len(out) - 1
			switch {
			case strings.HasPrefix(line, "$ "):
				out = append(out, command{where: fmt.Sprintf("%s:%d", p.name, f.line+i), text: line[2:]})
			case strings.HasPrefix(line, "> ") && out[last].want == nil:
				out[last].text += "\n" + line[2:]
			default:
				out[last].want = append(out[last].want, line)
			}
		}
	}
	return out
}

// files are those that the page tells to make: "put this into `NAME`", and the next block.
func (p page) files() map[string]string {
	out := map[string]string{}
	for i, line := range p.prose {
		if m := regexp.MustCompile("put this into `([a-z./]+)`").FindStringSubmatch(line); m != nil {
			next := slices.IndexFunc(p.fences, func(f fence) bool { return f.line > i })
			out[m[1]] = strings.Join(p.fences[next].text, "\n") + "\n"
		}
	}
	return out
}

// pattern matches output that is as shown.
func pattern(want []string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`\A`)
	for _, line := range want {
		line = blanks(line)
		if line == "..." {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), `\.\.\.`, `.*`) + `\n`)
	}
	return regexp.MustCompile(b.String() + `\z`)
}

// blanks makes columns alike: they are as wide as what stands in them.
func blanks(line string) string {
	return strings.TrimRight(regexp.MustCompile(`[ \t]+`).ReplaceAllString(line, " "), " ")
}

func normal(out string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(out, "\r", "")) {
		b.WriteString(blanks(strings.TrimRight(line, "\n")) + "\n")
	}
	return b.String()
}

// shell is a bash that runs the commands of a page one by one.
type shell struct {
	t       *testing.T
	dir     string
	in      io.WriteCloser
	done    *bufio.Scanner // a line with the exit code after each command
	n       int
	command *strings.Replacer // of the page's commands
	output  *strings.Replacer // of what they print
}

// newShell starts a bash in a directory that has bin/hostmesh and examples as the repository has.
func newShell(t *testing.T, environ ...string) *shell {
	t.Helper()
	s := &shell{t: t, dir: shortDir(t), command: strings.NewReplacer(), output: strings.NewReplacer()}
	examples, err := filepath.Abs("../examples")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"bin/hostmesh": binary(t), "examples": examples} {
		if err := os.Symlink(to, filepath.Join(s.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("bash", "--norc")
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH"))
	cmd.Env = append(append(cmd.Env, "CURL_HOME="+s.dir), environ...)
	if err := os.WriteFile(filepath.Join(s.dir, ".curlrc"), []byte("silent\nshow-error\n"), 0o600); err != nil { // as on a terminal
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out io.ReadCloser
	if s.in, err = cmd.StdinPipe(); err == nil {
		out, err = cmd.StdoutPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.done = bufio.NewScanner(out)
	t.Cleanup(func() {
		s.in.Close() // bash ends, and by its trap what it started
		_ = cmd.Wait()
	})
	// The trap counts if this process is killed, too: then the pipe ends.
	fmt.Fprintln(s.in, `trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT`)
	return s
}

// run runs a command and returns what it printed, and its exit code.
func (s *shell) run(text string) (out string, code string) {
	s.t.Helper()
	s.n++
	script, log := fmt.Sprintf("%s/%d.sh", s.dir, s.n), fmt.Sprintf("%s/%d.out", s.dir, s.n)
	if err := os.WriteFile(script, []byte(s.command.Replace(text)+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	fmt.Fprintf(s.in, ". %s </dev/null >%s 2>&1; echo $?\n", script, log)
	answered := make(chan bool, 1)
	go func() { answered <- s.done.Scan() }()
	select {
	case ok := <-answered:
		if !ok {
			s.t.Fatalf("%s: the shell ended", text)
		}
	case <-time.After(eventually):
		s.t.Fatalf("%s: it does not end within %s", text, eventually)
	}
	return s.output.Replace(readFile(s.t, log)), s.done.Text()
}

// check runs a command and compares. Reads are repeated for a while: a daemon follows a write in its own time.
func (s *shell) check(c command) {
	s.t.Helper()
	try := func() error {
		out, code := s.run(c.text)
		if code != "0" && !strings.HasSuffix(c.text, "; true") {
			return fmt.Errorf("exit code %s\n%s", code, out)
		}
		if got := normal(out); c.want != nil && !pattern(c.want).MatchString(got) {
			return fmt.Errorf("it prints\n%s\nwant\n%s", got, strings.Join(c.want, "\n"))
		}
		return nil
	}
	repeat := slices.ContainsFunc([]string{"dig ", "hostmesh status", "hostmesh members", "hostmesh lb list", "hostmesh lb show", "hostmesh lb explain", "hostmesh mysql status"}, func(read string) bool {
		return strings.HasPrefix(c.text, read)
	})
	err := try()
	for begin := time.Now(); err != nil && repeat && time.Since(begin) < eventually; err = try() {
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		s.t.Errorf("%s: %s: %v", c.where, c.text, err)
	}
}

// session runs the commands of a page that begin with an agent of --dev, which gets an address of its own, and returns
// a client of that agent.
func session(t *testing.T, list []command, files map[string]string) (s *shell, get func(path string) string) {
	t.Helper()
	addr := loopback(t)
	s = newShell(t)
	s.command = strings.NewReplacer("127.0.0.1", addr, "/tmp/hm", s.dir+"/hm", "hostmesh agent --dev", "hostmesh agent --dev --addr "+addr, "make build", "true")
	s.output = strings.NewReplacer(addr, "127.0.0.1", s.dir+"/hm", "/tmp/hm")
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(s.command.Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", s.dir+"/hm/agent.sock")
		}}}
	ask := func(path string) (string, error) {
		resp, err := c.Get("http://socket" + path)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", resp.Status, text)
		}
		return string(text), err
	}
	for _, x := range list {
		s.check(x)
		if strings.HasSuffix(x.text, " &") { // a person is slower than the agent
			wait(t, "the agent of "+x.where+" is ready", func() error { _, err := ask("/readyz"); return err })
		}
	}
	return s, func(path string) string {
		t.Helper()
		text, err := ask(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

// TestTour runs the five-minute tour of the README as it is written.
func TestTour(t *testing.T) {
	t.Parallel()
	p := readPage(t, "README.md")
	prints := map[string]string{
		"bin/hostmesh db get hosts/web1.dc1.example.com": "Network:", "bin/hostmesh schema DNS": "Zone", "bin/hostmesh status": "all is well",
		"bin/hostmesh db members list tags/web":                "web1.dc1.example.com",
		"bin/hostmesh db log hosts/web1.dc1.example.com -p":    "moved to another rack",
		`bin/hostmesh query 'has(Box) and Status != "active"'`: "maintenance", "bin/hostmesh doctor": "nothing is wrong",
		"bin/hostmesh explain web1.dc1.example.com Monitoring/Prometheus": "tags/web",
	}
	begin, end := slices.Index(p.lines, "## A five-minute tour"), slices.Index(p.lines, "## A mesh of your own")
	var list []command
	for _, f := range p.fences {
		if f.line < begin || f.line > end {
			continue
		}
		for i, text := range f.text {
			c := command{where: fmt.Sprintf("README.md:%d", f.line+i), text: text}
			switch {
			case strings.HasPrefix(text, "dig ") && strings.HasSuffix(text, " web1.dc1.example.com"), strings.HasPrefix(text, "curl "):
				c.want = []string{"10.1.9.9"}
			case strings.HasPrefix(text, "dig "):
				c.want = []string{"...", "10...", "..."}
			case prints[text] != "":
				c.want = []string{"...", "..." + prints[text] + "...", "..."}
				delete(prints, text)
			}
			list = append(list, c)
		}
	}
	if begin < 0 || len(list) < 10 || len(prints) > 0 {
		t.Fatalf("the tour has changed: %d commands, and none of %v", len(list), prints)
	}
	session(t, list, nil)
}

// TestDocsPages runs the pages, and looks up in what runs then all that they name of it.
func TestDocsPages(t *testing.T) {
	t.Parallel()
	metric := regexp.MustCompile(`hostmesh_[a-z_]*[a-z]`)
	endpoint := regexp.MustCompile(`/api/v1/[a-zA-Z0-9/{}._-]*[a-zA-Z0-9}]`)
	for _, name := range []string{"docs/http.md", "docs/dns.md", "docs/operating.md", "docs/doctor.md", "docs/access.md", "docs/api.md", "docs/query.md", "docs/history.md", "docs/duties.md", "docs/vms.md", "docs/images.md", "docs/load-balancing.md", "docs/mysql.md"} {
		t.Run(path.Base(name), func(t *testing.T) {
			t.Parallel()
			p := readPage(t, name)
			list := p.commands("console")
			if len(list) < 5 {
				t.Fatalf("it has %d commands", len(list))
			}
			s, get := session(t, list, p.files())
			s.run(`dig @127.0.0.1 -p 7953 mesh.internal SOA`) // metrics of queries appear with the first
			metrics := get("/metrics")
			text := strings.Join(p.lines, "\n")
			for _, m := range metric.FindAllString(text, -1) {
				if name == "docs/mysql.md" {
					continue // most are there with what they count, on who watches: TestDocsMySQL looks
				}
				if name == "docs/load-balancing.md" && (strings.Contains(text, "`"+m+"{") || strings.HasPrefix(m, "hostmesh_lb_haproxy_")) {
					continue // it is there with what it counts: TestElasticDNS looks, and package haproxy
				}
				if !regexp.MustCompile(`(?m)^` + m + `[ {]`).MatchString(metrics) {
					t.Errorf("%s: there is no metric %s", name, m)
				}
			}
			var api struct{ Paths map[string]any }
			if err := json.Unmarshal([]byte(get("/openapi.json")), &api); err != nil {
				t.Fatal(err)
			}
			told := map[string]bool{}
			for _, e := range endpoint.FindAllString(text, -1) {
				found := false
				for known := range api.Paths {
					if ok, err := path.Match(regexp.MustCompile(`\{[a-z]+\}`).ReplaceAllString(known, "*"), e); ok && err == nil {
						found, told[known] = true, true
					}
				}
				if !found {
					t.Errorf("%s: there is no endpoint %s", name, e)
				}
			}
			if name == "docs/http.md" {
				for known := range api.Paths {
					if !told[known] {
						t.Errorf("%s does not tell of %s", name, known)
					}
				}
			}
		})
	}
}

// TestDocsMesh compares what docs/operating.md shows of a mesh of three with one.
func TestDocsMesh(t *testing.T) {
	t.Parallel()
	p := readPage(t, "docs/operating.md")
	well, killed := p.commands("console mesh"), p.commands("console mesh killed")
	if len(well) == 0 || len(killed) == 0 {
		t.Fatal("the page shows no mesh")
	}
	site := newSite(t, 3)
	var names []string
	for i, b := range site.boxes {
		dc, rack := "dc1", fmt.Sprintf("r1%d", i+1)
		b.settings = append(b.settings, fmt.Sprintf("labels: {datacenter: %s, rack: %s}", dc, rack))
		names = append(names, b.addr+":7950", "127.0.0.1:7950", b.name, fmt.Sprintf("box1%d.dc1.example.com", i+1), b.addr, fmt.Sprintf("10.1.0.1%d", i+1), b.dir, "/var/lib/hostmesh")
	}
	names = append(names, ":7953", ":53")
	site.start()
	s := newShell(t, "HOSTMESH_SOCKET="+site.boxes[0].socket())
	s.output = strings.NewReplacer(names...)
	s.run("hostmesh db import examples/inventory -m first")
	for _, c := range well {
		s.check(c)
	}
	site.boxes[2].kill()
	for _, c := range killed {
		s.check(c)
	}
}

// TestDocsConfiguration: the table of docs/operating.md has every setting, and none that is not there.
func TestDocsConfiguration(t *testing.T) {
	p := readPage(t, "docs/operating.md")
	row := regexp.MustCompile("^\\| `([a-z_.]+)` \\| `--([a-z-]+)` \\| `(HOSTMESH_[A-Z_]+)` \\| ([^|]+) \\| ([^|]+) \\|$")
	rows := map[string][]string{}
	for _, line := range p.prose {
		if m := row.FindStringSubmatch(line); m != nil {
			rows[m[1]] = m
		}
	}
	for _, f := range node.Flags() {
		m := rows[f.Key]
		delete(rows, f.Key)
		switch {
		case m == nil:
			t.Errorf("the table of settings does not have %s", f.Key)
		case m[2] != f.Name || m[3] != f.Env():
			t.Errorf("%s: the table has --%s and %s; they are --%s and %s", f.Key, m[2], m[3], f.Name, f.Env())
		}
		def := node.DefaultConfig()
		for key, value := range map[string]string{"data_dir": def.DataDir, "dns.domain": def.DNS.Domain, "http": fmt.Sprint(node.HTTPPort), "https": fmt.Sprint(node.HTTPSPort)} {
			if m != nil && key == f.Key && !strings.Contains(m[4], value) {
				t.Errorf("%s: the default is %s", key, value)
			}
		}
	}
	for key := range rows {
		t.Errorf("the table of settings has %s, which does not exist", key)
	}
}

// TestDocsErrorCodes: the table of docs/http.md has every code that /v1 can answer with.
func TestDocsErrorCodes(t *testing.T) {
	known := map[string]bool{}
	for _, file := range []string{"../hostdb/rest/errors.go", "../hostdb/auth/errors.go"} {
		for _, m := range regexp.MustCompile(`(?m)^\s+\w+ +[cC]ode += (\d{4})`).FindAllStringSubmatch(readFile(t, file), -1) {
			known[m[1]] = true
		}
	}
	if len(known) < 20 {
		t.Fatalf("only %d codes are found in the code", len(known))
	}
	p := readPage(t, "docs/http.md")
	told := map[string]bool{}
	for _, line := range p.prose {
		if m := regexp.MustCompile(`^\| (\d{4}) \|`).FindStringSubmatch(line); m != nil {
			told[m[1]] = true
		}
	}
	for code := range known {
		if !told[code] {
			t.Errorf("docs/http.md does not tell of %s", code)
		}
	}
	for code := range told {
		if !known[code] {
			t.Errorf("docs/http.md tells of %s, which no answer has", code)
		}
	}
	for _, p := range allPages(t) {
		for _, m := range regexp.MustCompile("`([45]\\d{3})`").FindAllStringSubmatch(strings.Join(p.prose, "\n"), -1) {
			if !known[m[1]] {
				t.Errorf("%s: there is no code %s", p.name, m[1])
			}
		}
	}
}

// TestDocsCommands: the commands and flags of hostmesh that any page names are there. The reference is the help, which
// a test of the command line keeps true.
func TestDocsCommands(t *testing.T) {
	help := map[string]string{} // by command
	name := ""
	all := readFile(t, "../cmd/hostmesh/testdata/help.txt")
	for line := range strings.Lines(all) {
		if c, ok := strings.CutSuffix(strings.TrimSpace(line), " --help"); ok && strings.HasPrefix(c, "$ hostmesh") {
			name = c[2:]
		}
		help[name] += line
	}
	flag := regexp.MustCompile(`(?:^|[ (])--([a-z][a-z0-9-]+)`)
	span := regexp.MustCompile("`([^`]+)`")
	seen := 0
	look := func(where, text string) {
		if strings.HasPrefix(text, "--") {
			if m := flag.FindStringSubmatch(text); m != nil && !strings.Contains(all, " --"+m[1]+" ") {
				t.Errorf("%s: no command has the flag --%s", where, m[1])
			}
			return
		}
		text = strings.TrimPrefix(strings.TrimPrefix(text, "$ "), "bin/")
		if !strings.HasPrefix(text, "hostmesh ") {
			return
		}
		seen++
		text, _, _ = strings.Cut(text, "|")
		cmd := ""
		for _, word := range strings.Fields(text) {
			if next := strings.TrimSpace(cmd + " " + word); help[next] != "" {
				cmd = next
			} else if !strings.HasPrefix(word, "-") {
				break
			}
		}
		words := strings.Fields(text)
		if cmd == "hostmesh" && len(words) > 1 && regexp.MustCompile(`^[a-z]+$`).MatchString(words[1]) && words[1] != "completion" {
			t.Errorf("%s: there is no command %s", where, strings.Join(words[:2], " "))
		}
		for _, m := range flag.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(help[cmd], " --"+m[1]+" ") {
				t.Errorf("%s: %s has no flag --%s", where, cmd, m[1])
			}
		}
	}
	for _, p := range allPages(t) {
		for i, line := range p.prose {
			for _, m := range span.FindAllStringSubmatch(line, -1) {
				look(fmt.Sprintf("%s:%d", p.name, i+1), m[1])
			}
		}
		for _, f := range p.fences {
			for i, line := range f.text {
				look(fmt.Sprintf("%s:%d", p.name, f.line+i), strings.TrimSpace(line))
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d commands are found: the pages or this test are wrong", seen)
	}
}

// TestDocsLogLines: what docs/operating.md tells to look for in the log is logged.
func TestDocsLogLines(t *testing.T) {
	var source strings.Builder
	for _, name := range repoFiles(t) {
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			if text, err := os.ReadFile(filepath.Join("..", name)); err == nil {
				source.Write(text)
			}
		}
	}
	p := readPage(t, "docs/operating.md")
	begin, n := slices.Index(p.lines, "## Log lines to know"), 0
	for i, line := range p.prose[max(0, begin):] {
		if i > 0 && strings.HasPrefix(line, "## ") {
			break
		}
		if m := regexp.MustCompile("^\\| `([^`]+)` \\|").FindStringSubmatch(line); m != nil {
			if n++; !strings.Contains(source.String(), `"`+m[1]) {
				t.Errorf("nothing logs %q", m[1])
			}
		}
	}
	if n < 10 {
		t.Errorf("%d log lines are found in the page", n)
	}
}

// TestDocsLinks: links between pages lead somewhere.
func TestDocsLinks(t *testing.T) {
	pages := map[string]page{}
	for _, p := range allPages(t) {
		pages[p.name] = p
	}
	anchor := func(p page, want string) bool {
		return slices.ContainsFunc(p.prose, func(line string) bool {
			title := strings.TrimLeft(line, "#")
			if title == line {
				return false
			}
			slug := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			return strings.ReplaceAll(slug, " ", "-") == want
		})
	}
	links := 0
	for _, p := range pages {
		for i, line := range p.prose {
			for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(line, -1) {
				target, fragment, _ := strings.Cut(m[1], "#")
				if strings.Contains(target, "://") {
					continue
				}
				links++
				file := p.name
				if target != "" {
					file = path.Join(path.Dir(p.name), target)
				}
				if _, err := os.Stat(filepath.Join("..", file)); err != nil {
					t.Errorf("%s:%d: %s leads nowhere", p.name, i+1, m[1])
				} else if to, ok := pages[file]; fragment != "" && !(ok && anchor(to, fragment)) {
					t.Errorf("%s:%d: %s has no such heading", p.name, i+1, m[1])
				}
			}
		}
	}
	if links < 10 {
		t.Errorf("only %d links are found", links)
	}
}
