package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/mesh"
	"hostmesh/node/api"
)

// firstRelease is the executable of v0.1.0, built once from its archive (see testdata/README.md). With -trimpath the
// place where it was unpacked is no part of what is built, so that Go's cache has it the next time.
var firstRelease = sync.OnceValues(func() (string, error) {
	src, err := os.MkdirTemp(built, "v0.1.0-")
	if err != nil {
		return "", err
	}
	if err := unpack(filepath.Join("testdata", "v0.1.0.tar.gz"), src); err != nil {
		return "", err
	}
	path := filepath.Join(built, "hostmesh-v0.1.0")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "libvirt_dlopen", "-ldflags", "-X main.version=0.1.0", "-o", path, "./cmd/hostmesh")
	cmd.Dir = filepath.Join(src, "hostmesh-v0.1.0")
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=") // its own go.mod counts, and nothing of ours
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return path, nil
})

// unpack makes the files of an archive below a directory.
func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			continue // directories are made for their files
		}
		name := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		text, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(name, text, 0o600)
		}
		if err != nil {
			return err
		}
	}
}

// everything is all that a box answers: data, members as they were written, and access lists, by id.
func (b *box) everything() map[string]string {
	b.site.t.Helper()
	out := map[string]string{}
	read := func(id, query string) string {
		status, body, err := b.read(id, query)
		if err != nil || status != 200 && status != 404 {
			b.site.t.Fatalf("%s: GET %s: %d %s %v", b.name, id, status, body, err)
		}
		return body
	}
	for ns := range strings.FieldsSeq(read("", "")) {
		out[ns+"/.default/perms"] = read(ns+"/.default/perms", "")
		for key := range strings.FieldsSeq(read(ns, "")) {
			id := ns + "/" + key
			out[id] = read(id, "")
			out[id+"/members"] = read(id+"/members", "?raw=1")
			out[id+"/perms"] = read(id+"/perms", "")
		}
	}
	return out
}

// read is GET of an id of /v1: what came, whatever it is.
func (b *box) read(id, query string) (status int, body string, err error) {
	resp, err := b.web.Get(b.url("/v1/" + id + query))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// sameState waits until all these boxes have the same digests, and those of one build the same version, too. Builds may name a
// state differently: the first release made its versions of less than this one does.
func (s *site) sameState(boxes ...*box) time.Duration {
	s.t.Helper()
	return s.wait("equal digests", func() error {
		versions := map[string]string{} // of an executable
		var first api.Digests
		for i, b := range boxes {
			d, err := b.api.Digest(s.t.Context())
			if err != nil {
				return err
			}
			if i == 0 {
				first = d
			}
			if d.Algorithm != first.Algorithm || !maps.Equal(d.Namespaces, first.Namespaces) {
				return fmt.Errorf("%s has %+v, %s has %+v", boxes[0].name, first, b.name, d)
			}
			if v, ok := versions[b.binary]; ok && v != d.Version {
				return fmt.Errorf("%s has version %s, another of its build %s", b.name, d.Version, v)
			}
			versions[b.binary] = d.Version
		}
		return nil
	})
}

// alike waits until all these boxes are equal, and checks that they answer alike, key by key. It returns what they answer.
func (s *site) alike(boxes ...*box) map[string]string {
	s.t.Helper()
	s.sameState(boxes...)
	first := boxes[0].everything()
	for _, b := range boxes[1:] {
		differences(s.t, boxes[0].name, first, b.name, b.everything())
	}
	return first
}

func differences(t *testing.T, a string, has map[string]string, b string, got map[string]string) {
	t.Helper()
	ids := maps.Clone(has)
	maps.Copy(ids, got)
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		x, inA := has[id]
		y, inB := got[id]
		if inA != inB || x != y {
			t.Errorf("%s differs:\n%s: %v %q\n%s: %v %q", id, a, inA, x, b, inB, y)
		}
	}
}

// hm runs the command line of a box against its agent; it has to succeed.
func (b *box) hm(args ...string) string {
	b.site.t.Helper()
	out, errs, code := b.hostmesh(args...)
	if code != 0 {
		b.site.t.Fatalf("%s: hostmesh %s: exit code %d\n%s%s", b.name, strings.Join(args, " "), code, out, errs)
	}
	return out
}

