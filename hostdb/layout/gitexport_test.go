package layout_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
)

// exportTo exports what is new in s into a branch of a repository.
func exportTo(t testing.TB, s *hostdb.Store, dir, branch string) (commits int, err error) {
	t.Helper()
	ctx := context.Background()
	repo, err := layout.CreateGit(ctx, dir)
	if err != nil {
		return 0, err
	}
	x, err := repo.BeginExport(ctx, branch)
	if err != nil {
		return 0, err
	}
	defer x.Close()
	var stream bytes.Buffer
	n, err := layout.WriteGit(ctx, &stream, s, x.After)
	if err != nil {
		return 0, err
	}
	commits, err = x.Take(ctx, &stream, nil)
	if err == nil && commits != n {
		t.Errorf("%d commits were written, %d taken", n, commits)
	}
	return commits, err
}

func mustExportTo(t testing.TB, s *hostdb.Store, dir string) int {
	t.Helper()
	n, err := exportTo(t, s, dir, "main")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// treeIs compares the head of a repository with what a store exports as a directory.
func treeIs(t testing.TB, dir string, v hostdb.View) {
	t.Helper()
	h := &history{t: t, dir: dir}
	repo, b := h.open()
	fsys, ps, err := repo.Checkout(context.Background(), b.Tree)
	if err != nil || ps.Total > 0 {
		t.Fatalf("%v %q", err, texts(ps))
	}
	is, want := contents(t, fsys), contents(t, mustExport(t, v))
	for name, text := range want {
		if is[name] != text {
			t.Errorf("%s is %q, want %q", name, is[name], text)
		}
		delete(is, name)
	}
	if len(is) > 0 {
		t.Errorf("too much: %q", is)
	}
}

const logForm = "--format=%an%n%ae%n%ad%n%B%x00"

func log(t testing.TB, dir string) []string {
	return strings.Split(git(t, dir, "", "log", "--first-parent", "--date=raw", logForm, "main"), "\x00")
}

// Of a repository whose files are in canonical form, import and export make the same trees and the same log.
func TestGitImportThenExport(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			h := newHistory(t)
			tree, last := map[string]string{}, fmt.Sprint(map[string]string{})
			for n := range 120 {
				text := randomTree(r, tree, n)
				mend(tree)
				for name, text := range tree {
					switch parts := strings.Split(name, "/"); {
					case strings.HasPrefix(parts[len(parts)-1], ".") && parts[len(parts)-1] != ".default", len(parts) == 1:
						delete(tree, name)
					case len(parts) == 2:
						doc, err := hostdb.ParseDocument([]byte(text))
						if err != nil {
							t.Fatal(err)
						}
						tree[name] = doc.YAML()
					case parts[1] == ".members":
						list, err := hostdb.ParseMembers(text)
						if err != nil {
							t.Fatal(err)
						}
						if tree[name] = hostdb.FormatMembers(list) + "\n"; len(list) == 0 || tree["tags/"+parts[2]] == "" {
							delete(tree, name)
						}
					case parts[1] == ".perms":
						acl, err := hostdb.ParseACL([]byte(text))
						if err != nil {
							t.Fatal(err)
						}
						if tree[name] = acl.YAML(); acl.YAML() == "" || parts[2] != ".default" && tree["tags/"+parts[2]] == "" {
							delete(tree, name)
						}
					}
				}
				if now := fmt.Sprint(tree); now != last {
					h.commit(text+"\n", tree)
					last = now
				}
			}
			h.flush()
			s := openStore(t, nil)
			if report := h.importInto(s); report.Operations != h.n || len(report.Problems) > 0 {
				t.Errorf("%d commits made %d operations: %v", h.n, report.Operations, report.Problems)
			}
			out := filepath.Join(t.TempDir(), "out.git")
			if n := mustExportTo(t, s, out); n != h.n {
				t.Errorf("%d commits became %d", h.n, n)
			}
			if was, is := log(t, h.dir), log(t, out); !slices.Equal(was, is) {
				t.Errorf("the log was %d commits and is %d, and differs", len(was), len(is))
			}
			trees := func(dir string) string { return git(t, dir, "", "log", "--first-parent", "--format=%T", "main") }
			if trees(h.dir) != trees(out) {
				t.Error("the trees differ")
			}
			if was, is := git(t, h.dir, "", "ls-tree", "-r", "main"), git(t, out, "", "ls-tree", "-r", "main"); was != is {
				t.Errorf("the tree was\n%s\nand is\n%s", was, is)
			}
		})
	}
}

