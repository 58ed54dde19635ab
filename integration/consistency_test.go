package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/node/api"
)

// TestConsistencyPage: the table of docs/consistency.md and what TestConsistency checks are line by line the same.
func TestConsistencyPage(t *testing.T) {
	text, err := os.ReadFile("../docs/consistency.md")
	if err != nil {
		t.Fatal(err)
	}
	var page []string
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "| **"); ok {
			name, rest, _ := strings.Cut(name, "** |")
			page = append(page, name)
			for i, cell := range strings.Split(strings.TrimSpace(rest), " | ") {
				if strings.Trim(cell, " |") == "" {
					t.Errorf("%s: column %d is empty", name, i+2)
				}
			}
			if n := strings.Count(rest, "|"); n != 3 {
				t.Errorf("%s: %d columns, want 4", name, n+1)
			}
		}
	}
	var tested []string
	for _, l := range consistency(&parted{}) {
		tested = append(tested, l.name)
	}
	if !slices.Equal(page, tested) {
		t.Errorf("the page has %q,\nthe test %q:\neach line of the one belongs to one of the other, in the same order", page, tested)
	}
}

// TestConsistency has three agents in network namespaces of their own, cuts one of them off, writes and reads on both sides, and
// joins them again: each line of the table in docs/consistency.md has a subtest of its name in each phase that concerns it.
func TestConsistency(t *testing.T) {
	if os.Getenv(inNamespaces) != "" {
		inParts(t)
		return
	}
	t.Parallel()
	inOwnNamespaces(t, "ip", "curl", "dig")
}

// parted is a mesh of three, of which c is cut off from a and b.
type parted struct {
	site    *site
	a, b, c *box
	ann     string     // a session of a user who is no administrator
	whole   *testing.T // for what outlasts a subtest
}

// situation is one line of the table: what it does and sees before the cut, during it, at its end, and after it. After the cut
// the lines come in reverse order.
type situation struct {
	name                       string
	before, cut, still, healed func(t *testing.T)
}

func inParts(t *testing.T) {
	w := wires{t}
	names := []string{"one", "two", "three"}
	addrs := map[string]string{"one": "10.78.0.1", "two": "10.78.0.2", "three": "10.78.0.3"}
	w.lay(addrs)
	s := newSite(t, 0)
	for _, name := range names {
		s.newBox(addrs[name]).under = []string{"ip", "netns", "exec", name}
	}
	p := &parted{whole: t, site: s, a: s.boxes[0], b: s.boxes[1], c: s.boxes[2]}
	p.a.found()
	for i, b := range s.boxes {
		if i > 0 {
			b.settings = append(b.settings, "join: ["+p.a.addr+"]")
		}
		b.start()
	}
	s.allAlive()
	lines := consistency(p)
	phase := func(name string, of func(situation) func(*testing.T)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			for _, l := range lines {
				if f := of(l); f != nil {
					t.Run(l.name, s.within(f))
				}
			}
		})
	}
	phase("before the cut", func(l situation) func(*testing.T) { return l.before })
	s.equal(s.boxes...)
	w.ip("link", "set", "to-three", "down")
	phase("during the cut", func(l situation) func(*testing.T) { return l.cut })
	phase("at its end", func(l situation) func(*testing.T) { return l.still })
	w.ip("link", "set", "to-three", "up")
	took, _ := s.equal(s.boxes...)
	t.Logf("the link is back: equal %s later", took)
	s.allAlive()
	slices.Reverse(lines)
	phase("healed", func(l situation) func(*testing.T) { return l.healed })
	for _, b := range s.boxes {
		b.stop()
	}
}

// within has the helpers of a site fail the subtest that called them, and not the test around it.
func (s *site) within(f func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) {
		outer := s.t
		s.t = t
		defer func() { s.t = outer }()
		f(t)
	}
}

// answer is what came over the socket, whoever asked as an administrator.
type answer struct {
	status int
	header http.Header
	body   string
}

// code is that of an error of /v1.
func (a answer) code() string { code, _, _ := strings.Cut(a.header.Get("Error"), ":"); return code }

