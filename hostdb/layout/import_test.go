package layout_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/hostdb/layout"
)

func TestImportReplacesWhatTheDirectoryHas(t *testing.T) {
	s := openStore(t, nil)
	mustImport(t, s, files(map[string]string{
		"hosts/a": "x: 1\ny: 2", "hosts/b": "z: 1", "hosts/kept": "k: 1",
		"tags/t": "", "tags/.members/t": "a\nb", "tags/.perms/t": "ops: {data: RW}",
		"tags/u": "", "tags/.members/u": "a", "tags/.perms/u": "ops: {data: RW}",
		"extra/e": "1",
	}))
	r := mustImport(t, s, files(map[string]string{
		"hosts/a": "x: 1\ny: 3", "hosts/b": "z: 1", "hosts/new": "",
		"tags/t": "n: 1", "tags/.members/t": "new\na", "tags/.perms/t": "dba: {data: RO}",
		"tags/u": "",
	}))
	got := fmt.Sprint(r.Namespaces, r.Keys, r.Members, r.Perms, r.LeftAlone, r.Operations)
	want := fmt.Sprint(0, layout.Tally{Created: 1, Changed: 2, Unchanged: 2}, layout.Tally{Changed: 1}, layout.Tally{Changed: 1}, 1, 1)
	if got != want {
		t.Errorf("report %s, want %s", got, want)
	}
	wantFiles := map[string]string{
		"hosts/a": "x: 1\ny: 3\n", "hosts/b": "z: 1\n", "hosts/kept": "k: 1\n", "hosts/new": "null\n",
		"tags/t": "n: 1\n", "tags/.members/t": "new\na\n", "tags/.perms/t": "dba:\n  data: RO\n",
		"tags/u": "null\n", "tags/.members/u": "a\n", "tags/.perms/u": "ops:\n  data: RW\n", // no file, so it stays
		"extra/e": "1\n",
	}
	if got := contents(t, mustExport(t, s.View())); !maps.Equal(got, wantFiles) {
		t.Errorf("the store has %q", got)
	}
	// An empty list, in contrast, is a list.
	r = mustImport(t, s, files(map[string]string{"tags/u": "", "tags/.members/u": ""}))
	if r.Members.Changed != 1 || s.View().MemberCount("tags", "u") != 0 {
		t.Errorf("an empty list left %q", s.View().RawMembers("tags", "u"))
	}
}

func TestImportTurnsInheritanceRound(t *testing.T) {
	s := openStore(t, nil)
	mustImport(t, s, files(map[string]string{"tags/a": "", "tags/b": "", "tags/c": "",
		"tags/.members/a": "@b\n@c", "tags/.members/b": "@c"}))
	mustImport(t, s, files(map[string]string{"tags/a": "", "tags/b": "", "tags/c": "",
		"tags/.members/a": "", "tags/.members/b": "@a", "tags/.members/c": "@b\n@a"}))
	for key, want := range map[string]string{"a": "", "b": "@a", "c": "@b\n@a"} {
		if got := s.View().RawMembers("tags", key); got != want {
			t.Errorf("%s has %q, want %q", key, got, want)
		}
	}
}

// many is a directory that takes several operations: n hosts, and tags with inherited members.
func many(n int) fstest.MapFS {
	fsys := files(map[string]string{"hosts/.perms/.default": "ops: {data: RW}", "tags/whole": "x: 1", "tags/.perms/whole": "ops: {data: RO}"})
	var whole strings.Builder
	for tag := range n / 100 {
		var list strings.Builder
		for i := range 100 {
			fmt.Fprintf(&list, "h%05d\n", tag*100+i)
		}
		fsys[fmt.Sprintf("tags/.members/t%03d", tag)] = &fstest.MapFile{Data: []byte(list.String())}
		fsys[fmt.Sprintf("tags/t%03d", tag)] = &fstest.MapFile{Data: []byte("DNS: {Domain: example.com}\n")}
		fmt.Fprintf(&whole, "@t%03d\n", tag)
	}
	fsys["tags/.members/whole"] = &fstest.MapFile{Data: []byte(whole.String())}
	for i := range n {
		fsys[fmt.Sprintf("hosts/h%05d", i)] = &fstest.MapFile{Data: fmt.Appendf(nil,
			"--- \nNetwork:\n  FQDN: h%05d.example.com\n  IP: 10.%d.%d.%d\n  MAC: 52:54:00:00:%02x:%02x\nPhysical Location:\n  Datacenter: dc1\n  Rack: r%d\n"+
				"Hardware: {CPUs: 8, Memory: 64GiB, Serial: S%08d}\nOwner: web\nStatus: active\n",
			i, i>>16, i>>8&255, i&255, i>>8&255, i&255, i%40, i)}
	}
	return fsys
}

