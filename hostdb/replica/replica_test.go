package replica

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// fabric carries calls between nodes in memory. Links can be cut; who is alive is what can be reached.
type fabric struct {
	mu       sync.Mutex
	handlers map[string]map[string]func(context.Context, string, []byte) ([]byte, error)
	cut      map[[2]string]bool
	deaf     map[[2]string]bool // the first gets no answers from the second, and does not know
	up       map[string]bool
	changed  map[chan struct{}]bool
	calls    map[string]int // by sender
	hook     hook
	rewrite  func(from, to, name string, req []byte) []byte // changes requests; nil for none
}

func newFabric() *fabric {
	return &fabric{
		handlers: map[string]map[string]func(context.Context, string, []byte) ([]byte, error){},
		cut:      map[[2]string]bool{}, deaf: map[[2]string]bool{}, up: map[string]bool{}, changed: map[chan struct{}]bool{}, calls: map[string]int{},
	}
}

// set changes the fabric and tells everybody.
func (f *fabric) set(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	for ch := range f.changed {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (f *fabric) reaches(a, b string) bool {
	return f.up[a] && f.up[b] && !f.cut[[2]string{a, b}] && !f.cut[[2]string{b, a}]
}

// called is how many calls a node has made.
func (f *fabric) called(node string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[node]
}

// port is one node's view of the fabric.
type port struct {
	*fabric
	node string
}

func (p port) Alive() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for n := range p.up {
		if n != p.node && p.reaches(p.node, n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

func (p port) Call(ctx context.Context, node, name string, req []byte) ([]byte, error) {
	p.mu.Lock()
	h, ok := p.handlers[node][name], p.reaches(p.node, node) && !p.deaf[[2]string{p.node, node}]
	p.calls[p.node]++
	change, rewrite := p.hook, p.rewrite
	p.mu.Unlock()
	if rewrite != nil {
		req = rewrite(p.node, node, name, req)
	}
	if !ok {
		return nil, fmt.Errorf("%s cannot reach %s", p.node, node)
	}
	time.Sleep(time.Millisecond)
	call := func() ([]byte, error) { return h(ctx, p.node, req) }
	if change != nil {
		return change(ctx, p.node, node, name, req, call)
	}
	return call()
}

func (p port) Handle(name string, h func(context.Context, string, []byte) ([]byte, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.handlers[p.node] == nil {
		p.handlers[p.node] = map[string]func(context.Context, string, []byte) ([]byte, error){}
	}
	p.handlers[p.node][name] = h
}

func (p port) Changed() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	p.mu.Lock()
	p.changed[ch] = true
	p.mu.Unlock()
	return ch, func() { p.mu.Lock(); delete(p.changed, ch); p.mu.Unlock() }
}

// member is one node under test.
type member struct {
	name    string
	storage *hostdbtest.Memory
	store   *hostdb.Store
	replica *Replica
	stop    func()
	skew    time.Duration
}

type skewed struct{ m *member }

func (c skewed) Now() time.Time {
	return time.Now().Add(time.Duration(atomic.LoadInt64((*int64)(&c.m.skew))))
}

// set sets the member's clock wrong by so much.
func (c skewed) set(d time.Duration) { atomic.StoreInt64((*int64)(&c.m.skew), int64(d)) }

func start(t *testing.T, f *fabric, m *member, cfg Config) {
	t.Helper()
	if m.storage == nil {
		m.storage = hostdbtest.NewMemory()
	}
	store, err := hostdb.Open(hostdb.Config{
		OpenStorage: func() (hostdb.Storage, error) { return m.storage, nil }, NodeID: m.name, Clock: skewed{m},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Store, cfg.NodeID, cfg.Peers = store, m.name, port{f, m.name}
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	m.store, m.replica = store, r
	m.stop = sync.OnceFunc(func() {
		f.set(func() { delete(f.up, m.name) })
		cancel()
		<-done
		r.Close()
		store.Close()
	})
	f.set(func() { f.up[m.name] = true })
}

// kill ends a member as kill -9 does; what was durable is what a new start finds.
func (m *member) kill() {
	m.stop()
	m.storage = m.storage.Snapshot()
}

func put(t *testing.T, m *member, key, value string) hostdb.Commit {
	t.Helper()
	doc, err := hostdb.ParseDocument([]byte(value))
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.store.Update(t.Context(), hostdb.Request{User: "test", Log: "test"}, func(tx *hostdb.Tx) error {
		return tx.Put(hostdb.Hosts, key, doc)
	})
	if err != nil {
		t.Fatalf("put at %s: %v", m.name, err)
	}
	return c
}

func equal(t *testing.T, members ...*member) {
	t.Helper()
	first := members[0].store.View()
	for _, m := range members[1:] {
		v := m.store.View()
		if v.Version().String() != first.Version().String() || v.Digest(hostdb.Hosts) != first.Digest(hostdb.Hosts) {
			t.Errorf("%s is at %s with digest %s; %s at %s with %s", m.name, v.Version(), v.Digest(hostdb.Hosts),
				members[0].name, first.Version(), first.Digest(hostdb.Hosts))
		}
	}
}

func mesh(t *testing.T, f *fabric, n int, cfg Config) []*member {
	t.Helper()
	var out []*member
	for i := range n {
		m := &member{name: fmt.Sprintf("node%03d", i)}
		start(t, f, m, cfg)
		out = append(out, m)
	}
	return out
}

func stopAll(members []*member) {
	for _, m := range members {
		m.stop()
	}
}

func TestWriteReachesAllAndIsAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		ms := mesh(t, f, 3, Config{})
		defer stopAll(ms)
		synctest.Wait()
		begin := time.Now()
		c := put(t, ms[0], "web1", "{a: 1}")
		if c.Acks < 2 {
			t.Errorf("acks = %d, want this box and at least one other", c.Acks)
		}
		if d := time.Since(begin); d > 10*time.Millisecond {
			t.Errorf("a write waited %s of virtual time for links of 1 ms", d)
		}
		time.Sleep(10 * time.Millisecond)
		equal(t, ms...)
		if got := ms[2].store.View().Data(hostdb.Hosts, "web1").Text("a"); got != "1" {
			t.Errorf("a = %q at the third node", got)
		}
	})
}

func TestLoneNodeDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ms := mesh(t, newFabric(), 1, Config{})
		defer stopAll(ms)
		synctest.Wait()
		begin := time.Now()
		if c := put(t, ms[0], "web1", "1"); c.Acks != 1 {
			t.Errorf("acks = %d", c.Acks)
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("waited %s for nobody", d)
		}
	})
}

func TestCutOffNodesBothAcceptWritesAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		ms := mesh(t, f, 3, Config{})
		defer stopAll(ms)
		put(t, ms[0], "web1", "{a: 1, b: 1}")
		time.Sleep(time.Second)
		f.set(func() { f.cut[[2]string{"node000", "node002"}] = true; f.cut[[2]string{"node001", "node002"}] = true })
		put(t, ms[0], "web1", "{a: 2, b: 1}")
		if c := put(t, ms[2], "web1", "{a: 1, b: 2}"); c.Acks != 1 {
			t.Errorf("a cut-off node counts %d acknowledgements", c.Acks)
		}
		f.set(func() { clear(f.cut) })
		time.Sleep(10 * time.Second)
		equal(t, ms...)
		if got := ms[1].store.View().Data(hostdb.Hosts, "web1").YAML(); got != "a: 2\nb: 2\n" {
			t.Errorf("two edits of different fields gave %q", got)
		}
	})
}

// Nodes that cannot see each other learn from one that sees both.
func TestRepairGoesAroundACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		ms := mesh(t, f, 3, Config{})
		defer stopAll(ms)
		f.set(func() { f.cut[[2]string{"node000", "node002"}] = true })
		put(t, ms[0], "web1", "1")
		put(t, ms[2], "web2", "1")
		time.Sleep(20 * time.Second)
		equal(t, ms...)
	})
}

func TestRestartedNodeCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		ms := mesh(t, f, 3, Config{})
		defer stopAll(ms)
		put(t, ms[1], "before", "1")
		time.Sleep(time.Second)
		ms[1].kill()
		for i := range 300 {
			put(t, ms[i%2*2], fmt.Sprintf("web%d", i), "{v: 1}")
		}
		start(t, f, ms[1], Config{MessageBytes: 2000})
		if ms[1].replica.Synced() {
			t.Error("synced before anything was heard")
		}
		put(t, ms[1], "after", "1")
		time.Sleep(5 * time.Second)
		equal(t, ms...)
		if !ms[1].replica.Synced() {
			t.Error("not synced after it caught up")
		}
	})
}

