package mesh

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/serf/serf"
)

func testID(i int) string { return fmt.Sprintf("%032x", i) }

func TestMassSuspicion(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	group := func(n int, state State, ago time.Duration, dc, rack string) (ms []Member) {
		for range n {
			ms = append(ms, Member{State: state, Since: now.Add(-ago), Datacenter: dc, Rack: rack})
		}
		return ms
	}
	join := func(groups ...[]Member) (ms []Member) {
		for _, g := range groups {
			ms = append(ms, g...)
		}
		return ms
	}
	for _, c := range []struct {
		what    string
		members []Member
		want    bool
	}{
		{"nobody", nil, false},
		{"all well", group(10, StateAlive, 0, "", ""), false},
		{"two of three", join(group(1, StateAlive, 0, "", ""), group(2, StateFailed, time.Second, "", "")), false},
		{"three of four", join(group(1, StateAlive, 0, "", ""), group(3, StateFailed, time.Second, "", "")), true},
		{"three of fifteen is 20 %", join(group(12, StateAlive, 0, "", ""), group(3, StateFailed, time.Second, "", "")), false},
		{"three of fourteen", join(group(11, StateAlive, 0, "", ""), group(3, StateFailed, time.Second, "", "")), true},
		{"long ago", join(group(4, StateAlive, 0, "", ""), group(3, StateFailed, time.Minute, "", "")), false},
		{"just within", join(group(4, StateAlive, 0, "", ""), group(3, StateFailed, time.Minute-1, "", "")), true},
		{"left in order", join(group(2, StateAlive, 0, "", ""), group(9, StateLeft, time.Second, "", "")), false},
		{"never seen", join(group(2, StateAlive, 0, "", ""), group(9, StateUnknown, 0, "", "")), false},
		{"long dead do not count as members", join(group(8, StateAlive, 0, "", ""), group(90, StateFailed, time.Hour, "", ""), group(3, StateFailed, 0, "", "")), true},
		{"two of a rack of three", join(group(30, StateAlive, 0, "dc1", "r1"), group(1, StateAlive, 0, "dc1", "r2"), group(2, StateFailed, 0, "dc1", "r2")), true},
		{"two of a rack of four", join(group(30, StateAlive, 0, "dc1", "r1"), group(2, StateAlive, 0, "dc1", "r2"), group(2, StateFailed, 0, "dc1", "r2")), false},
		{"all of a rack of two", join(group(30, StateAlive, 0, "dc1", "r1"), group(2, StateFailed, 0, "dc1", "r2")), false},
		{"racks of one name in two datacenters", join(group(30, StateAlive, 0, "dc1", "r1"), group(1, StateFailed, 0, "dc2", "r2"), group(1, StateFailed, 0, "dc3", "r2"), group(1, StateAlive, 0, "dc3", "r2")), false},
	} {
		if got := massSuspicion(c.members, now); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestView(t *testing.T) {
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	v := NewView(testID(2), []Member{
		{ID: testID(3), Name: "c", State: StateFailed, Since: late},
		{ID: testID(1), Name: "a", State: StateAlive, Since: early},
		{ID: testID(2), Name: "b", State: StateAlive, Since: early},
		{ID: testID(5), Name: "a", State: StateFailed, Since: late},
		{ID: testID(4), Name: "c", State: StateLeft, Since: early},
	})
	if v.Len() != 5 || v.Self().ID != testID(2) || !v.Self().Self {
		t.Errorf("self: %+v", v.Self())
	}
	for i, m := range v.Members() {
		if m.ID != testID(i+1) {
			t.Errorf("not sorted: %v", v.Members())
		}
	}
	if m, ok := v.ByName("a"); !ok || m.ID != testID(1) {
		t.Errorf("alive namesake: %v %v", m.ID, ok)
	}
	if m, ok := v.ByName("c"); !ok || m.ID != testID(3) {
		t.Errorf("latest namesake: %v %v", m.ID, ok)
	}
	if _, ok := v.ByName("x"); ok {
		t.Error("found nobody's name")
	}
	if _, ok := v.Get(testID(9)); ok {
		t.Error("found nobody's id")
	}
	n := 0
	for range v.Alive() {
		n++
	}
	if n != 2 {
		t.Errorf("%d alive", n)
	}
	w := v.WithMassSuspicion(true).WithDistance(testID(1), testID(2), time.Second)
	if d, ok := w.Distance(testID(2), testID(1)); !ok || d != time.Second || !w.MassSuspicion() || v.MassSuspicion() {
		t.Errorf("with: %v %v", d, ok)
	}
	if _, ok := v.Distance(testID(1), testID(2)); ok {
		t.Error("the first view changed")
	}
	if d, ok := v.Distance(testID(1), testID(1)); !ok || d != 0 {
		t.Error("distance to itself")
	}
	var zero View
	if zero.Len() != 0 || zero.Self().ID != "" || zero.MassSuspicion() || zero.Revision() != 0 {
		t.Error("zero view is not empty")
	}
	if !zero.WithMassSuspicion(true).MassSuspicion() {
		t.Error("zero view with")
	}
	if n := testing.AllocsPerRun(100, func() { v.Get(testID(1)) }); n > 2 { // testID allocates
		t.Errorf("Get allocates: %v", n)
	}
}

func TestStateText(t *testing.T) {
	for s := StateUnknown; s <= StateLeft; s++ {
		text, _ := s.MarshalText()
		var back State
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%s: %v %v", text, back, err)
		}
	}
	if err := new(State).UnmarshalText([]byte("x")); err == nil {
		t.Error("x is no state")
	}
}

func TestCheckTags(t *testing.T) {
	cfg := Config{Name: strings.Repeat("n", 253), Datacenter: "dc1", Rack: "r12"}
	if err := checkTags(&cfg); err != nil {
		t.Error(err)
	}
	cfg.Rack = strings.Repeat("r", 100)
	if err := checkTags(&cfg); err == nil || !strings.Contains(err.Error(), "rack (100 bytes)") {
		t.Errorf("too long: %v", err)
	}
}

func TestMemberOf(t *testing.T) {
	cfg := Config{MeshID: testID(9), Name: "box1", Datacenter: "dc1", Rack: "r1"}
	m := memberOf(serf.Member{Name: testID(1), Addr: netip.MustParseAddr("10.0.0.1").AsSlice(), Port: 7946, Tags: encodeTags(&cfg, 7947)})
	want := Member{ID: testID(1), Name: "box1", Addr: netip.MustParseAddr("10.0.0.1"), GossipPort: 7946, StreamPort: 7947, Datacenter: "dc1", Rack: "r1", Protocol: ProtocolMax}
	if m != want {
		t.Errorf("got %+v", m)
	}
}

func TestPeerList(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	l, err := loadPeerList(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	l.setMesh(testID(9))
	m := Member{ID: testID(1), Name: "a", Addr: netip.MustParseAddr("10.0.0.1"), GossipPort: 7946, StreamPort: 7947, Protocol: 1}
	l.see(m)
	m.ID = testID(2)
	l.see(m)
	l.remove(testID(2), time.Now())
	l.see(m) // removed ones stay away
	if err := l.save(); err != nil {
		t.Fatal(err)
	}
	if l.dirty {
		t.Error("still dirty")
	}
	back, err := loadPeerList(dir, log)
	if err != nil || back.mesh != testID(9) || len(back.all()) != 1 || back.all()[0] != l.all()[0] || !back.isRemoved(testID(2)) {
		t.Fatalf("read back: %+v %v", back, err)
	}
	files, _ := os.ReadDir(dir)
	if len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
	path := filepath.Join(dir, peerListFile)
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	for _, text := range []string{"{", `{"version": 99}`, ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err = loadPeerList(dir, log)
		if err != nil || len(l.all()) != 0 {
			t.Errorf("%q: %v", text, err)
		}
		if kept, err := os.ReadFile(path + ".bad"); err != nil || string(kept) != text {
			t.Errorf("%q is not kept: %v", text, err)
		}
	}
	// The next version's file is read as far as it is understood.
	text, _ := json.Marshal(map[string]any{"version": peerListVersion + 1, "mesh": testID(9), "news": 1})
	os.WriteFile(path, text, 0o600)
	if l, err = loadPeerList(dir, log); err != nil || l.mesh != testID(9) {
		t.Errorf("next version: %v", err)
	}
	l.path = filepath.Join(dir, "missing", "peers.json")
	l.setMesh(testID(8))
	if err := l.save(); err == nil || !l.dirty {
		t.Errorf("cannot be written: %v", err)
	}
}

func TestGossipLog(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(1000, 0)
	clock := func() time.Time { return now }
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo}))
	r := newRefusals(log, clock)
	g := newGossipLogger(log, r, newConflicts(log, clock), clock)
	for range 5 {
		g.Print(`[ERR] memberlist: discarding packet with unacceptable label "hostmesh-abc": from=10.0.0.9:7946`)
		g.Print(`[ERR] memberlist: Decrypt packet failed: No installed keys could decrypt the message from=10.0.0.9:7946`)
		g.Print(`[ERR] memberlist: failed to receive: No installed keys could decrypt the message from=10.0.0.9:40001`)
		g.Print(`[WARN] memberlist: Got ping for unexpected node a1 from=10.0.0.9:1`)
		g.Print(`[WARN] memberlist: Got ping for unexpected node b2 from=10.0.0.9:2`)
		g.Print(`[DEBUG] memberlist: chatter`)
		g.Print(`[INFO] serf: EventMemberJoin: x`)
		g.Print(`[ERR] memberlist: discarding stream with unacceptable label "": from=10.0.0.8:5`)
	}
	if n := strings.Count(b.String(), "wrong mesh key"); n != 1 || r.key.Load() != 15 {
		t.Errorf("wrong key logged %d times, counted %d:\n%s", n, r.key.Load(), b.String())
	}
	if n := strings.Count(b.String(), "without a label"); n != 1 || r.garbage.Load() != 5 {
		t.Errorf("no label: %d, %d", n, r.garbage.Load())
	}
	if n := strings.Count(b.String(), "unexpected node"); n != 2 {
		t.Errorf("repeated line logged %d times:\n%s", n, b.String())
	}
	if strings.Contains(b.String(), "chatter") || strings.Contains(b.String(), "EventMemberJoin") {
		t.Errorf("too talkative:\n%s", b.String())
	}
	b.Reset()
	now = now.Add(2 * time.Minute)
	g.Print(`[WARN] memberlist: Got ping for unexpected node a1 from=10.0.0.9:1`)
	if !strings.Contains(b.String(), "unlogged=4") {
		t.Errorf("after a while: %s", b.String())
	}
	// One that belonged to the mesh in between is news again.
	b.Reset()
	r.forget(netip.MustParseAddr("10.0.0.9"))
	r.refuse(netip.MustParseAddrPort("10.0.0.9:1"), refuseKey)
	if !strings.Contains(b.String(), "wrong mesh key") {
		t.Error("not logged again")
	}
}

