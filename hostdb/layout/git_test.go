package layout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/hostdb/layout"
)

// git runs git for a test.
func git(t testing.TB, dir, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=alice", "GIT_AUTHOR_EMAIL=alice@example.com", "GIT_COMMITTER_NAME=alice", "GIT_COMMITTER_EMAIL=alice@example.com")
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, errs.String())
	}
	return out.String()
}

// history makes a repository of whole trees, without a work tree.
type history struct {
	t      testing.TB
	dir    string
	stream strings.Builder
	n      int
	began  bool
}

func newHistory(t testing.TB) *history {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo.git")
	git(t, ".", "", "init", "-q", "--bare", "--initial-branch=main", dir)
	return &history{t: t, dir: dir}
}

// commit adds a commit of a tree, by an author of his own, at a time and in a zone of its own.
func (h *history) commit(log string, tree map[string]string) {
	h.n++
	fmt.Fprintf(&h.stream, "commit refs/heads/main\nauthor user %d <user%d@example.com> %d %s\ncommitter git <git@example.com> %d +0000\ndata %d\n%s\n",
		h.n%7, h.n%7, 1_400_000_000+h.n*60, []string{"+0000", "+0530", "-0700", "+0200"}[h.n%4], 1_400_000_000+h.n*60, len(log), log)
	if !h.began && h.n > 1 {
		h.stream.WriteString("from refs/heads/main^0\n")
	}
	h.began = true
	h.stream.WriteString("deleteall\n")
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		fmt.Fprintf(&h.stream, "M 100644 inline %s\ndata %d\n%s\n", name, len(tree[name]), tree[name])
	}
}

// flush has git take the commits.
func (h *history) flush() {
	h.t.Helper()
	git(h.t, h.dir, h.stream.String(), "fast-import", "--quiet", "--date-format=raw-permissive")
	h.stream.Reset()
	h.began = false
}