func TestImportKeepsOperationsSmall(t *testing.T) {
	s := openStore(t, nil)
	r := mustImport(t, s, many(2000))
	if r.Operations < 2000/256 || r.Operations > 40 {
		t.Errorf("%d operations", r.Operations)
	}
	v := s.View()
	if got := len(v.Members("tags", "whole")); got != 2000 {
		t.Errorf("the whole has %d members", got)
	}
	for origin, seq := range v.Vector() {
		ops, err := s.Operations(origin, 0, 1<<30)
		if err != nil || len(ops) != int(seq) {
			t.Fatalf("%d operations of %d: %v", len(ops), seq, err)
		}
		for i, raw := range ops {
			op, err := hostdb.ParseOperation(raw)
			if err != nil {
				t.Fatal(err)
			}
			if len(raw) > 300<<10 {
				t.Errorf("operation %d has %d bytes", i+1, len(raw))
			}
			if want := fmt.Sprintf("import (part %d of %d)", i+1, len(ops)); op.Log != want || op.User != "tester" {
				t.Errorf("operation by %s says %q, want %q", op.User, op.Log, want)
			}
		}
	}
}

// pairAcker answers when two operations wait for it at once.
type pairAcker struct {
	mu      sync.Mutex
	waiting int
	pair    chan struct{}
}

func (a *pairAcker) Await(ctx context.Context, _, _ uint64, _ int) int {
	a.mu.Lock()
	if a.waiting++; a.waiting == 2 {
		close(a.pair)
	}
	a.mu.Unlock()
	select {
	case <-a.pair:
		return 1
	case <-ctx.Done():
		return 0
	}
}

func TestImportOverlapsAcknowledgements(t *testing.T) {
	s := openStore(t, nil, func(c *hostdb.Config) { c.AckTimeout = time.Minute })
	s.SetAcker(&pairAcker{pair: make(chan struct{})})
	if r := mustImport(t, s, many(1000)); r.Acks != 2 {
		t.Errorf("%d acknowledgements", r.Acks)
	}
}

func TestImportInterruptedByTheDisk(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, failAt := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(failAt), func(t *testing.T) {
			m := hostdbtest.NewMemory()
			m.SetMaxBatch(300<<10, 8192) // so that several operations do not share a commit
			s := openStore(t, m)
			commits := 0
			m.SetHooks(hostdbtest.Hooks{Before: func([]hostdb.Put) error {
				if commits++; commits >= failAt {
					return broken
				}
				return nil
			}})
			dir := many(800)
			inv := mustRead(t, dir, layout.Options{})
			r, err := layout.Import(context.Background(), s, inv, importer, nil)
			if !errors.Is(err, hostdb.ErrUnavailable) || !strings.Contains(err.Error(), "running the import again completes it") {
				t.Fatalf("import: %v", err)
			}
			again := openStore(t, m.Reopen())
			checkMissing(t, again.View(), dir, r)
			second := mustImport(t, again, dir)
			if second.Keys.Created+r.Keys.Created != len(inv.Namespaces[0].Keys)+len(inv.Namespaces[1].Keys) {
				t.Errorf("first %+v, then %+v", r.Keys, second.Keys)
			}
			whole := openStore(t, nil)
			mustImport(t, whole, dir)
			sameView(t, again.View(), whole.View())
		})
	}
}

// checkMissing holds a report against what a store really has of a directory.
func checkMissing(t *testing.T, v hostdb.View, dir fs.FS, r layout.Report) {
	t.Helper()
	has := contents(t, mustExport(t, v))
	var want []string
	for name := range contents(t, dir) {
		if _, there := has[name]; there {
			continue
		}
		parts := strings.Split(name, "/")
		if len(parts) == 3 {
			name = parts[0] + "/" + parts[2] + "/" + strings.TrimPrefix(parts[1], ".")
		}
		want = append(want, name)
	}
	for _, ns := range []string{"hosts", "tags"} {
		if !v.HasNamespace(ns) {
			want = append(want, ns)
		}
	}
	slices.Sort(want)
	got := slices.Sorted(slices.Values(r.Missing))
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("%d are reported missing, %d are: %.5q, %.5q", len(got), len(want), got, want)
	}
}