// becomes replaces the executable of a box that does not run, and starts it on the same data directory.
func (b *box) becomes(executable string) {
	b.site.t.Helper()
	b.binary = executable
	b.start()
}

// ofEveryKind writes at a box, with its own command line, something of every kind that the first release knows. mark makes
// what is written, and its messages, different from what others write.
func (b *box) ofEveryKind(mark string) {
	b.site.t.Helper()
	id := func(name string) string { return name + "-" + mark }
	why := func(what string) []string { return []string{"-m", mark + ": " + what} }
	do := func(what string, args ...string) { b.hm(append(args, why(what)...)...) }
	host := func(name string) string { return "hosts/" + id(name) + ".lab.test" }
	file := func(name, text string) string { return b.site.write(mark+"-"+name, text) }

	// A large import is a transaction of many keys; its lists have comments, blank lines, and lists inside.
	files := map[string]string{"tags/" + id("imported"): "DNS: {Zone: " + mark + ".test, TTL: 60}\n"}
	members := "# all of them\n"
	for i := range 40 {
		files[fmt.Sprintf("hosts/%s%d.lab.test", id("i"), i)] = fmt.Sprintf("Network: {IP: 10.77.0.%d}\nSerial: 00%d\nOn: yes\n", i, i)
		members += fmt.Sprintf("%s%d.lab.test\n", id("i"), i)
	}
	files["tags/.members/"+id("imported")] = members
	do("import", "db", "import", b.site.tree(id("inventory"), files))

	for _, name := range []string{"plain", "gone", "old", "listed"} {
		do("document", "db", "set", host(name), "-f", file("doc", "Owner: alice\nOdd: 0755\nList: [1e3, ~, {a: b}]\nText: |\n  two\n  lines\nEmpty: {}\n"))
	}
	do("value", "db", "set", host("plain")+"/Owner", "bob")
	do("value deleted", "db", "delete", host("plain")+"/Text")
	do("value renamed", "db", "rename", host("plain")+"/Odd", "Mode")
	do("tag", "db", "set", "tags/"+id("web"), "-f", file("tag", "Priority: 7\n"))
	if _, err := b.api.SetMembers(b.site.t.Context(), "tags/"+id("web"),
		"# first\n"+id("old")+".lab.test\n\n@"+id("imported")+"\n"+id("gone")+".lab.test\n", mark+": members"); err != nil {
		b.site.t.Fatalf("%s: %v", b.name, err)
	}
	do("member", "db", "members", "add", "tags/"+id("web"), id("listed")+".lab.test")
	do("member removed", "db", "members", "remove", "tags/"+id("imported"), id("i")+"7.lab.test")
	do("perms", "db", "set", "tags/"+id("web")+"/perms", "-f", file("perms", "alice: {data: RW}\nops: {members: RW, data/DNS: RO}\n"))
	do("host renamed in all lists", "db", "rename", host("old"), id("renamed")+".lab.test")
	do("host deleted from all lists", "db", "delete", host("gone"))
	do("namespace", "db", "namespace", "create", id("racks"))
	do("key of a namespace", "db", "set", id("racks")+"/r1", "-f", file("rack", "Row: 3\n"))
	do("perms of a namespace", "db", "set", id("racks")+"/.default/perms", "-f", file("racks", "ops: {data: RW}\n"))
}