func (h *history) open() (*layout.GitRepo, layout.GitBranch) {
	h.t.Helper()
	repo, err := layout.OpenGit(context.Background(), h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	b, err := repo.Branch(context.Background(), "")
	if err != nil {
		h.t.Fatal(err)
	}
	return repo, b
}

// stream is what an import of the branch goes by, as HostDB stands.
func (h *history) streamFor(v hostdb.View) []byte {
	h.t.Helper()
	repo, b := h.open()
	send := layout.GitSend{Branch: b}
	for _, m := range layout.GitMarkers(v) {
		if m.ID == b.ID() {
			send.After, send.Marker, send.Wait = m.Commit, m.Commit, m.Waiting
		}
	}
	var out bytes.Buffer
	if _, err := repo.Send(context.Background(), &out, send); err != nil {
		h.t.Fatal(err)
	}
	return out.Bytes()
}

func importStream(s *hostdb.Store, stream io.Reader) (layout.GitReport, error) {
	in, err := layout.NewGitReader(stream)
	if err != nil {
		return layout.GitReport{}, err
	}
	return layout.ImportGit(context.Background(), s, in, importer, nil)
}

func (h *history) importInto(s *hostdb.Store) layout.GitReport {
	h.t.Helper()
	r, err := importStream(s, bytes.NewReader(h.streamFor(s.View())))
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// checkout is a store with the head of the repository imported as a directory.
func (h *history) checkout() hostdb.View {
	h.t.Helper()
	repo, b := h.open()
	fsys, ps, err := repo.Checkout(context.Background(), b.Tree)
	if err != nil || ps.Total > 0 {
		h.t.Fatalf("%v %q", err, texts(ps))
	}
	s := openStore(h.t, nil)
	mustImport(h.t, s, fsys)
	return s.View()
}

// randomTree changes a tree as people and their scripts do, and makes it worse now and then.
func randomTree(r *rand.Rand, tree map[string]string, n int) (log string) {
	pick := func(prefix string) string {
		var list []string
		for name := range tree {
			if strings.HasPrefix(name, prefix) && strings.Count(name, "/") == strings.Count(prefix, "/") {
				list = append(list, name)
			}
		}
		if len(list) == 0 {
			return ""
		}
		slices.Sort(list)
		return list[r.IntN(len(list))]
	}
	base := func(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
	sub := func(old, new string) { // in all lists, as the old HostDB does
		for name, text := range tree {
			if strings.Contains(name, "/.members/") {
				var lines []string
				for line := range strings.Lines(text) {
					switch {
					case strings.TrimSpace(line) != old:
						lines = append(lines, line)
					case new != "":
						lines = append(lines, new+"\n")
					}
				}
				tree[name] = strings.Join(lines, "")
			}
		}
	}
	data := func() string {
		return fmt.Sprintf("A:\n  x: %d\n  y: [%d, a]\nB: 0%d\nC: {D: {E: %d}}\n", r.IntN(5), r.IntN(3), r.IntN(8), r.IntN(3))
	}
	member := func() string {
		switch r.IntN(8) {
		case 0:
			return fmt.Sprintf("h%d", 900+r.IntN(30)) // most of them come later, or never
		case 1:
			return fmt.Sprintf("@t%d", r.IntN(20))
		case 2:
			return "# a comment " + fmt.Sprint(n)
		}
		if h := pick("hosts/"); h != "" {
			return base(h)
		}
		return "h1"
	}
	for range 1 + r.IntN(3) {
		switch r.IntN(16) {
		case 0, 1, 2:
			tree[fmt.Sprintf("hosts/h%d", r.IntN(60))] = data()
			log = "host"
		case 3:
			tree[fmt.Sprintf("hosts/h%d", 900+r.IntN(30))] = data()
			log = "a host that lists have named for long"
		case 4, 5:
			tag := fmt.Sprintf("t%d", r.IntN(20))
			if _, ok := tree["tags/"+tag]; !ok || r.IntN(3) == 0 {
				tree["tags/"+tag] = []string{"", data(), "null\n", "{}\n"}[r.IntN(4)]
			}
			lines := strings.SplitAfter(tree["tags/.members/"+tag], "\n")
			at := r.IntN(len(lines))
			lines = slices.Insert(lines, at, member()+"\n")
			tree["tags/.members/"+tag] = strings.Join(lines, "")
			log = "member"
		case 6:
			if f := pick("tags/.members/"); f != "" {
				lines := strings.SplitAfter(tree[f], "\n")
				at := r.IntN(len(lines))
				tree[f] = strings.Join(slices.Delete(lines, at, at+1), "")
				if r.IntN(5) == 0 {
					delete(tree, f)
				}
			}
			log = "member goes"
		case 7:
			if f := pick("hosts/"); f != "" {
				to := fmt.Sprintf("h%d", 100+n*3+r.IntN(3))
				tree["hosts/"+to] = tree[f]
				delete(tree, f)
				if r.IntN(6) > 0 {
					sub(base(f), to)
				}
			}
			log = "rename a host"
		case 8:
			if f := pick("tags/"); f != "" {
				to := fmt.Sprintf("u%d", n)
				for _, dir := range []string{"tags/", "tags/.members/", "tags/.perms/"} {
					if text, ok := tree[dir+base(f)]; ok {
						tree[dir+to] = text
						delete(tree, dir+base(f))
					}
				}
				sub("@"+base(f), "@"+to)
			}
			log = "rename a tag"
		case 9:
			if f := pick("hosts/"); f != "" {
				delete(tree, f)
				if r.IntN(4) > 0 {
					sub(base(f), "")
				}
			}
			log = "delete a host"
		case 10:
			if f := pick("tags/"); f != "" && r.IntN(2) == 0 {
				for _, dir := range []string{"tags/", "tags/.members/", "tags/.perms/"} {
					if r.IntN(5) > 0 {
						delete(tree, dir+base(f))
					}
				}
				sub("@"+base(f), "")
			}
			log = "delete a tag"
		case 11:
			if f := pick("tags/"); f != "" {
				tree["tags/.perms/"+base(f)] = []string{"alice: {data: RW}\n", "bob: {members: RO}\n", "- no mapping\n", "", "a: b: c\n"}[r.IntN(5)]
			}
			log = "perms"
		case 12:
			tree[[]string{"tags", "hosts", "vips"}[r.IntN(3)]+"/.perms/.default"] = fmt.Sprintf("ops: {data: RW, perms: %s}\n", []string{"RO", "RW"}[r.IntN(2)])
			log = "perms of a namespace"
		case 13:
			if f := pick([]string{"hosts/", "tags/", "tags/.members/"}[r.IntN(3)]); f != "" {
				tree[f] += []string{"<<<<<<< HEAD\n", "\tx: [\n", "\xff\xfe\n", "a: 1\na: 2\n"}[r.IntN(4)]
			}
			log = "broken"
		case 14:
			tree[[]string{"README.md", ".gitignore", "hosts/.swp", "tags/sub/dir/x", "vips/-odd name", "hosts/@at"}[r.IntN(6)]] = fmt.Sprint("text ", n)
			log = "other files"
		default:
			if f := pick("hosts/"); f != "" {
				tree[f] = data()
			}
			log = "edit"
		}
	}
	return fmt.Sprintf("%s\n\nof commit %d, äöü", log, n)
}

// mend makes a tree one that can be imported whole.
func mend(tree map[string]string) {
	delete(tree, "hosts/@at")
	delete(tree, "tags/sub/dir/x")
	for name, text := range tree {
		parts := strings.Split(name, "/")
		if len(parts) == 3 && parts[1] == ".members" {
			var lines []string
			for line := range strings.Lines(text) {
				m := strings.TrimSpace(line)
				inherited, isKey := strings.CutPrefix(m, "@")
				switch {
				case hostdb.CheckName(inherited) != nil && !strings.HasPrefix(m, "#"):
					continue
				case isKey && inherited >= parts[2]:
					continue // no cycles
				case isKey:
					if _, ok := tree[parts[0]+"/"+inherited]; !ok {
						continue
					}
				case !strings.HasPrefix(m, "#"):
					if _, ok := tree["hosts/"+m]; !ok {
						tree["hosts/"+m] = "came: late\n"
					}
				}
				lines = append(lines, line)
			}
			tree[name] = strings.Join(lines, "")
		}
	}
	for name, text := range tree {
		parts := strings.Split(name, "/")
		if len(parts) == 2 {
			if _, err := hostdb.ParseDocument([]byte(text)); err != nil {
				tree[name] = "mended: true\n"
			}
		}
		if len(parts) == 3 && parts[1] == ".perms" {
			if _, err := hostdb.ParseACL([]byte(text)); err != nil {
				tree[name] = "mended: {data: RW}\n"
			}
		}
	}
}

func TestGitImportEndsWhereItsHeadIs(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			h := newHistory(t)
			tree := map[string]string{"hosts/h1": "x: 1\n"}
			h.commit("first", tree)
			for n := range 300 {
				log := randomTree(r, tree, n)
				if n == 299 {
					mend(tree)
				}
				h.commit(log, tree)
			}
			h.flush()
			s := openStore(t, nil)
			report := h.importInto(s)
			sameView(t, h.checkout(), s.View())
			if report.Commits != 301 || report.Operations < 200 || report.Operations > 301 {
				t.Errorf("%d commits, %d operations", report.Commits, report.Operations)
			}
			_, b := h.open()
			if report.Last != b.Head {
				t.Errorf("noted %s, the head is %s", report.Last, b.Head)
			}
			before := s.View().Version()
			if again := h.importInto(s); again.Commits != 0 || s.View().Version() != before {
				t.Errorf("importing again: %+v", again)
			}
		})
	}
}