func TestGossipConflict(t *testing.T) {
	id := testID(7)
	for text, want := range map[string]string{
		"memberlist: Conflicting address for " + id + ". Mine: 10.0.0.1:7946 Theirs: 10.0.0.2:7947 Old state: 0": "10.0.0.1:7946 10.0.0.2:7947",
		"memberlist: Conflicting address for " + id + ". Mine: fd00::1:7946 Theirs: fd00::2:7946 Old state: 2":   "[fd00::1]:7946 [fd00::2]:7946",
		"memberlist: Conflicting address for somebody. Mine: 10.0.0.1:7946 Theirs: 10.0.0.2:7947 Old state: 0":   "",
		"memberlist: Conflicting address for " + id + ". Mine: 10.0.0.1 Theirs: x:7947 Old state: 0":             "",
		"memberlist: Conflicting address for " + id:                                                              "",
		"memberlist: Updating address for left or failed node " + id + " from 10.0.0.1:7946 to 10.0.0.2:7946":    "",
		"serf: Name conflict for '" + id + "' both 10.0.0.1:7946 and 10.0.0.2:7946 are claiming":                 "",
	} {
		got, ok := gossipConflict(text)
		if ok != (want != "") || ok && (got.id != id || got.known.String()+" "+got.other.String() != want) {
			t.Errorf("%s: %+v, %v", text, got, ok)
		}
	}
}