// A killed node may have sent a write that it never acknowledged itself; the others keep it, and it comes back.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		ms := mesh(t, f, 3, Config{})
		defer stopAll(ms)
		var acknowledged []string
		for round := range 5 {
			for i := range 10 {
				key := fmt.Sprintf("r%d-%d", round, i)
				put(t, ms[(round+i)%3], key, "1")
				acknowledged = append(acknowledged, key)
			}
			ms[round%3].kill()
			put(t, ms[(round+1)%3], fmt.Sprintf("down%d", round), "1")
			start(t, f, ms[round%3], Config{})
		}
		time.Sleep(20 * time.Second)
		equal(t, ms...)
		for _, key := range acknowledged {
			if !ms[0].store.View().Exists(hostdb.Hosts, key) {
				t.Errorf("%s was acknowledged and is lost", key)
			}
		}
	})
}

// Beyond the fan-out, writes travel along a tree and still reach all within a few hops.
func TestLargeMeshForwardsAlongATree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		ms := mesh(t, f, 40, Config{Fanout: 3, RepairEvery: time.Hour})
		defer stopAll(ms)
		time.Sleep(time.Second)
		pushes := map[string]int{}
		f.set(func() { f.hook = countPushes(f, pushes) })
		put(t, ms[7], "web1", "1")
		time.Sleep(50 * time.Millisecond)
		equal(t, ms...)
		f.mu.Lock()
		defer f.mu.Unlock()
		for node, n := range pushes {
			if n > 3 {
				t.Errorf("%s pushed %d times for one write, want at most its fan-out of 3", node, n)
			}
		}
	})
}

func TestFastClockIsHeldAsideAndComesInLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		ms := mesh(t, f, 2, Config{})
		defer stopAll(ms)
		skewed{ms[0]}.set(20 * time.Second)
		if c := put(t, ms[0], "web1", "1"); c.Acks != 1 {
			t.Errorf("a write 20 s ahead was taken: %d acks", c.Acks)
		}
		time.Sleep(time.Second)
		if ms[1].store.View().Exists(hostdb.Hosts, "web1") {
			t.Error("the other box took a stamp 20 s ahead")
		}
		put(t, ms[1], "web2", "1") // it holds back nobody else
		time.Sleep(time.Second)
		if !ms[0].store.View().Exists(hostdb.Hosts, "web2") {
			t.Error("an honest box's write did not arrive")
		}
		if ms[1].replica.Status().Counts.HeldAside == 0 {
			t.Error("nothing was counted as held aside")
		}
		time.Sleep(40 * time.Second)
		equal(t, ms...)
	})
}

func TestUnequalDigestsAreAnAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := newFabric()
		ms := mesh(t, f, 2, Config{Logger: slog.New(slog.NewTextHandler(&out, nil)), RepairEvery: time.Hour})
		defer stopAll(ms)
		synctest.Wait()
		pic := ms[0].replica.picture()
		ms[0].replica.compare("node001", pic, &pullAnswer{Version: pic.version, Algorithm: hostdb.DigestAlgorithm, Digests: map[string]string{hostdb.Hosts: "00"}})
		if !strings.Contains(out.String(), "replicas with equal versions differ") || ms[0].replica.Status().Counts.Mismatches != 1 {
			t.Errorf("no alarm: %q", out.String())
		}
		if p := ms[0].replica.Status().Peers; len(p) != 1 || !p[0].Differs {
			t.Errorf("status does not show it: %+v", p)
		}
	})
}

func TestGarbageIsRefused(t *testing.T) {
	ms := mesh(t, newFabric(), 1, Config{})
	defer stopAll(ms)
	for _, body := range [][]byte{nil, {0xff}, []byte("hello"), bytes.Repeat([]byte{0x9f}, 100), {0xa1, 0x01, 0x81, 0x41, 0x00}} {
		if _, err := ms[0].replica.servePush(t.Context(), "x", body); err == nil {
			t.Errorf("push of %x was accepted", body)
		}
	}
	if _, err := ms[0].replica.servePull(t.Context(), "x", []byte{0xff}); err == nil {
		t.Error("pull of garbage was answered")
	}
}

