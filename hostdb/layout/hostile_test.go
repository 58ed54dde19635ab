package layout_test

import (
	"bytes"
	"context"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/hostdb"
	"hostmesh/hostdb/layout"
)

// hostileNames lead out of a directory, or would be a command to git.
var hostileNames = []string{
	"..", "../../evil", ".git", ".git/hooks/post-update", "a/../../evil", "x\nreset refs/heads/other\nfrom refs/heads/main\n", "\"", "\"x\nD hosts\n", "-rf",
	"../hosts/web1", "\xff\xfe", "a\x00b", " ", ".members", strings.Repeat("n", 4096),
}

// withHostile is a store with a host, and operations of another node that no hostmesh would make.
func withHostile(t testing.TB) *hostdb.Store {
	t.Helper()
	s := openStore(t, nil)
	if _, err := s.Update(context.Background(), hostdb.Request{User: "alice", Log: "made"}, func(tx *hostdb.Tx) error {
		return tx.Put(hostdb.Hosts, "web1", hostdb.NewDocument(hostdb.Leaf{Path: "v", Value: hostdb.Text("1")}))
	}); err != nil {
		t.Fatal(err)
	}
	enc := cbor.CoreDetEncOptions()
	enc.String = cbor.StringToByteString
	mode, err := enc.EncMode()
	if err != nil {
		t.Fatal(err)
	}
	var stamp hostdb.Stamp
	if err := s.EachRevision(context.Background(), hostdb.Stamp{}, func(r hostdb.Revision) error { stamp = r.ID; return nil }); err != nil {
		t.Fatal(err)
	}
	var raws [][]byte
	var after []byte
	for i, name := range append(hostileNames, "good") {
		x := func(k hostdb.Kind, ns, key string) hostdb.Effect {
			return hostdb.Effect{Kind: k, NS: ns, Key: key, Path: []string{"v"}, Value: hostdb.Text("evil"), Member: "m\n@x", Order: "a", Text: "no newline"}
		}
		op := hostdb.Operation{Version: 1, Origin: 7, Seq: uint64(i + 1), After: after, Time: stamp.Time + 1 + hostdb.Time(i),
			User: "<m>\nfrom x", Log: "\x00log\ndone\n", Source: &hostdb.Source{Seconds: math.MaxInt64 - int64(i), Zone: -1 << 50, Email: "\n>"}}
		for _, key := range [][2]string{{"hosts", name}, {name, "web1"}, {name, name}, {"hosts", "good"}} {
			for _, k := range []hostdb.Kind{hostdb.CreateKey, hostdb.SetLeaf, hostdb.PutMember, hostdb.SetPerms} {
				op.Effects = append(op.Effects, x(k, key[0], key[1]))
			}
		}
		op.Effects = append(op.Effects, hostdb.Effect{Kind: hostdb.CreateKey, NS: name})
		raw, err := mode.Marshal(&op)
		if err != nil {
			t.Fatal(err)
		}
		back, err := hostdb.ParseOperation(raw)
		if err != nil {
			t.Fatal(err)
		}
		hash := back.Hash()
		raws, after = append(raws, raw), hash[:]
	}
	if n, err := s.Apply(context.Background(), raws); err != nil || n != len(raws) {
		t.Fatalf("apply: %d, %v", n, err)
	}
	return s
}

// What is exported stays in its place whatever other nodes call things, and the rest is exported all the same.
func TestExportsOfHostileNames(t *testing.T) {
	s := withHostile(t)
	top := t.TempDir()
	fsys, err := layout.Export(s.View())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(top, "a", "b", "dir"), fsys); err != nil {
		t.Errorf("write the directory: %v", err)
	}
	var tar bytes.Buffer
	if _, err := layout.WriteTar(&tar, fsys, false); err != nil {
		t.Errorf("send the directory: %v", err)
	}
	repo := filepath.Join(top, "a", "b", "repo.git")
	if _, err := exportTo(t, s, repo, "main"); err != nil {
		t.Fatalf("export to Git: %v", err)
	}
	for _, name := range []string{"hosts/web1", "hosts/good"} {
		text, err := fs.ReadFile(fsys, name)
		if err != nil || git(t, repo, "", "show", "main:"+name) != string(text) {
			t.Errorf("%s: %v, in Git %q, want %q", name, err, git(t, repo, "", "show", "main:"+name), text)
		}
	}
	if files := git(t, repo, "", "ls-tree", "-r", "--name-only", "main"); strings.Contains(files, "evil") || strings.Contains(files, "..") {
		t.Errorf("files %q", files)
	}
	if refs := git(t, repo, "", "for-each-ref", "--format=%(refname)"); refs != "refs/heads/main\nrefs/notes/hostmesh\n" && refs != "refs/heads/main\nrefs/notes/hostmesh" {
		t.Errorf("refs %q", refs)
	}
	err = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), "evil") {
			t.Errorf("%s was written", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