// One id at two addresses counts once it has lasted longer than a move of a box takes, and is logged once.
func TestConflicts(t *testing.T) {
	var b bytes.Buffer
	now := time.Unix(1000, 0)
	clock := func() time.Time { return now }
	log := slog.New(slog.NewTextHandler(&b, nil))
	c := newConflicts(log, clock)
	g := newGossipLogger(log, newRefusals(log, clock), c, clock)
	claim := func(every time.Duration, times int) {
		for range times {
			g.Printf("[ERR] memberlist: Conflicting address for %s. Mine: 10.0.0.1:7946 Theirs: 10.0.0.2:7946 Old state: 0", testID(7))
			g.Printf("[WARN] serf: Name conflict for '%s' both 10.0.0.1:7946 and 10.0.0.2:7946 are claiming", testID(7))
			now = now.Add(every)
		}
	}
	var st Stats
	claim(10*time.Second, 4) // until 30 s
	if c.fill(&st); st.IDConflicts != 0 || st.ConflictAddrs != nil || b.Len() > 0 {
		t.Errorf("a box that moved: %+v\n%s", st, &b)
	}
	now = now.Add(time.Hour)
	claim(10*time.Second, 10) // until 90 s
	if c.fill(&st); st.IDConflicts != 5 || !slices.Equal(st.ConflictAddrs, []string{"10.0.0.1:7946", "10.0.0.2:7946"}) {
		t.Errorf("a copy: %+v", st)
	}
	if n := strings.Count(b.String(), "\n"); n != 1 || !strings.Contains(b.String(), "level=ERROR") || !strings.Contains(b.String(), "empty its data directory") {
		t.Errorf("logged %d times:\n%s", n, &b)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	r := newRefusals(slog.New(slog.DiscardHandler), time.Now)
	for i := range 3 * maxRemembered {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
		r.refuse(a, refuseMesh)
		r.noise(a, errors.New("x"))
	}
	if len(r.seen) > maxRemembered || len(r.quiet) > maxRemembered {
		t.Errorf("%d, %d", len(r.seen), len(r.quiet))
	}
}

func TestSplitJoin(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1": "10.0.0.1 7", "10.0.0.1:8": "10.0.0.1 8", "box1": "box1 7", "box1.example.com:99": "box1.example.com 99",
		"fd00::1": "fd00::1 7", "[fd00::1]:9": "fd00::1 9",
		"": "", ":8": "", "box:": "", "box:x": "", "box:0": "", "box:70000": "", "a b": "", "http://box": "",
	} {
		host, port, err := splitJoin(in, 7)
		got := fmt.Sprintf("%s %d", host, port)
		if want == "" && err == nil || want != "" && (err != nil || got != want) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestRemoteError(t *testing.T) {
	for code, want := range map[string]error{codeNoHandler: ErrNoHandler, codeBusy: ErrBusy, codeTooLarge: ErrTooLarge} {
		err := fmt.Errorf("outer: %w", &RemoteError{Code: code})
		if !errors.Is(err, want) || errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", code, err)
		}
		if errorCode(err) != code {
			t.Errorf("%s is not passed on: %s", code, errorCode(err))
		}
	}
	if errors.Is(&RemoteError{Code: "own"}, ErrNoHandler) {
		t.Error("own code matches")
	}
}