func TestImportEndsWithItsContext(t *testing.T) {
	s := openStore(t, nil)
	dir := many(800)
	inv := mustRead(t, dir, layout.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	asked := 0
	who := importer
	who.Allow = func(_ hostdb.View, _, key string, _ hostdb.Resource) error {
		if key == "h00300" {
			if asked++; asked == 2 { // before everything, and in the second operation
				cancel()
			}
		}
		return nil
	}
	r, err := layout.Import(ctx, s, inv, who, nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("import: %v", err)
	}
	if r.Operations != 2 {
		t.Errorf("%d operations, want the one under way when it ended and the one before it", r.Operations)
	}
	checkMissing(t, s.View(), dir, r)
}

func TestImportAsksForPermissionFirst(t *testing.T) {
	s := openStore(t, nil)
	var asked []string
	who := importer
	who.Allow = func(_ hostdb.View, ns, key string, what hostdb.Resource) error {
		asked = append(asked, ns+"/"+key+"/"+string(what))
		if ns == "tags" && what == hostdb.Members {
			return fmt.Errorf("%w: not you", hostdb.ErrDenied)
		}
		return nil
	}
	dir := files(map[string]string{"hosts/a": "", "tags/t": "", "tags/.members/t": "a", "more/x": ""})
	inv := mustRead(t, dir, layout.Options{})
	r, err := layout.Import(context.Background(), s, inv, who, nil)
	if !errors.Is(err, hostdb.ErrDenied) || err.Error() != "import tags/t/members: permission denied: not you; nothing was imported" {
		t.Errorf("import: %v", err)
	}
	if r.Operations != 0 || s.View().Len("hosts") != 0 {
		t.Errorf("something was imported: %+v", r)
	}
	if !slices.Contains(asked, "more/.default/perms") {
		t.Errorf("a new namespace was not asked for: %q", asked)
	}
}

// Who may write some sections may import a document that changes only them, and nothing else of any.
func TestImportAsksForSections(t *testing.T) {
	s := openStore(t, nil)
	if _, err := layout.Import(context.Background(), s, mustRead(t, files(map[string]string{"tags/t": "{DNS: {TTL: 1}, LB: {}}"}), layout.Options{}), importer, nil); err != nil {
		t.Fatal(err)
	}
	who := importer
	who.Allow = func(hostdb.View, string, string, hostdb.Resource) error { return hostdb.ErrDenied }
	who.AllowData = func(_ hostdb.View, _, _ string, before, after hostdb.Document) error {
		if !before.At("LB").Equal(after.At("LB")) {
			return hostdb.ErrDenied
		}
		return nil
	}
	for text, want := range map[string]error{"{DNS: {TTL: 2}, LB: {}}": nil, "{DNS: {TTL: 3}}": hostdb.ErrDenied} {
		dir := files(map[string]string{"tags/t": text})
		r, err := layout.Import(context.Background(), s, mustRead(t, dir, layout.Options{}), who, nil)
		if !errors.Is(err, want) || (r.Operations == 0) != (want != nil) {
			t.Errorf("%s: %d operations, %v", text, r.Operations, err)
		}
	}
}

// strict refuses every document and says so.
type strict struct{}

func (strict) Validate(ns, key string, _, _ hostdb.Document) ([]string, error) {
	return []string{ns + "/" + key + " is odd"}, fmt.Errorf("%w: %s/%s is wrong", hostdb.ErrInvalid, ns, key)
}

func TestImportOnlyWarns(t *testing.T) {
	s := openStore(t, nil, func(c *hostdb.Config) { c.Validator = strict{} })
	r := mustImport(t, s, files(map[string]string{"hosts/a": "x: 1", "tags/t": "y: 1"}))
	want := []string{"hosts/a is odd", "hosts/a is wrong", "tags/t is odd", "tags/t is wrong"}
	for i := range r.Warnings {
		r.Warnings[i] = strings.TrimPrefix(r.Warnings[i], "invalid value: ")
	}
	if !slices.Equal(r.Warnings, want) || s.View().Data("tags", "t").Text("y") != "1" {
		t.Errorf("warnings %q", r.Warnings)
	}
}

func TestImportStopsAtWhatWasDeletedMeanwhile(t *testing.T) {
	s := openStore(t, nil)
	mustImport(t, s, files(map[string]string{"hosts/a": ""}))
	dir := files(map[string]string{"tags/t": "", "tags/.members/t": "a"})
	inv := mustRead(t, dir, layout.Options{Into: s.View()})
	if _, err := s.Update(context.Background(), importer, func(tx *hostdb.Tx) error { return tx.Delete("hosts", "a") }); err != nil {
		t.Fatal(err)
	}
	r, err := layout.Import(context.Background(), s, inv, importer, nil)
	if !errors.Is(err, hostdb.ErrNotFound) || !slices.Equal(r.Missing, []string{"tags/t", "tags/t/members"}) || s.View().Exists("tags", "t") {
		t.Errorf("import: %v, missing %q", err, r.Missing)
	}
}