func TestChildrenMakeATree(t *testing.T) {
	var nodes []string
	for i := range 200 {
		nodes = append(nodes, fmt.Sprint("n", i))
	}
	for _, fanout := range []int{1, 3, 8, 64, 300} {
		seen := map[string]int{}
		frontier := []string{"n17"}
		for len(frontier) > 0 {
			var next []string
			for _, n := range frontier {
				kids := children(nodes, "n17", n, fanout)
				if len(kids) > fanout {
					t.Fatalf("%d children, fan-out %d", len(kids), fanout)
				}
				for _, k := range kids {
					seen[k]++
					next = append(next, k)
				}
			}
			frontier = next
		}
		if len(seen) != 199 || seen["n17"] != 0 {
			t.Errorf("fan-out %d reaches %d nodes, want all 199 others", fanout, len(seen))
		}
		for n, times := range seen {
			if times != 1 {
				t.Errorf("%s is reached %d times", n, times)
			}
		}
	}
	if children(nodes, "n1", "stranger", 3) != nil {
		t.Error("a node that is not in the list has children")
	}
}

// The past is settled once every member was asked after it; a member that is cut off keeps it open.
func TestThePastIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric()
		members := mesh(t, f, 3, Config{})
		defer stopAll(members)
		a := members[0]
		others := []string{members[1].name, members[2].name}
		f.set(func() { f.up[members[2].name] = false }) // else both may have answered by the time that the write returns
		revision := put(t, a, "h1", "1").Revision
		if a.replica.Settled(revision, others) {
			t.Error("a write is settled before everybody was asked after it")
		}
		f.set(func() { f.up[members[2].name] = true })
		time.Sleep(time.Minute)
		if !a.replica.Settled(revision, others) {
			t.Error("a write of a minute ago is not settled among three nodes that see each other")
		}
		f.set(func() { f.up[members[2].name] = false })
		synctest.Wait()
		later := put(t, a, "h2", "1").Revision
		time.Sleep(time.Minute)
		if a.replica.Settled(later, others) {
			t.Error("a write is settled although a member that may have written before it cannot be asked")
		}
		if !a.replica.Settled(later, others[:1]) || !a.replica.Settled(revision, others) {
			t.Error("what was settled, or is without the member that is gone, is not")
		}
		f.set(func() { f.up[members[2].name] = true })
		time.Sleep(time.Minute)
		if !a.replica.Settled(later, others) {
			t.Error("a write is not settled a minute after the member came back")
		}
	})
}

// forge gives a chain other operations after the first keep: of the same origin and seqs, each naming its predecessor, with text in
// place of what was written. Two boxes under one identity would write so.
func forge(t *testing.T, ops [][]byte, keep int, text string) [][]byte {
	t.Helper()
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	out := slices.Clone(ops[:keep])
	for i, raw := range ops[keep:] {
		op, err := hostdb.ParseOperation(raw)
		if err != nil {
			t.Fatal(err)
		}
		before, err := hostdb.ParseOperation(out[len(out)-1])
		if err != nil {
			t.Fatal(err)
		}
		hash := before.Hash()
		op.Seq, op.After, op.Log = uint64(keep+i+1), hash[:], text
		b, err := mode.Marshal(op)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// noHistory answers as a peer that has yet to fetch history itself.
func noHistory(_ context.Context, _, _, name string, _ []byte, call func() ([]byte, error)) ([]byte, error) {
	if name == historyName {
		return encode(historyAnswer{Protocol: protocol, NotHere: true})
	}
	return call()
}

func countName(n *int, wanted string) hook {
	return func(_ context.Context, _, _, name string, _ []byte, call func() ([]byte, error)) ([]byte, error) {
		if name == wanted {
			*n++
		}
		return call()
	}
}

func countPushes(f *fabric, pushes map[string]int) hook {
	return func(_ context.Context, from, _, name string, _ []byte, call func() ([]byte, error)) ([]byte, error) {
		if name == pushName {
			f.mu.Lock()
			pushes[from]++
			f.mu.Unlock()
		}
		return call()
	}
}

func memory() func() (hostdb.Storage, error) {
	return func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }
}

// noContext is for what is called from within rapid, which has no context of its own.
var noContext = context.Background()