// An import is stopped at any moment, and goes on in pieces, with a store that is opened anew.
func TestGitImportInPieces(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			h := newHistory(t)
			tree := map[string]string{}
			m := hostdbtest.NewMemory()
			for piece := range 6 {
				for n := range 40 {
					log := randomTree(r, tree, piece*100+n)
					if piece == 5 && n == 39 {
						mend(tree)
					}
					h.commit(log, tree)
				}
				h.flush()
				s := openStore(t, m)
				stream := h.streamFor(s.View())
				if piece%2 == 0 {
					_, err := importStream(s, bytes.NewReader(stream[:len(stream)/3+r.IntN(len(stream)/2)]))
					if !errors.Is(err, layout.ErrBadGitStream) {
						t.Fatalf("a stream that was cut: %v", err)
					}
					m = m.Reopen()
					s = openStore(t, m)
				}
				h.importInto(s)
				if piece == 5 {
					sameView(t, h.checkout(), s.View())
				}
				m = m.Reopen()
			}
		})
	}
}

// A storage that fails under an import loses no commit in the middle.
func TestGitImportAfterAFailureOfTheStorage(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	h := newHistory(t)
	tree := map[string]string{}
	for n := range 120 {
		log := randomTree(r, tree, n)
		if n == 119 {
			mend(tree)
		}
		h.commit(log, tree)
	}
	h.flush()
	m := hostdbtest.NewMemory()
	commits := 0
	m.SetHooks(hostdbtest.Hooks{Before: func([]hostdb.Put) error {
		if commits++; commits == 10 {
			return errors.New("disk on fire")
		}
		return nil
	}})
	s := openStore(t, m)
	if _, err := importStream(s, bytes.NewReader(h.streamFor(s.View()))); !errors.Is(err, hostdb.ErrUnavailable) {
		t.Fatalf("%v", err)
	}
	s = openStore(t, m.Reopen())
	marks := layout.GitMarkers(s.View())
	if len(marks) != 1 || marks[0].Commit == "" {
		t.Fatalf("noted %+v", marks)
	}
	h.importInto(s)
	sameView(t, h.checkout(), s.View())
}