// request speaks HTTP over the box's socket, which no network namespace hides.
func (b *box) request(t *testing.T, method, path string, form url.Values) answer {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.socket())
	}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://socket"+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := (&http.Client{Transport: tr, Timeout: eventually}).Do(req)
	if err != nil {
		t.Fatalf("%s: %v", b.name, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %s %s: %v", b.name, method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, strings.TrimSpace(string(text))}
}

// curl is a request of a client on the box itself: on its plain listener, with the fields of the form not in any argument.
func (b *box) curl(t *testing.T, method, path string, form map[string]string) (status, body string) {
	t.Helper()
	args := append(slices.Clone(b.under), "curl", "-sS", "-X", method, "-w", "\n%{http_code}", "-K", "-", "http://127.0.0.1:7950"+path)
	cmd := exec.Command(args[0], args[1:]...)
	var in bytes.Buffer
	for name, value := range form {
		fmt.Fprintf(&in, "data-urlencode = %q\n", name+"="+value)
	}
	cmd.Stdin = &in
	out, errs, code := output(t, cmd)
	if code != 0 {
		t.Fatalf("%s: curl: exit code %d %s", b.name, code, errs)
	}
	i := strings.LastIndex(out, "\n")
	return out[i+1:], strings.TrimSpace(out[:i])
}

// annPuts has the user ann write; it returns the status.
func (p *parted) annPuts(t *testing.T, b *box, id, value string) string {
	t.Helper()
	status, _ := b.curl(t, http.MethodPut, "/v1/"+id, map[string]string{"session": p.ann, "log": "test", "value": value})
	return status
}

// puts writes at a box as an administrator. It returns what the answer said.
func (b *box) puts(t *testing.T, id, value string) api.Written {
	t.Helper()
	done, err := b.api.Put(t.Context(), id, []byte(value), "test")
	if err != nil {
		t.Fatalf("%s: put %s: %v", b.name, id, err)
	}
	return done
}

// gets checks what a box says of an id; "" is that it is not there.
func (b *box) gets(t *testing.T, id, want string) {
	t.Helper()
	got := b.request(t, http.MethodGet, "/v1/"+id, nil)
	if want == "" && got.status != http.StatusNotFound || want != "" && got.body != want {
		t.Errorf("%s says of %s: %d %q, want %q", b.name, id, got.status, got.body, want)
	}
}

// all checks what every box says of an id.
func (p *parted) all(t *testing.T, id, want string) {
	t.Helper()
	for _, b := range p.site.boxes {
		b.gets(t, id, want)
	}
}

// winner is the one of two values whose revision is the later. Revisions sort as texts.
func winner(a api.Written, ofA string, c api.Written, ofC string) string {
	if a.Revision > c.Revision {
		return ofA
	}
	return ofC
}

// conflict is what every box lists of a place; it fails when one lists nothing or another than the others.
func (p *parted) conflict(t *testing.T, place string) api.Conflict {
	t.Helper()
	var found []api.Conflict
	for _, b := range p.site.boxes {
		list, err := b.api.Conflicts(t.Context(), "", 1000)
		if err != nil {
			t.Fatalf("%s: %v", b.name, err)
		}
		i := slices.IndexFunc(list.Conflicts, func(c api.Conflict) bool { return c.Place() == place })
		if i < 0 {
			t.Fatalf("%s does not list %s as a conflict: %+v", b.name, place, list.Conflicts)
		}
		found = append(found, list.Conflicts[i])
		if x, y := found[0], list.Conflicts[i]; x.Winner.Revision != y.Winner.Revision || x.Loser.Revision != y.Loser.Revision {
			t.Errorf("%s: %+v, at %s: %+v", b.name, y, p.a.name, x)
		}
	}
	return found[0]
}

// names checks that the doctor of every box has an error or warning that speaks of something.
func (p *parted) names(t *testing.T, what string) {
	t.Helper()
	for _, b := range p.site.boxes {
		r, err := b.api.Doctor(t.Context(), api.DoctorOptions{})
		if err != nil {
			t.Fatalf("%s: %v", b.name, err)
		}
		if !slices.ContainsFunc(r.Findings, func(f api.DoctorFinding) bool { return strings.Contains(fmt.Sprintf("%+v", f), what) }) {
			t.Errorf("the doctor of %s has no finding with %q: %+v", b.name, what, r.Findings)
		}
	}
}

// txn writes several values in one transaction.
func (b *box) txn(t *testing.T, value string, ids ...string) api.Written {
	t.Helper()
	x := api.Txn{Log: "test"}
	for _, id := range ids {
		x.Effects = append(x.Effects, api.Effect{Op: "put_path", ID: id, YAML: &value})
	}
	done, err := b.api.Txn(t.Context(), x, 0)
	if err != nil {
		t.Fatalf("%s: transaction: %v", b.name, err)
	}
	return api.Written{Acks: done.Acks, Revision: done.Revision, Version: done.Version}
}

// listener collects what a watcher hears.
type listener struct {
	mu    sync.Mutex // guards heard
	heard []string
	ready chan struct{} // closed when it heard everything there was
}

// listen watches keys of hosts with a prefix at a box, from now on, until the test ends.
func (p *parted) listen(t *testing.T, b *box, prefix string) *listener {
	l := &listener{ready: make(chan struct{})}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	whole := p.whole
	whole.Cleanup(func() { stop(); wg.Wait() })
	once := sync.OnceFunc(func() { close(l.ready) })
	wg.Go(func() {
		defer once()
		for e, err := range b.api.Watch(ctx, api.WatchOptions{From: "now", NS: "hosts", Prefix: prefix}) {
			if err != nil {
				whole.Errorf("watching %s: %v", b.name, err)
				return
			}
			switch e.Kind {
			case api.EventSynced:
				once()
			case api.EventRevision:
				l.mu.Lock()
				l.heard = append(l.heard, e.Changes[0].ID)
				l.mu.Unlock()
			}
		}
	})
	<-l.ready
	return l
}

func (l *listener) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.heard)
}

// movedClock is a wall clock that the test sets.
type movedClock struct{ now time.Time }

func (c *movedClock) Now() time.Time { return c.now }

// replica is a HostDB without a mesh, with a clock of its own.
func replica(t *testing.T, name string, clock *movedClock) *hostdb.Store {
	t.Helper()
	memory := hostdbtest.NewMemory()
	s, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return memory, nil }, NodeID: name, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// consistency is the table of docs/consistency.md, as what is done and seen. a and b stay together, c is cut off.