// TestUpgrade lets the first release and this one work together: in one mesh, on one data directory, in both directions,
// and back. What one wrote the other has, byte by byte, whoever joined whom and in what order they were upgraded.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	now := binary(t)
	then, err := firstRelease()
	if err != nil {
		t.Fatalf("the first release cannot be built: %v", err)
	}
	s := newSite(t, 2)
	one, two := s.boxes[0], s.boxes[1]
	for _, b := range s.boxes {
		b.binary = then
	}
	s.start()
	join := func(executable string) *box {
		t.Helper()
		b := s.newBox(loopback(t))
		b.settings = append(b.settings, "join: ["+one.addr+"]")
		b.becomes(executable)
		return b
	}
	// writes has each of these boxes write, and waits until all that run have it all.
	turn := 0
	writes := func(boxes ...*box) map[string]string {
		t.Helper()
		turn++
		for i, b := range boxes {
			b.mustPut(fmt.Sprintf("hosts/turn%d-%d", turn, i), fmt.Sprintf("Owner: %s\n", b.name))
			b.mustPut("hosts/by-all", fmt.Sprintf("Owner: %s\nTurn: %d\n", b.name, turn))
			if _, err := b.api.AddMember(t.Context(), "tags/by-all", fmt.Sprintf("turn%d-%d", turn, i), "test"); err != nil {
				t.Fatalf("%s: %v", b.name, err)
			}
		}
		all := s.alike(s.running()...)
		for i := range boxes {
			if id := fmt.Sprintf("turn%d-%d", turn, i); all["hosts/"+id] == "" || !strings.Contains(all["tags/by-all/members"], id) {
				t.Errorf("what was written as %s is nowhere: %q", id, all["tags/by-all/members"])
			}
		}
		return all
	}
	one.ofEveryKind("before")
	two.mustPut("tags/by-all", "Priority: 1\n")
	before := writes(one, two)
	for _, id := range []string{"hosts/renamed-before.lab.test", "tags/web-before/perms", "racks-before/r1", "hosts/i-before39.lab.test"} {
		if before[id] == "" {
			t.Fatalf("the first release did not write %s: %q", id, before)
		}
	}

	three := join(now)
	t.Run("new joins old", s.within(func(t *testing.T) {
		differences(t, "an old mesh", before, "what joined it", s.alike(one, two, three))
		// A session of the first release does not say with which password it was made: this release wants another
		// login, and its sessions are good at both.
		status, text, err := three.do(http.MethodPut, "/v1/hosts/session", url.Values{"value": {"a: 1\n"}, "log": {"x"}, "session": {s.token}})
		if err != nil || status != http.StatusUnauthorized || !strings.Contains(text, "log in again") {
			t.Errorf("a session of the first release: %d %s %v", status, text, err)
		}
		s.token = three.login()
		writes(three, one)
		three.ofEveryKind("mixed") // and the old ones understand all of it
		writes(two, three)
	}))
	if t.Failed() {
		return
	}
	t.Run("one is upgraded", s.within(func(t *testing.T) {
		was := s.alike(one, two, three)
		one.stop()
		one.becomes(now)
		differences(t, "before the upgrade", was, "after it", one.everything())
		s.allAlive()
		writes(one, two, three)
	}))
	t.Run("killed and upgraded", s.within(func(t *testing.T) {
		two.kill()
		one.mustPut("hosts/meanwhile", "Owner: one\n")
		was := one.everything() // what the killed one has to get
		two.becomes(now)
		s.sameState(one, two, three)
		differences(t, "before the upgrade", was, "after it", two.everything())
		s.allAlive()
		writes(two, one)
	}))
	t.Run("old history", s.within(func(t *testing.T) {
		for _, b := range s.boxes {
			log := b.hm("db", "log", "-n", "1000")
			for _, what := range []string{"before: import", "before: value renamed", "before: host renamed in all lists", "before: host deleted from all lists", "before: namespace", "mixed: perms"} {
				if !strings.Contains(log, what) {
					t.Errorf("db log at %s has no %q:\n%s", b.name, what, log)
				}
			}
			// A rename is followed back to what the first release wrote.
			of := b.hm("db", "log", "hosts/renamed-before.lab.test")
			if !strings.Contains(of, "before: document") || !strings.Contains(of, "before: host renamed") {
				t.Errorf("db log of a renamed host at %s:\n%s", b.name, of)
			}
			revision, _, _ := strings.Cut(lastLines(of, 1), " ")
			if got := b.hm("db", "get", "hosts/renamed-before.lab.test/Owner", "--as-of", revision); got != "alice\n" {
				t.Errorf("%s: as of %s it is %q", b.name, revision, got)
			}
		}
		if a, b := one.hm("db", "log", "-n", "1000"), two.hm("db", "log", "-n", "1000"); a != b {
			t.Errorf("the logs differ:\n%s\n%s", a, b)
		}
	}))
	was := s.alike(s.running()...)
	four := join(then)
	t.Run("old joins new", s.within(func(t *testing.T) {
		differences(t, "a new mesh", was, "an old build that joined it", s.alike(one, two, three, four))
		s.allAlive()
		writes(four, one, two)
		four.ofEveryKind("late")
		writes(three, four)
	}))
	if t.Failed() {
		return
	}
	t.Run("effects of a newer version", s.within(func(t *testing.T) { newerEffects(t, s, four) }))
	t.Run("going back", s.within(func(t *testing.T) {
		was := s.alike(s.running()...)
		two.stop()
		two.binary = then
		out, errs, code := output(t, exec.Command(two.binary, "agent", "--config", two.config()))
		if code != 1 || !strings.Contains(out+errs, "install the newer hostmesh again") {
			t.Errorf("an old build on a new directory: exit code %d, %s%s", code, out, errs)
		}
		t.Logf("an old build on a new directory says: %s", lastLines(out+errs, 1))
		two.becomes(now)
		differences(t, "before the old build tried", was, "after it", two.everything())
		s.allAlive()
		writes(two, one)
	}))
}