// edits makes random changes as people do.
func edits(t testing.TB, s *hostdb.Store, r *rand.Rand, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		v := s.View()
		hosts, tags := slices.Collect(v.Keys(hostdb.Hosts)), slices.Collect(v.Keys(hostdb.Tags))
		host, tag := hosts[r.IntN(len(hosts))], tags[r.IntN(len(tags))]
		req := hostdb.Request{User: []string{"alice", "bob", "ops team"}[r.IntN(3)], Log: fmt.Sprintf("edit %d\n\nwith two paragraphs", i)}
		_, err := s.Update(context.Background(), req, func(tx *hostdb.Tx) error {
			switch r.IntN(9) {
			case 0, 1:
				return tx.PutPath(hostdb.Hosts, host, []string{"Note"}, hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text(fmt.Sprintf("%d: # é\n0755", i))}))
			case 2:
				return tx.Put(hostdb.Hosts, fmt.Sprintf("new%d.example.com", i), hostdb.NewDocument(hostdb.Leaf{Path: hostdb.PathOf("A", "b"), Value: hostdb.Text("yes")}))
			case 3:
				return tx.Rename(hostdb.Hosts, host, fmt.Sprintf("other%d.example.com", i))
			case 4:
				return tx.Delete(hostdb.Hosts, host)
			case 5:
				if tag == hostdb.AllTag {
					return nil
				}
				return tx.AddMember(hostdb.Tags, tag, host)
			case 6:
				if list := v.DirectMembers(hostdb.Tags, tag); len(list) > 0 && tag != hostdb.AllTag {
					r.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
					list = slices.DeleteFunc(list, func(m hostdb.Member) bool { return m.Name == "" })
					if len(list) > 0 {
						list[0].Text = fmt.Sprintf("# changed by edit %d\n", i)
					}
					return tx.SetMembers(hostdb.Tags, tag, list)
				}
				return nil
			case 7:
				acl, err := hostdb.ParseACL(fmt.Appendf(nil, "team%d: {data: RW}\n", r.IntN(9)))
				if err != nil {
					return err
				}
				return tx.SetPerms(hostdb.Tags, []string{tag, hostdb.DefaultKey}[r.IntN(2)], acl)
			default:
				if tag == hostdb.AllTag {
					return nil
				}
				return tx.Rename(hostdb.Tags, tag, fmt.Sprintf("tag%d", i))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The example with 500 random edits goes to Git in pieces, and from there into an empty store.
func TestGitRoundTripOfTheExample(t *testing.T) {
	s := openStore(t, nil)
	mustImport(t, s, example)
	out := filepath.Join(t.TempDir(), "out.git")
	r := rand.New(rand.NewPCG(500, 500))
	for piece := range 5 {
		edits(t, s, r, 100*piece, 100)
		if n := mustExportTo(t, s, out); n < 80 {
			t.Errorf("%d commits", n)
		}
		treeIs(t, out, s.View())
		if n := mustExportTo(t, s, out); n != 0 {
			t.Errorf("exporting again makes %d commits", n)
		}
	}
	h := &history{t: t, dir: out}
	back := openStore(t, nil)
	if report := h.importInto(back); len(report.Problems) > 0 {
		t.Errorf("%v", report.Problems)
	}
	sameView(t, s.View(), back.View())

	entry := func(rev hostdb.Revision) string { return rev.User + "\n" + rev.Log }
	var was, is []string
	each := func(s *hostdb.Store, into *[]string, source bool) {
		err := s.EachRevision(context.Background(), hostdb.Stamp{}, func(rev hostdb.Revision) error {
			*into = append(*into, entry(rev))
			if source && (rev.Source == nil || rev.Source.Ref == "" || rev.Source.Email == "") {
				t.Errorf("revision %s has no source", rev.ID)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	each(s, &was, false)
	each(back, &is, true)
	if !slices.Equal(was, is) {
		t.Errorf("the log was %d revisions and is %d, and differs", len(was), len(is))
	}
	again := filepath.Join(t.TempDir(), "again.git")
	mustExportTo(t, back, again)
	if a, b := log(t, out), log(t, again); !slices.Equal(a, b) {
		t.Error("the log of the second export differs")
	}
	if a, b := git(t, out, "", "ls-tree", "-r", "main"), git(t, again, "", "ls-tree", "-r", "main"); a != b {
		t.Error("the tree of the second export differs")
	}
	if all := git(t, out, "", "log", "--all", "-p", "--format=%B"); strings.Contains(all, ".system") {
		t.Error("the repository speaks of .system")
	}
	if notes := git(t, out, "", "log", "-1", "--notes=hostmesh", "--format=%N", "main"); !strings.Contains(notes, "Revision: ") {
		t.Errorf("the note of the head is %q", notes)
	}
}

// ops are the operations of a store, for another one.
func ops(t testing.TB, s *hostdb.Store, origin uint64) [][]byte {
	t.Helper()
	raws, err := s.Operations(origin, 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return raws
}

// What another node wrote while it was cut off comes late: behind what was exported, and the tree is right.
func TestGitExportOfLateRevisions(t *testing.T) {
	ctx := context.Background()
	put := func(s *hostdb.Store, key, value string) {
		t.Helper()
		if _, err := s.Update(ctx, hostdb.Request{User: "alice", Log: key + " " + value}, func(tx *hostdb.Tx) error {
			return tx.Put(hostdb.Hosts, key, hostdb.NewDocument(hostdb.Leaf{Path: "v", Value: hostdb.Text(value)}))
		}); err != nil {
			t.Fatal(err)
		}
	}
	here, there := openStore(t, nil), openStore(t, nil, func(c *hostdb.Config) { c.NodeID = "there" })
	put(there, "a", "there, early")
	put(there, "b", "there")
	put(here, "a", "here, late")
	put(here, "c", "here")
	out := filepath.Join(t.TempDir(), "out.git")
	if n := mustExportTo(t, here, out); n != 2 {
		t.Errorf("%d commits", n)
	}
	if _, err := here.Apply(ctx, ops(t, there, there.Origin())); err != nil {
		t.Fatal(err)
	}
	put(here, "d", "after all")
	mustExportTo(t, here, out)
	treeIs(t, out, here.View())
	got := strings.Fields(git(t, out, "", "log", "--reverse", "--format=%f", "main"))
	if want := []string{"a-here-late", "c-here", "a-there-early", "b-there", "d-after-all"}; !slices.Equal(got, want) {
		t.Errorf("commits %q", got)
	}
	if n := mustExportTo(t, here, out); n != 0 {
		t.Errorf("exporting again makes %d commits", n)
	}
	// The other node has not what the repository has.
	if _, err := exportTo(t, there, out, "main"); !errors.Is(err, layout.ErrGitAhead) {
		t.Errorf("%v", err)
	}
}

func TestGitExportKeepsOutOfOthersWay(t *testing.T) {
	ctx := context.Background()
	s := openStore(t, nil)
	mustImport(t, s, files(map[string]string{"hosts/a": "x: 1", `tags/"odd" \name`: "", `"ns/k`: "y: 1", "tags/.perms/.default": "ops: {data: RW}"}))
	dir := filepath.Join(t.TempDir(), "out.git")
	if n := mustExportTo(t, s, dir); n != 1 {
		t.Errorf("%d commits", n)
	}
	treeIs(t, dir, s.View())
	head := git(t, dir, "", "rev-parse", "main")

	edits(t, s, rand.New(rand.NewPCG(1, 1)), 0, 3)
	repo, err := layout.OpenGit(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	x, err := repo.BeginExport(ctx, "main")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.BeginExport(ctx, "main"); !errors.Is(err, layout.ErrBadRepository) {
		t.Errorf("two at once: %v", err)
	}
	var stream bytes.Buffer
	if _, err := layout.WriteGit(ctx, &stream, s, x.After); err != nil {
		t.Fatal(err)
	}
	cut := stream.Bytes()[:stream.Len()-10]
	if _, err := x.Take(ctx, bytes.NewReader(cut), nil); !errors.Is(err, layout.ErrBadRepository) {
		t.Errorf("a stream that is cut: %v", err)
	}
	if _, err := x.Take(ctx, io.MultiReader(bytes.NewReader(cut), failingReader{}), nil); !errors.Is(err, errGone) {
		t.Errorf("a reader that fails: %v", err)
	}
	if now := git(t, dir, "", "rev-parse", "main"); now != head {
		t.Error("the branch moved")
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if n := mustExportTo(t, s, dir); n == 0 {
		t.Error("nothing is exported after the failures")
	}
	treeIs(t, dir, s.View())

	// Another branch of the same repository is an export of its own.
	if _, err := exportTo(t, s, dir, "second"); err != nil {
		t.Fatal(err)
	}
	if n := mustExportTo(t, s, dir); n != 0 {
		t.Errorf("the first branch gets %d commits", n)
	}
	// Somebody commits on top.
	tree := strings.TrimSpace(git(t, dir, "", "rev-parse", "main^{tree}"))
	git(t, dir, "", "update-ref", "refs/heads/main", strings.TrimSpace(git(t, dir, "", "commit-tree", "-p", "main", "-m", "mine", tree)))
	if _, err := exportTo(t, s, dir, "main"); !errors.Is(err, layout.ErrNotExport) {
		t.Errorf("%v", err)
	}
}

var errGone = errors.New("the agent is gone")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errGone }

func TestGitRepositoriesThatAreNone(t *testing.T) {
	ctx := context.Background()
	base := t.TempDir()
	work := filepath.Join(base, "work")
	git(t, ".", "", "init", "-q", "--initial-branch=main", work)
	inside := filepath.Join(work, "hosts")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(base, "none"), base, inside, file} {
		if _, err := layout.OpenGit(ctx, path); !errors.Is(err, layout.ErrNoRepository) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := layout.CreateGit(ctx, inside+"/.."); err != nil {
		t.Error(err)
	}
	if _, err := layout.CreateGit(ctx, base); !errors.Is(err, layout.ErrNoRepository) {
		t.Errorf("a directory with files: %v", err)
	}
	repo, err := layout.OpenGit(ctx, work)
	if err != nil {
		t.Fatal(err)
	}
	for _, branch := range []string{"", "other", "--help"} {
		if _, err := repo.Branch(ctx, branch); !errors.Is(err, layout.ErrNoCommit) {
			t.Errorf("branch %q: %v", branch, err)
		}
	}
	for _, branch := range []string{"", "a..b", "-x", "a b"} {
		if _, err := repo.BeginExport(ctx, branch); !errors.Is(err, layout.ErrNoCommit) {
			t.Errorf("export into %q: %v", branch, err)
		}
	}
	// A damaged repository: an object is missing.
	h := newHistory(t)
	h.commit("first", map[string]string{"hosts/a": "x: 1\n"})
	h.commit("second", map[string]string{"hosts/a": "x: 2\n"})
	h.flush()
	r2, b := h.open()
	blob := strings.TrimSpace(git(t, h.dir, "", "rev-parse", "main:hosts/a"))
	if err := os.Remove(filepath.Join(h.dir, "objects", blob[:2], blob[2:])); err != nil {
		t.Fatal(err)
	}
	if _, err := r2.Send(ctx, io.Discard, layout.GitSend{Branch: b}); !errors.Is(err, layout.ErrBadRepository) || !strings.Contains(err.Error(), blob) {
		t.Errorf("a missing object: %v", err)
	}
	if ok, err := r2.Contains(ctx, b.Head, strings.Repeat("ab", 20)); ok || err != nil {
		t.Errorf("an unknown commit: %v %v", ok, err)
	}
}