func consistency(p *parted) []situation {
	var (
		cursor             string
		refused            chan answer // of a watcher whose cursor is of the other side
		heard              *listener
		lateA, lateC       api.Written
		mark               string // a revision of c between those two
		sameA, sameC       api.Written
		bothA, bothC       api.Written
		ifA, ifC           api.Written
		edited             api.Written
		partA, partC       api.Written
		etag               string
		ownAnother         api.Written
		revision, versionC string
	)
	eachPuts := func(id, value string) func(*testing.T) {
		return func(t *testing.T) { p.a.puts(t, id, value) }
	}
	return []situation{
		{
			name: "your write, read where you wrote",
			before: func(t *testing.T) {
				for i := range 20 {
					done := p.b.puts(t, "hosts/own", fmt.Sprintf("N: %d\n", i))
					got := p.b.request(t, http.MethodGet, "/v1/hosts/own", nil)
					if got.body != fmt.Sprintf("N: %d", i) || got.header.Get("Hostmesh-Version") != done.Version {
						t.Errorf("read %q of version %s after writing %d as version %s", got.body, got.header.Get("Hostmesh-Version"), i, done.Version)
					}
				}
			},
			cut: func(t *testing.T) {
				p.c.puts(t, "hosts/own", "N: cut\n")
				p.c.gets(t, "hosts/own", "N: cut")
			},
		},
		{
			name: "your write, read elsewhere",
			before: func(t *testing.T) {
				done := p.a.puts(t, "hosts/elsewhere", "N: 1\n")
				p.site.wait("the write is at another box", func() error {
					if got := p.c.request(t, http.MethodGet, "/v1/hosts/elsewhere?revision="+done.Revision, nil); got.status != http.StatusOK {
						return fmt.Errorf("%d %s", got.status, got.code())
					}
					return nil
				})
				p.c.gets(t, "hosts/elsewhere", "N: 1")
			},
			cut: func(t *testing.T) {
				ownAnother = p.a.puts(t, "hosts/elsewhere", "N: 2\n")
				got := p.c.request(t, http.MethodGet, "/v1/hosts/elsewhere?revision="+ownAnother.Revision, nil)
				if got.status != http.StatusNotFound {
					t.Errorf("a revision that has not arrived: %d %q", got.status, got.body)
				}
				got = p.c.request(t, http.MethodGet, "/v1/hosts/elsewhere", nil)
				if got.body != "N: 1" || got.header.Get("Hostmesh-Version") == ownAnother.Version {
					t.Errorf("before it arrived: %q of version %s", got.body, got.header.Get("Hostmesh-Version"))
				}
			},
			healed: func(t *testing.T) {
				p.all(t, "hosts/elsewhere", "N: 2")
				if got := p.c.request(t, http.MethodGet, "/v1/hosts/elsewhere?revision="+ownAnother.Revision, nil); got.body != "N: 2" {
					t.Errorf("a revision that has arrived: %d %q", got.status, got.body)
				}
			},
		},
		{
			name: "reads one after another at one node",
			before: func(t *testing.T) {
				const last = 60
				var wg sync.WaitGroup
				defer wg.Wait()
				p.a.puts(t, "hosts/counter", "N: 0\n")
				p.site.equal(p.site.boxes...)
				wg.Go(func() {
					for i := range last {
						if _, err := p.a.api.Put(t.Context(), "hosts/counter/N", []byte(fmt.Sprint(i+1)), "test"); err != nil {
							t.Errorf("%s: %v", p.a.name, err)
						}
					}
				})
				before := 0
				p.site.wait("the last number arrives", func() error {
					var n int
					text := p.c.request(t, http.MethodGet, "/v1/hosts/counter/N", nil).body
					if _, err := fmt.Sscan(text, &n); err != nil || n < before {
						t.Errorf("read %q after %d: %v", text, before, err)
					}
					if before = n; n < last {
						return fmt.Errorf("%d", n)
					}
					return nil
				})
			},
			cut:    func(t *testing.T) { p.c.gets(t, "hosts/counter/N", "60") },
			healed: func(t *testing.T) { p.all(t, "hosts/counter/N", "60") },
		},
		{
			name:   "reads at two nodes in turn",
			before: eachPuts("hosts/turns", "N: 1\n"),
			cut: func(t *testing.T) {
				p.a.puts(t, "hosts/turns", "N: 2\n")
				p.a.gets(t, "hosts/turns", "N: 2")
				p.c.gets(t, "hosts/turns", "N: 1")
				versionA := p.a.request(t, http.MethodGet, "/v1/hosts/turns", nil).header.Get("Hostmesh-Version")
				versionC = p.c.request(t, http.MethodGet, "/v1/hosts/turns", nil).header.Get("Hostmesh-Version")
				if versionA == versionC || versionA == "" {
					t.Errorf("different states have the version %q", versionA)
				}
			},
			healed: func(t *testing.T) { p.all(t, "hosts/turns", "N: 2") },
		},
		{
			name:   "a value that the other side changed",
			before: eachPuts("hosts/stale", "Owner: before\n"),
			cut: func(t *testing.T) {
				p.a.puts(t, "hosts/stale", "Owner: after\n")
				p.b.site.wait("the near box has it", func() error {
					if got := p.b.request(t, http.MethodGet, "/v1/hosts/stale", nil); got.body != "Owner: after" {
						return fmt.Errorf("%q", got.body)
					}
					return nil
				})
				p.c.gets(t, "hosts/stale", "Owner: before")
			},
			still: func(t *testing.T) {
				p.a.sees(p.c, "failed")
				if st := p.c.status().Mesh; st.Alive != 1 || st.Members != 3 {
					t.Errorf("status of the box that is cut off counts %d of %d alive, want only itself of 3", st.Alive, st.Members)
				}
				p.c.gets(t, "hosts/stale", "Owner: before")
			},
			healed: func(t *testing.T) { p.all(t, "hosts/stale", "Owner: after") },
		},
		{
			name: "a write at a node that is alone",
			cut: func(t *testing.T) {
				if done := p.c.puts(t, "hosts/alone", "Owner: c\n"); done.Acks != 1 || done.Revision == "" {
					t.Errorf("where nobody else can hear: %+v", done)
				}
				p.c.gets(t, "hosts/alone", "Owner: c")
				if done := p.a.puts(t, "hosts/together", "Owner: a\n"); done.Acks != 2 {
					t.Errorf("where one other can hear: %+v", done)
				}
				p.a.gets(t, "hosts/alone", "")
			},
			healed: func(t *testing.T) {
				p.all(t, "hosts/alone", "Owner: c")
				p.all(t, "hosts/together", "Owner: a")
			},
		},
		{
			name: "a write with acks=N",
			cut: func(t *testing.T) {
				got := p.c.request(t, http.MethodPut, "/v1/hosts/acks", url.Values{"value": {"Owner: c\n"}, "log": {"x"}, "acks": {"2"}})
				revision = got.header.Get("Hostmesh-Revision")
				if got.status != http.StatusGatewayTimeout || got.code() != "5040" || got.header.Get("Hostmesh-Acks") != "1" || revision == "" {
					t.Errorf("acks=2 at a box that is alone: %d %v", got.status, got.header)
				}
				p.c.gets(t, "hosts/acks", "Owner: c") // the write stands
				got = p.a.request(t, http.MethodPut, "/v1/hosts/acks2", url.Values{"value": {"Owner: a\n"}, "log": {"x"}, "acks": {"2"}})
				if got.status != http.StatusCreated || got.header.Get("Hostmesh-Acks") != "2" {
					t.Errorf("acks=2 of two boxes: %d %v", got.status, got.header)
				}
				got = p.a.request(t, http.MethodPut, "/v1/hosts/acks3", url.Values{"value": {"Owner: a\n"}, "log": {"x"}, "acks": {"3"}})
				if got.status != http.StatusGatewayTimeout || got.code() != "5040" {
					t.Errorf("acks=3 of two boxes: %d %v", got.status, got.header)
				}
			},
			healed: func(t *testing.T) {
				p.all(t, "hosts/acks", "Owner: c")
				p.all(t, "hosts/acks3", "Owner: a")
				if got := p.a.request(t, http.MethodGet, "/v1/hosts/acks?revision="+revision, nil); got.status != http.StatusOK {
					t.Errorf("the write that was told 504 has another revision elsewhere: %d", got.status)
				}
			},
		},
		{
			name:   "different fields of one key",
			before: eachPuts("hosts/fields", "Owner: x\nRack: x\n"),
			cut: func(t *testing.T) {
				// Whole documents: what counts is what each changed of what it saw.
				p.a.puts(t, "hosts/fields", "Owner: a\nRack: x\n")
				p.c.puts(t, "hosts/fields", "Owner: x\nRack: c\nNew: c\n")
			},
			healed: func(t *testing.T) { p.all(t, "hosts/fields", "New: c\nOwner: a\nRack: c") },
		},
		{
			name:   "the same field",
			before: eachPuts("hosts/same", "Owner: x\n"),
			cut: func(t *testing.T) {
				sameA = p.a.puts(t, "hosts/same/Owner", "a")
				sameC = p.c.puts(t, "hosts/same/Owner", "c")
				p.a.gets(t, "hosts/same/Owner", "a")
				p.c.gets(t, "hosts/same/Owner", "c")
			},
			healed: func(t *testing.T) {
				p.all(t, "hosts/same/Owner", winner(sameA, "a", sameC, "c"))
				x := p.conflict(t, "hosts/same/Owner")
				if x.Winner.Revision != winner(sameA, sameA.Revision, sameC, sameC.Revision) || x.Loser.Revision != winner(sameA, sameC.Revision, sameC, sameA.Revision) ||
					x.Loser.Value == nil || *x.Loser.Value != winner(sameA, "c", sameC, "a") {
					t.Errorf("%+v", x)
				}
			},
		},
		{
			name: "a key that one side deletes and the other edits",
			before: func(t *testing.T) {
				p.a.puts(t, "hosts/deleted", "Owner: x\n")
				p.a.puts(t, "hosts/remade", "Owner: x\nRack: x\n")
			},
			cut: func(t *testing.T) {
				for _, id := range []string{"hosts/deleted", "hosts/remade"} {
					if _, err := p.a.api.Delete(t.Context(), id, "test"); err != nil {
						t.Fatal(err)
					}
				}
				p.a.puts(t, "hosts/remade", "Owner: new\n")
				edited = p.c.puts(t, "hosts/deleted/Owner", "c")
				p.c.puts(t, "hosts/remade/Rack", "c")
				p.a.gets(t, "hosts/deleted", "")
				p.c.gets(t, "hosts/deleted", "Owner: c")
			},
			healed: func(t *testing.T) {
				p.all(t, "hosts/deleted", "")
				p.all(t, "hosts/remade", "Owner: new")
				if x := p.conflict(t, "hosts/deleted"); x.Loser.Revision != edited.Revision {
					t.Errorf("%+v, want %s as the loser", x, edited.Revision)
				}
			},
		},
		{
			name:   "a key that one side renames and the other edits",
			before: eachPuts("hosts/renamed", "Owner: x\n"),
			cut: func(t *testing.T) {
				if _, err := p.a.api.Rename(t.Context(), "hosts/renamed", "newname", "test"); err != nil {
					t.Fatal(err)
				}
				edited := p.c.puts(t, "hosts/renamed/Owner", "c")
				if edited.Acks != 1 {
					t.Errorf("%+v", edited)
				}
			},
			healed: func(t *testing.T) {
				p.all(t, "hosts/newname", "Owner: x")
				p.all(t, "hosts/renamed", "")
				p.conflict(t, "hosts/renamed")
			},
		},
		{
			name: "a key that both sides create",
			cut: func(t *testing.T) {
				var err error
				if bothA, err = p.a.api.PutNew(t.Context(), "hosts/both", []byte("Owner: a\nFrom: a\n"), "test"); err != nil {
					t.Fatal(err)
				}
				if bothC, err = p.c.api.PutNew(t.Context(), "hosts/both", []byte("Owner: c\nRack: c\n"), "test"); err != nil {
					t.Fatal(err)
				}
			},
			healed: func(t *testing.T) {
				p.all(t, "hosts/both", "From: a\nOwner: "+winner(bothA, "a", bothC, "c")+"\nRack: c")
				p.conflict(t, "hosts/both/Owner")
			},
		},
		{
			name: "a member list",
			before: func(t *testing.T) {
				for _, h := range []string{"m1", "m2", "m3", "m4"} {
					p.a.puts(t, "hosts/"+h, "Owner: x\n")
				}
				p.a.puts(t, "tags/list", "Priority: 1\n")
				if _, err := p.a.api.SetMembers(t.Context(), "tags/list", "m1\nm2\n", "test"); err != nil {
					t.Fatal(err)
				}
			},
			cut: func(t *testing.T) {
				if _, err := p.a.api.AddMember(t.Context(), "tags/list", "m3", "test"); err != nil {
					t.Fatal(err)
				}
				if _, err := p.a.api.RemoveMember(t.Context(), "tags/list", "m1", "test"); err != nil {
					t.Fatal(err)
				}
				if _, err := p.c.api.SetMembers(t.Context(), "tags/list", "m1\nm4\n", "test"); err != nil { // a whole list: m4 instead of m2
					t.Fatal(err)
				}
			},
			healed: func(t *testing.T) { p.all(t, "tags/list/members", "m3\nm4") },
		},
		{
			name: "a list that gets a host which the other side deletes",
			before: func(t *testing.T) {
				p.a.puts(t, "hosts/dangling", "Owner: x\n")
				p.a.puts(t, "tags/dangles", "Priority: 1\n")
			},
			cut: func(t *testing.T) {
				if _, err := p.a.api.Delete(t.Context(), "hosts/dangling", "test"); err != nil {
					t.Fatal(err)
				}
				if _, err := p.c.api.AddMember(t.Context(), "tags/dangles", "dangling", "test"); err != nil {
					t.Fatal(err)
				}
				p.c.gets(t, "tags/dangles/members", "dangling")
			},
			healed: func(t *testing.T) {
				for _, b := range p.site.boxes {
					if got := b.request(t, http.MethodGet, "/v1/tags/dangles/members", nil); got.body != "" {
						t.Errorf("%s: members are %q", b.name, got.body)
					}
				}
				p.names(t, "dangling")
			},
		},
		{
			name: "a cycle of lists that both sides close",
			before: func(t *testing.T) {
				p.a.puts(t, "tags/cycle-a", "Priority: 1\n")
				p.a.puts(t, "tags/cycle-c", "Priority: 1\n")
				p.a.puts(t, "hosts/cycled", "Owner: x\n")
				if _, err := p.a.api.AddMember(t.Context(), "tags/cycle-a", "cycled", "test"); err != nil {
					t.Fatal(err)
				}
			},
			cut: func(t *testing.T) {
				if _, err := p.a.api.AddMember(t.Context(), "tags/cycle-a", "@cycle-c", "test"); err != nil {
					t.Fatal(err)
				}
				if _, err := p.c.api.AddMember(t.Context(), "tags/cycle-c", "@cycle-a", "test"); err != nil {
					t.Fatal(err)
				}
			},
			healed: func(t *testing.T) {
				p.all(t, "tags/cycle-a/members", "cycled")
				p.all(t, "tags/cycle-c/members", "cycled")
				p.names(t, "cycle-a")
			},
		},
		{
			name: "one address for two hosts",
			cut: func(t *testing.T) {
				p.a.puts(t, "hosts/address-a", "Network: {IP: 10.9.5.5}\n")
				p.c.puts(t, "hosts/address-c", "Network: {IP: 10.9.5.5}\n")
			},
			healed: func(t *testing.T) {
				p.all(t, "hosts/address-a/Network/IP", "10.9.5.5")
				p.all(t, "hosts/address-c/Network/IP", "10.9.5.5")
				p.names(t, "10.9.5.5")
			},
		},
		{
			name: "If-Match",
			before: func(t *testing.T) {
				p.a.puts(t, "hosts/match", "Owner: x\n")
				text, err := p.a.api.Lookup(t.Context(), "hosts/match", api.Lookup{})
				if err != nil {
					t.Fatal(err)
				}
				etag = text.ETag
			},
			cut: func(t *testing.T) {
				var err error
				if ifA, err = p.a.api.PutIf(t.Context(), "hosts/match", []byte("Owner: a\n"), "test", etag); err != nil {
					t.Errorf("one side: %v", err)
				}
				if ifC, err = p.c.api.PutIf(t.Context(), "hosts/match", []byte("Owner: c\n"), "test", etag); err != nil {
					t.Errorf("the other side: %v", err)
				}
				if _, err := p.c.api.PutIf(t.Context(), "hosts/match", []byte("Owner: d\n"), "test", etag); !api.Changed(err) {
					t.Errorf("the same side again: %v", err)
				}
			},
			healed: func(t *testing.T) {
				p.all(t, "hosts/match", "Owner: "+winner(ifA, "a", ifC, "c"))
				p.conflict(t, "hosts/match/Owner")
				if _, err := p.b.api.PutIf(t.Context(), "hosts/match", []byte("Owner: d\n"), "test", etag); !api.Changed(err) {
					t.Errorf("after the cut: %v", err)
				}
			},
		},
		{
			name: "a transaction",
			before: func(t *testing.T) {
				p.a.puts(t, "hosts/txn1", "N: 0\n")
				p.a.puts(t, "hosts/txn2", "N: 0\n")
				p.site.equal(p.site.boxes...)
				const last = 40
				var wg sync.WaitGroup
				defer wg.Wait()
				wg.Go(func() {
					for i := range last {
						value := fmt.Sprint(i + 1)
						if _, err := p.a.api.Txn(t.Context(), api.Txn{Log: "test", Effects: []api.Effect{
							{Op: "put_path", ID: "hosts/txn1/N", YAML: &value}, {Op: "put_path", ID: "hosts/txn2/N", YAML: &value},
						}}, 0); err != nil {
							t.Errorf("%s: %v", p.a.name, err)
						}
					}
				})
				p.site.wait("the last transaction arrives", func() error {
					got := p.c.request(t, http.MethodGet, "/v1/hosts/x/N?foreach=hosts&search=^txn[12]:", nil).body
					one, two, _ := strings.Cut(got, "\n")
					if n := strings.TrimPrefix(one, "txn1: "); two != "txn2: "+n {
						t.Errorf("half of a transaction: %q", got)
					} else if n != fmt.Sprint(last) {
						return fmt.Errorf("%s", n)
					}
					return nil
				})
			},
			cut: func(t *testing.T) {
				p.a.txn(t, "100", "hosts/txn1/N", "hosts/txn2/N")
				p.c.gets(t, "hosts/txn1/N", "40")
				p.c.gets(t, "hosts/txn2/N", "40")
			},
			healed: func(t *testing.T) {
				p.all(t, "hosts/txn1/N", "100")
				p.all(t, "hosts/txn2/N", "100")
			},
		},
		{
			name: "a transaction that loses in part",
			before: func(t *testing.T) {
				for _, id := range []string{"hosts/part1", "hosts/part2", "hosts/part3"} {
					p.a.puts(t, id, "N: x\n")
				}
			},
			cut: func(t *testing.T) {
				partA = p.a.txn(t, "a", "hosts/part1/N", "hosts/part2/N")
				partC = p.c.txn(t, "c", "hosts/part2/N", "hosts/part3/N")
			},
			healed: func(t *testing.T) {
				p.all(t, "hosts/part1/N", "a")
				p.all(t, "hosts/part2/N", winner(partA, "a", partC, "c"))
				p.all(t, "hosts/part3/N", "c")
				if x := p.conflict(t, "hosts/part2/N"); !slices.Equal(x.Loser.Also, []string{winner(partA, "hosts/part3", partC, "hosts/part1")}) {
					t.Errorf("what the loser wrote elsewhere is %q: %+v", x.Loser.Also, x)
				}
			},
		},
		{
			name: "a permission that one side takes away",
			before: func(t *testing.T) {
				p.a.puts(t, "hosts/perms", "Owner: x\n")
				p.a.puts(t, "hosts/perms/perms", "ops: {data: RW}\n")
				p.site.equal(p.site.boxes...)
				var status string
				if status, p.ann = p.c.curl(t, http.MethodPost, "/v1/auth/session", map[string]string{"username": "ann", "password": p.site.password}); status[:1] != "2" {
					t.Fatalf("login: %s %s", status, p.ann)
				}
				for _, b := range p.site.boxes {
					if got := p.annPuts(t, b, "hosts/perms/Owner", "ann-at-"+b.name); got != "201" {
						t.Errorf("with permission at %s: %s", b.name, got)
					}
				}
			},
			cut: func(t *testing.T) {
				p.a.puts(t, "hosts/perms/perms", "ops: {data: RO}\n")
				if got := p.annPuts(t, p.a, "hosts/perms/Owner", "no"); got != "403" {
					t.Errorf("where it was taken away: %s", got)
				}
				if got := p.annPuts(t, p.c, "hosts/perms/Owner", "meanwhile"); got != "201" {
					t.Errorf("where nobody heard of it: %s", got)
				}
			},
			healed: func(t *testing.T) {
				for _, b := range p.site.boxes {
					if got := p.annPuts(t, b, "hosts/perms/Owner", "no"); got != "403" {
						t.Errorf("%s: %s", b.name, got)
					}
				}
				p.all(t, "hosts/perms/Owner", "meanwhile") // nobody refuses what its node accepted
			},
		},
		{
			name: "DNS",
			before: func(t *testing.T) {
				p.a.puts(t, "hosts/web1.lab.test", "Network: {IP: 10.9.0.1}\n")
				p.a.puts(t, "tags/lab", "DNS: {Zone: lab.test, TTL: 1}\n")
				p.a.puts(t, "tags/lab/members", "web1.lab.test\n")
				p.resolves(p.c, "web1.lab.test", "10.9.0.1")
			},
			cut: func(t *testing.T) {
				p.a.puts(t, "hosts/web1.lab.test/Network/IP", "10.9.1.1")
				p.c.puts(t, "hosts/web3.lab.test", "Network: {IP: 10.9.1.3}\n")
				if _, err := p.c.api.AddMember(t.Context(), "tags/lab", "web3.lab.test", "test"); err != nil {
					t.Fatal(err)
				}
				p.resolves(p.b, "web1.lab.test", "10.9.1.1")
				p.resolves(p.c, "web3.lab.test", "10.9.1.3")
				p.resolves(p.c, "web1.lab.test", "10.9.0.1")
				p.resolves(p.b, "web3.lab.test", "")
			},
			healed: func(t *testing.T) {
				for _, b := range p.site.boxes {
					p.resolves(b, "web1.lab.test", "10.9.1.1")
					p.resolves(b, "web3.lab.test", "10.9.1.3")
				}
			},
		},
		{
			name:   "the log and past states",
			before: eachPuts("hosts/late", "V: x\n"),
			cut: func(t *testing.T) {
				lateA = p.a.puts(t, "hosts/late/V", "a")
				p.site.wait("the clock goes on", func() error {
					mark = p.c.puts(t, "hosts/mark", fmt.Sprintf("At: %d\n", time.Now().UnixNano())).Revision
					if mark <= lateA.Revision {
						return fmt.Errorf("%s is not later than %s", mark, lateA.Revision)
					}
					return nil
				})
				lateC = p.c.puts(t, "hosts/late/V", "c")
				got := p.c.request(t, http.MethodGet, "/v1/hosts/late/V?as-of="+mark, nil)
				if got.body != "x" || got.header.Get("Settled") != "no" {
					t.Errorf("as of a moment of the cut: %q, Settled: %s", got.body, got.header.Get("Settled"))
				}
			},
			healed: func(t *testing.T) {
				for _, b := range p.site.boxes {
					list, err := b.api.Revisions(t.Context(), "hosts/late", api.RevisionQuery{})
					if err != nil || len(list.Revisions) != 3 || list.Revisions[0].ID != lateC.Revision || list.Revisions[1].ID != lateA.Revision {
						t.Errorf("the log at %s is %+v, %v; want %s above %s", b.name, list.Revisions, err, lateC.Revision, lateA.Revision)
					}
					p.site.wait("the moment is settled at "+b.name, func() error {
						got := b.request(t, http.MethodGet, "/v1/hosts/late/V?as-of="+mark, nil)
						if got.body != "a" {
							t.Fatalf("as of a moment of the cut, later, at %s: %q", b.name, got.body)
						}
						if settled := got.header.Get("Settled"); settled != "yes" {
							return fmt.Errorf("Settled: %s", settled)
						}
						return nil
					})
				}
			},
		},
		{
			name:   "a watcher",
			before: func(t *testing.T) { heard = p.listen(t, p.c, "watched-") },
			cut: func(t *testing.T) {
				p.a.puts(t, "hosts/watched-a", "Owner: a\n")
				p.c.puts(t, "hosts/watched-c", "Owner: c\n")
				p.site.wait("the watcher hears of this side", func() error {
					if got := heard.all(); !slices.Equal(got, []string{"hosts/watched-c"}) {
						return fmt.Errorf("it heard of %q", got)
					}
					return nil
				})
			},
			healed: func(t *testing.T) {
				// What is older by its revision comes later, and each comes once.
				p.site.wait("the watcher hears of the other side", func() error {
					if got := heard.all(); !slices.Equal(got, []string{"hosts/watched-c", "hosts/watched-a"}) {
						return fmt.Errorf("it heard of %q", got)
					}
					return nil
				})
			},
		},
		{
			name: "a restart while cut off",
			cut: func(t *testing.T) {
				done := p.c.puts(t, "hosts/restarted", "N: 1\n")
				p.c.kill()
				p.c.start()
				got := p.c.request(t, http.MethodGet, "/v1/hosts/restarted", nil)
				if got.body != "N: 1" || got.header.Get("Hostmesh-Version") != done.Version {
					t.Errorf("after the restart: %q of version %s, want %s", got.body, got.header.Get("Hostmesh-Version"), done.Version)
				}
				if done := p.c.puts(t, "hosts/restarted", "N: 2\n"); done.Acks != 1 {
					t.Errorf("%+v", done)
				}
			},
			healed: func(t *testing.T) { p.all(t, "hosts/restarted", "N: 2") },
		},
		{
			name: "a watch cursor of the other side",
			cut: func(t *testing.T) {
				p.a.puts(t, "hosts/cursor", "Owner: a\n")
				for e, err := range p.a.api.Watch(t.Context(), api.WatchOptions{From: "now"}) {
					if err != nil {
						t.Fatal(err)
					}
					cursor = e.Cursor
					break
				}
				refused = make(chan answer, 1)
				whole := p.whole // the request outlasts this subtest
				go func() {
					refused <- p.c.request(whole, http.MethodGet, "/api/v1/watch?from="+url.QueryEscape(cursor), nil)
				}()
			},
			still: func(t *testing.T) {
				if got := <-refused; got.status != http.StatusConflict || !strings.Contains(got.body, "not arrived at this node yet") {
					t.Errorf("a cursor that names what is not here: %d %s", got.status, got.body)
				}
			},
			healed: func(t *testing.T) {
				for e, err := range p.c.api.Watch(t.Context(), api.WatchOptions{From: cursor}) {
					if err != nil || e.Cursor == "" {
						t.Fatalf("%+v, %v", e, err)
					}
					break
				}
			},
		},
		{
			name: "clocks",
			before: func(t *testing.T) {
				fast, slow := &movedClock{time.UnixMilli(1_700_000_000_800)}, &movedClock{time.UnixMilli(1_700_000_000_000)}
				x, y := replica(t, "fast", fast), replica(t, "slow", slow)
				put := func(s *hostdb.Store, value string) {
					t.Helper()
					if _, err := s.Update(t.Context(), hostdb.Request{User: "alice"}, func(tx *hostdb.Tx) error {
						return tx.Put(hostdb.Hosts, "h", hostdb.NewDocument(hostdb.Leaf{Value: hostdb.Text(value)}))
					}); err != nil {
						t.Fatal(err)
					}
				}
				pass := func(from, to *hostdb.Store) {
					t.Helper()
					for origin, seq := range from.View().Vector() {
						held := to.View().Seq(origin)
						if held >= seq {
							continue
						}
						ops, err := from.Operations(origin, held, 1<<20)
						if err == nil {
							_, err = to.Apply(t.Context(), ops)
						}
						if err != nil {
							t.Fatal(err)
						}
					}
				}
				says := func(want string) {
					t.Helper()
					for name, s := range map[string]*hostdb.Store{"fast": x, "slow": y} {
						if got := strings.TrimSpace(s.View().Data(hostdb.Hosts, "h").YAML()); got != want {
							t.Errorf("the %s one has %q, want %q", name, got, want)
						}
					}
				}
				put(x, "first")
				slow.now = slow.now.Add(500 * time.Millisecond) // half a second later, and unseen
				put(y, "second")
				pass(x, y)
				pass(y, x)
				says("first")
				put(y, "third") // by the slow clock still before the first, but its writer saw that
				pass(y, x)
				says("third")
			},
		},
		{
			name: "read-only mode",
			cut: func(t *testing.T) {
				if _, err := p.a.api.SetReadOnly(t.Context(), true, "we move"); err != nil {
					t.Fatal(err)
				}
				got := p.a.request(t, http.MethodPut, "/v1/hosts/frozen", url.Values{"value": {"Owner: a\n"}, "log": {"x"}})
				if got.code() != "4031" || !strings.Contains(got.header.Get("Error"), "we move") {
					t.Errorf("where it was switched on: %d %v", got.status, got.header)
				}
				p.c.puts(t, "hosts/frozen", "Owner: c\n")
			},
			healed: func(t *testing.T) {
				for _, b := range p.site.boxes {
					got := b.request(t, http.MethodPut, "/v1/hosts/frozen", url.Values{"value": {"Owner: d\n"}, "log": {"x"}})
					if got.code() != "4031" {
						t.Errorf("%s: %d %v", b.name, got.status, got.header)
					}
				}
				p.all(t, "hosts/frozen", "Owner: c")
				if _, err := p.b.api.SetReadOnly(t.Context(), false, ""); err != nil {
					t.Fatal(err)
				}
				p.site.equal(p.site.boxes...)
			},
		},
	}
}

// resolves waits until a box's DNS answers with an address; "" is none.
func (p *parted) resolves(b *box, host, addr string) {
	p.site.t.Helper()
	p.site.wait(fmt.Sprintf("%s answers %q for %s", b.name, addr, host), func() error {
		if got := b.dig(host); got != addr {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
}