// newerEffects gives an old box an operation with an effect that neither build knows, as a peer of a version to come would.
// It is kept, over a restart too, passed on, and what can be understood of it is done.
func newerEffects(t *testing.T, s *site, old *box) {
	key, err := mesh.LoadKeyFile(s.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg := mesh.DefaultConfig()
	cfg.NodeID, cfg.Name, cfg.Key = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f", "future.test", key
	cfg.Addr, cfg.Join, cfg.Logger = netip.MustParseAddr(loopback(t)), []string{old.addr}, slog.New(slog.DiscardHandler)
	peer, err := mesh.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := peer.Run(context.Background()); err != nil {
			t.Errorf("the peer of a version to come: %v", err)
		}
	})
	gone := sync.OnceFunc(func() { peer.Close(); wg.Wait() })
	defer gone()
	oldID := old.status().Node.ID
	s.wait("the peer sees the old box", func() error {
		if m, ok := peer.View().Get(oldID); !ok || m.State != mesh.StateAlive {
			return errors.New("not yet")
		}
		return nil
	})
	const origin = 0x00ffffffffffffff
	encode := func(v any) []byte {
		t.Helper()
		m, err := cbor.EncOptions{Sort: cbor.SortCoreDeterministic, String: cbor.StringToByteString}.EncMode()
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	stamp := uint64(time.Now().UnixMilli()) << 16
	operation := encode(map[int]any{1: 9, 2: uint64(origin), 3: uint64(1), 6: stamp, 7: "alice", 8: "of a version to come", 9: []map[int]any{
		{1: 1, 2: "hosts", 3: "of-the-future"},            // makes a key
		{1: 200, 2: "hosts", 3: "of-the-future", 77: "?"}, // nobody knows what
	}})
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	answer, err := peer.Call(ctx, oldID, "hostdb.push.1", encode(map[int]any{1: [][]byte{operation}}))
	if err != nil {
		t.Fatal(err)
	}
	if want := encode(map[int]any{1: map[uint64]uint64{origin: 1}}); !bytes.Equal(answer, want) {
		t.Fatalf("the old box answers %x, want %x: it holds the operation", answer, want)
	}
	gone() // all that follows is the old box's to do
	check := func() {
		t.Helper()
		took := s.sameState(s.running()...)
		t.Logf("the old box passed it on: equal %s later", took)
		for _, b := range s.running() {
			if n := b.status().HostDB.Unfolded; n != 1 {
				t.Errorf("%s has %d operations of a version to come, want 1", b.name, n)
			}
			if _, err := b.get("hosts/of-the-future"); err != nil {
				t.Errorf("%s: what it understands of the operation is not there: %v", b.name, err)
			}
		}
	}
	check()
	old.stop()
	old.start()
	check()
	var pages api.RevisionList
	if pages, err = s.boxes[0].api.Revisions(t.Context(), "hosts/of-the-future", api.RevisionQuery{}); err != nil || len(pages.Revisions) != 1 || pages.Revisions[0].User != "alice" {
		t.Errorf("its history is %+v, %v", pages, err)
	}
}
