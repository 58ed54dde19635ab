package vmd_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
	"hostmesh/vmd"
	"hostmesh/vmd/plan"
	"hostmesh/vmd/vmdtest"
)

// errDead is what every effect of an agent returns after it died.
var errDead = errors.New("the agent is dead")

// tripwire lets an agent die right before or right after its n-th effect. What it does after that never happens.
type tripwire struct {
	looks atomic.Int64 // of workers at their own domain
	mu    sync.Mutex
	n     int // 0 = never
	after bool
	count int
	dead  bool
	names []string
	died  chan struct{}
}

func newTripwire(n int, after bool) *tripwire {
	return &tripwire{n: n, after: after, died: make(chan struct{})}
}

func (t *tripwire) die() error {
	if !t.dead {
		t.dead = true
		close(t.died)
	}
	return errDead
}

func (t *tripwire) enter(what string) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead {
		return 0, errDead
	}
	t.count++
	t.names = append(t.names, what)
	if t.count == t.n && !t.after {
		return 0, t.die()
	}
	return t.count, nil
}

func (t *tripwire) leave(k int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead || k == t.n && t.after {
		return t.die()
	}
	return nil
}

func (t *tripwire) around(what string, f func() error) error {
	k, err := t.enter(what)
	if err != nil {
		return err
	}
	err = f()
	if dead := t.leave(k); dead != nil {
		return dead
	}
	return err
}

func (t *tripwire) isDead() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dead
}

// tripped is the hypervisor of an agent that may die.
type tripped struct {
	*vmdtest.Hypervisor
	t *tripwire
}

func (h tripped) Get(ctx context.Context, uuid string) (plan.Machine, error) {
	h.t.looks.Add(1)
	if h.t.isDead() {
		return plan.Machine{}, errDead
	}
	return h.Hypervisor.Get(ctx, uuid)
}
func (h tripped) Define(ctx context.Context, d plan.Domain) error {
	return h.t.around("define", func() error { return h.Hypervisor.Define(ctx, d) })
}
func (h tripped) Start(ctx context.Context, uuid string) error {
	return h.t.around("start", func() error { return h.Hypervisor.Start(ctx, uuid) })
}
func (h tripped) Shutdown(ctx context.Context, uuid string) error {
	return h.t.around("shutdown", func() error { return h.Hypervisor.Shutdown(ctx, uuid) })
}
func (h tripped) Destroy(ctx context.Context, uuid string) error {
	return h.t.around("destroy", func() error { return h.Hypervisor.Destroy(ctx, uuid) })
}
func (h tripped) Undefine(ctx context.Context, uuid string) error {
	return h.t.around("undefine", func() error { return h.Hypervisor.Undefine(ctx, uuid) })
}
func (h tripped) CreateVolume(ctx context.Context, name, base, format string, size int64) (path string, err error) {
	err = h.t.around("create "+name, func() (err error) {
		path, err = h.Hypervisor.CreateVolume(ctx, name, base, format, size)
		return err
	})
	return path, err
}
func (h tripped) WriteVolume(ctx context.Context, name string, r io.Reader, size int64) (path string, err error) {
	err = h.t.around("write "+name, func() (err error) {
		path, err = h.Hypervisor.WriteVolume(ctx, name, r, size)
		return err
	})
	return path, err
}
func (h tripped) DeleteVolume(ctx context.Context, name string) error {
	return h.t.around("delete "+name, func() error { return h.Hypervisor.DeleteVolume(ctx, name) })
}

// group is a lease group in memory: what leasetest.Records says of one, with a duty.
type group struct {
	mu        sync.Mutex
	records   map[string]lease.Record
	version   uint64
	fence     uint64
	recovered int                            // how often
	owned     map[string]map[string][]string // node, pool
	down      map[string]bool                // nodes that reach no leader
	slow      time.Duration
	asked     atomic.Int64 // round trips
}

func newGroup() *group {
	return &group{records: map[string]lease.Record{}, owned: map[string]map[string][]string{}, down: map[string]bool{}}
}

// slowDown has each question to the group take so long from now on.
func (g *group) slowDown(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slow = d
}

// leases is a node's part in a group.
type leases struct {
	g    *group
	node string
	t    *tripwire
}

func (l leases) reach() error {
	l.g.asked.Add(1)
	l.g.mu.Lock()
	slow := l.g.slow
	l.g.mu.Unlock()
	if slow > 0 {
		time.Sleep(slow)
	}
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	if l.g.down[l.node] {
		return lease.ErrNoLeader
	}
	return nil
}

func (l leases) Get(_ context.Context, key string) (lease.Record, error) {
	if l.t.isDead() {
		return lease.Record{}, errDead
	}
	if err := l.reach(); err != nil {
		return lease.Record{}, err
	}
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	if r, ok := l.g.records[key]; ok {
		return r, nil
	}
	return lease.Record{}, lease.ErrNotFound
}

func (g *group) put(key string, value []byte, version uint64) (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.records[key].Version != version {
		return 0, lease.ErrConflict
	}
	g.version++
	g.records[key] = lease.Record{Key: key, Value: slices.Clone(value), Version: g.version}
	return g.version, nil
}

func (l leases) Put(_ context.Context, key string, value []byte, version uint64) (v uint64, err error) {
	err = l.t.around("put "+key, func() error {
		if err := l.reach(); err != nil {
			return err
		}
		v, err = l.g.put(key, value, version)
		return err
	})
	return v, err
}

func (l leases) Delete(_ context.Context, key string, version uint64) error {
	return l.t.around("delete "+key, func() error {
		if err := l.reach(); err != nil {
			return err
		}
		l.g.mu.Lock()
		defer l.g.mu.Unlock()
		switch r, ok := l.g.records[key]; {
		case !ok:
			return lease.ErrNotFound
		case r.Version != version:
			return lease.ErrConflict
		}
		delete(l.g.records, key)
		return nil
	})
}

func (l leases) List(_ context.Context, prefix string) (lease.Changes, error) {
	if l.t.isDead() {
		return lease.Changes{}, errDead
	}
	if err := l.reach(); err != nil {
		return lease.Changes{}, err
	}
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	c := lease.Changes{Anew: true, AsOf: l.g.version}
	for _, key := range slices.Sorted(maps.Keys(l.g.records)) {
		if strings.HasPrefix(key, prefix) {
			c.Records = append(c.Records, l.g.records[key])
		}
	}
	return c, nil
}

func (l leases) claim(key, owner string) error {
	if err := l.reach(); err != nil {
		return err
	}
	_, err := l.g.put(key, []byte(owner), 0)
	if errors.Is(err, lease.ErrConflict) {
		l.g.mu.Lock()
		defer l.g.mu.Unlock()
		if who := string(l.g.records[key].Value); who != owner {
			return fmt.Errorf("%q: %w: %s", key, lease.ErrTaken, who)
		}
		return nil
	}
	return err
}

func (l leases) ClaimName(_ context.Context, space, name, owner string) error {
	return l.t.around("claim "+name, func() error { return l.claim("name/"+space+"/"+name, owner) })
}

func (l leases) FreeName(_ context.Context, space, name, owner string) error {
	return l.t.around("free "+name, func() error {
		if err := l.reach(); err != nil {
			return err
		}
		l.g.mu.Lock()
		defer l.g.mu.Unlock()
		key := "name/" + space + "/" + name
		if string(l.g.records[key].Value) == owner {
			delete(l.g.records, key)
		}
		return nil
	})
}

func (l leases) Grant(_ context.Context, pool string, choices []string) (got string, err error) {
	err = l.t.around("grant "+pool, func() error {
		for _, c := range choices {
			switch err := l.claim("grant/"+pool+"/"+c, l.node); {
			case err == nil:
				got = c
				l.g.mu.Lock()
				defer l.g.mu.Unlock()
				if l.g.owned[l.node] == nil {
					l.g.owned[l.node] = map[string][]string{}
				}
				if !slices.Contains(l.g.owned[l.node][pool], c) {
					l.g.owned[l.node][pool] = append(l.g.owned[l.node][pool], c)
				}
				return nil
			case !errors.Is(err, lease.ErrTaken):
				return err
			}
		}
		return lease.ErrTaken
	})
	return got, err
}

func (l leases) GiveBack(_ context.Context, pool, choice string) error {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	delete(l.g.records, "grant/"+pool+"/"+choice)
	l.g.owned[l.node][pool] = slices.DeleteFunc(l.g.owned[l.node][pool], func(c string) bool { return c == choice })
	return nil
}

func (l leases) Granted(pool string) ([]string, error) {
	l.g.mu.Lock()
	defer l.g.mu.Unlock()
	return slices.Clone(l.g.owned[l.node][pool]), nil
}

// office is the placer's duty.
type office struct {
	leases
	fence uint64
}

func (o office) Group() string { return "g" }
func (o office) Fence() uint64 { return o.fence }
func (o office) Valid() bool {
	o.g.mu.Lock()
	defer o.g.mu.Unlock()
	return o.g.fence == o.fence
}
func (o office) Put(_ context.Context, key string, value []byte, version uint64) (v uint64, err error) {
	err = o.t.around("offer "+key, func() error {
		if err := o.reach(); err != nil {
			return err
		}
		if !o.Valid() {
			return lease.ErrLost
		}
		v, err = o.g.put(key, value, version)
		return err
	})
	return v, err
}

// images are base images in memory.
type images struct {
	t     *tripwire
	hv    *vmdtest.Hypervisor
	mu    *sync.Mutex
	fault map[string]error
	wait  time.Duration
}

func (i images) Ensure(ctx context.Context, name string) (vmd.Image, error) {
	var img vmd.Image
	err := i.t.around("image "+name, func() error {
		if i.wait > 0 {
			select {
			case <-time.After(i.wait):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		if err := i.fault[name]; err != nil {
			return err
		}
		path := "/images/" + name
		i.hv.AddFile(path, 1<<30)
		img = vmd.Image{Name: name, SHA256: "00", Base: path, Format: "qcow2", Size: 1 << 30}
		return nil
	})
	return img, err
}
func (i images) Have() map[string]string { return map[string]string{"debian": "00"} }
func (i images) Seed(g vmd.Guest) ([]byte, error) {
	return fmt.Appendf(nil, "%s %s %s", g.Name, g.Addr, g.MAC), nil
}
func (i images) Cmdline(template string, _ vmd.Guest) (string, error) { return template, nil }

// trippedDB is HostDB for an agent that may die.
type trippedDB struct {
	*hostdb.Store
	t *tripwire
}

func (d trippedDB) Update(ctx context.Context, req hostdb.Request, fn func(*hostdb.Tx) error) (c hostdb.Commit, err error) {
	err = d.t.around("hostdb "+req.Log, func() error {
		c, err = d.Store.Update(ctx, req, fn)
		return err
	})
	return c, err
}

// wires carry calls between the nodes of a world.
type wires struct {
	mu       sync.Mutex
	handlers map[string]map[string]mesh.Handler
	cut      map[string]bool
}

type wire struct {
	w    *wires
	node string
	t    *tripwire
}

func (c wire) Handle(name string, h mesh.Handler) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.w.handlers[c.node] == nil {
		c.w.handlers[c.node] = map[string]mesh.Handler{}
	}
	c.w.handlers[c.node][name] = func(ctx context.Context, from mesh.Caller, req []byte) ([]byte, error) {
		if c.t.isDead() {
			return nil, errDead
		}
		b, err := h(ctx, from, req)
		if c.t.isDead() {
			return nil, errDead
		}
		return b, err
	}
}

func (c wire) Call(ctx context.Context, node, name string, req []byte) ([]byte, error) {
	var b []byte
	err := c.t.around("call "+name, func() (err error) {
		c.w.mu.Lock()
		h, cut := c.w.handlers[node][name], c.w.cut[node] || c.w.cut[c.node]
		c.w.mu.Unlock()
		if h == nil || cut {
			return mesh.ErrUnreachable
		}
		b, err = h(ctx, mesh.Caller{ID: c.node, Name: c.node}, req)
		return err
	})
	return b, err
}

// cutOff cuts a node off from all others, or ends that.
func (w *wires) cutOff(node string, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[node] = is
}

// world is some boxes, a lease group and one HostDB, all in memory but for the ledgers.
type world struct {
	t       *testing.T
	store   *hostdb.Store
	group   *group
	wires   *wires
	dir     string
	keep    time.Duration
	bridges []string
	learn   func(context.Context) (string, error) // set: agents that start do not know their mesh
	boxes   map[string]*boxRun
	placer  *placerRun
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu      sync.Mutex
	reports map[string]report.Report
	frozen  map[string]hostdb.View                        // of nodes that are cut off from HostDB's news
	image   string                                        // what the catalogue says that debian is; "" = it is not asked
	leads   func(ctx context.Context, host string) string // of boxes that are opened from now on
}

// boxRun is one run of a box's agent.
type boxRun struct {
	*vmd.Box
	name   string
	hv     *vmdtest.Hypervisor
	trip   *tripwire
	images images
	cancel context.CancelFunc
	done   chan struct{}
}

const hostsYAML = "Box: {CPUs: 8, Memory: 8GiB, Disk: 100GiB}\n"

var quiet = slog.New(slog.DiscardHandler)

func newWorld(t *testing.T, boxes ...string) *world {
	t.Helper()
	w := &world{t: t, group: newGroup(), wires: &wires{handlers: map[string]map[string]mesh.Handler{}, cut: map[string]bool{}},
		dir: t.TempDir(), keep: 10 * time.Minute, boxes: map[string]*boxRun{}, reports: map[string]report.Report{}, frozen: map[string]hostdb.View{}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	memory := hostdbtest.NewMemory()
	store, err := hostdb.Open(hostdb.Config{NodeID: "world", Validator: section.Validator{}, OpenStorage: func() (hostdb.Storage, error) { return memory, nil }})
	if err != nil {
		t.Fatal(err)
	}
	w.store = store
	w.write("tags/prod", "Subnet: {CIDR: 10.1.0.0/16, Gateway: 10.1.0.1, Bridge: br0, Datacenter: dc1, Pool: 10.1.128.0/22}\n")
	for _, name := range boxes {
		w.write("hosts/"+name, hostsYAML)
	}
	for _, name := range boxes {
		w.open(name, vmdtest.New(), newTripwire(0, false))
	}
	w.wg.Go(w.pump)
	t.Cleanup(w.close)
	return w
}

// close ends everything, so that a bubble can end.
func (w *world) close() {
	w.cancel()
	for _, b := range w.boxes {
		b.stop()
	}
	if w.placer != nil {
		w.placer.stop()
	}
	w.wg.Wait()
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) write(id, yaml string) {
	w.t.Helper()
	ns, key, _ := strings.Cut(id, "/")
	doc, err := hostdb.ParseDocument([]byte(yaml))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.Update(w.ctx, hostdb.Request{User: "test", Log: "test"}, func(tx *hostdb.Tx) error { return tx.Put(ns, key, doc) }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) update(fn func(tx *hostdb.Tx) error) {
	w.t.Helper()
	if _, err := w.store.Update(w.ctx, hostdb.Request{User: "test", Log: "test"}, fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) set(host, value string, path ...string) {
	w.t.Helper()
	doc, err := hostdb.ParseDocument([]byte(value))
	if err != nil {
		w.t.Fatal(err)
	}
	w.update(func(tx *hostdb.Tx) error { return tx.PutPath(hostdb.Hosts, host, path, doc) })
}

func (w *world) delete(host string) {
	w.t.Helper()
	w.update(func(tx *hostdb.Tx) error { return tx.Delete(hostdb.Hosts, host) })
}

func uuidOf(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

// vm enters a machine.
func (w *world) vm(name, uuid, extra string) {
	w.t.Helper()
	w.write("hosts/"+name, fmt.Sprintf("VM: {UUID: %q, Image: debian, CPUs: 1, Memory: 1GiB, Disk: 2GiB, Subnet: prod}\n%s", uuid, extra))
}

// open starts an agent on a box.
func (w *world) open(name string, hv *vmdtest.Hypervisor, trip *tripwire) *boxRun {
	w.t.Helper()
	hv = hv.As(vmdtest.Mesh)
	b := &boxRun{name: name, hv: hv, trip: trip, done: make(chan struct{})}
	b.images = images{t: trip, hv: hv, mu: &sync.Mutex{}, fault: map[string]error{}}
	cfg := vmd.DefaultConfig()
	cfg.Node, cfg.Name, cfg.Mesh, cfg.Datacenter = name, name, vmdtest.Mesh, "dc1"
	if w.learn != nil {
		cfg.Mesh, cfg.Learn = "", w.learn
	}
	cfg.Dir, cfg.Consoles = filepath.Join(w.dir, name), filepath.Join(w.dir, name+"-consoles")
	if err := os.MkdirAll(cfg.Consoles, 0o700); err != nil {
		w.t.Fatal(err)
	}
	cfg.Hypervisor, cfg.Images = tripped{hv, trip}, b.images
	cfg.Records, cfg.DB, cfg.Calls = leases{w.group, name, trip}, trippedDB{w.store, trip}, wire{w.wires, name, trip}
	cfg.Group = func() string {
		w.group.mu.Lock()
		defer w.group.mu.Unlock()
		return fmt.Sprint("g/", w.group.recovered)
	}
	cfg.Reports, cfg.Keep, cfg.Logger = reporter{w, name, trip}, w.keep, quiet
	cfg.Bridges, cfg.Leads = w.bridges, w.leads
	box, err := vmd.Open(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	var at int
	box.SetLedgerHooks(func(what string) (err error) {
		at, err = trip.enter("ledger " + what)
		return err
	}, func(string) error { return trip.leave(at) })
	b.Box = box
	ctx, cancel := context.WithCancel(w.ctx)
	b.cancel = cancel
	w.mu.Lock()
	w.boxes[name] = b
	w.mu.Unlock()
	go func() {
		defer close(b.done)
		if err := box.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	return b
}

func (b *boxRun) stop() {
	b.cancel()
	<-b.done
}

// restart starts another agent in the place of one that died.
func (w *world) restart(name string, trip *tripwire) *boxRun {
	old := w.boxes[name]
	old.stop()
	return w.open(name, old.hv, trip)
}

type reporter struct {
	w    *world
	node string
	t    *tripwire
}

func (r reporter) Report(edit func(*report.Report)) {
	if r.t.isDead() {
		return
	}
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	is := report.Clone(r.w.reports[r.node])
	edit(&is)
	is.Node = r.node
	is.N++
	r.w.reports[r.node] = is
}

// mesh is the view of the mesh: all nodes of dc1, alive unless they are cut.
func (w *world) mesh(self string) mesh.View {
	var members []mesh.Member
	w.wires.mu.Lock()
	defer w.wires.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.boxes {
		m := mesh.Member{ID: name, Name: name, Datacenter: "dc1", State: mesh.StateAlive}
		if w.wires.cut[name] && name != self {
			m.State = mesh.StateFailed
		}
		members = append(members, m)
	}
	v := mesh.NewView(self, members)
	for _, r := range w.reports {
		v = v.WithReport(report.Clone(r))
	}
	return v
}

func (w *world) view(node string) hostdb.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v, ok := w.frozen[node]; ok {
		return v
	}
	return w.store.View()
}

// pump hands new views to everybody.
func (w *world) pump() {
	for w.ctx.Err() == nil {
		w.mu.Lock()
		boxes := slices.Collect(maps.Values(w.boxes))
		p := w.placer
		w.mu.Unlock()
		for _, b := range boxes {
			if !b.trip.isDead() {
				_ = b.Reconcile(w.ctx, w.view(b.name), w.mesh(b.name))
			}
		}
		if p != nil {
			_ = p.Reconcile(w.ctx, w.view(p.node), w.mesh(p.node))
		}
		select {
		case <-w.ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// placerRun is a tenure of the duty.
type placerRun struct {
	*vmd.Placer
	node   string
	trip   *tripwire
	cancel context.CancelFunc
	done   chan struct{}
}

// images is the catalogue, as the placer sees it.
func (w *world) images(hostdb.View) map[string]plan.Image {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.image == "" {
		return nil
	}
	return map[string]plan.Image{"debian": {SHA256: w.image, URL: true}}
}

func (p *placerRun) stop() {
	p.cancel()
	<-p.done
}

// place begins a tenure of the placer at a node; a former one does not hear of it.
func (w *world) place(node string, trip *tripwire) *placerRun {
	l := leases{w.group, node, trip}
	w.group.mu.Lock()
	w.group.fence++
	o := office{l, w.group.fence}
	w.group.mu.Unlock()
	p := &placerRun{node: node, trip: trip, done: make(chan struct{})}
	p.Placer = vmd.NewPlacer(vmd.PlacerConfig{Node: node, Datacenter: "dc1", Records: l, DB: trippedDB{w.store, trip}, Calls: wire{w.wires, node, trip},
		Reports: reporter{w, node, trip}, Logger: quiet, Images: w.images,
		Removed: func(db hostdb.View, node string) bool { return db.Data(hostdb.System, "removed").At(node).Exists() }})
	ctx, cancel := context.WithCancel(w.ctx)
	p.cancel = cancel
	_ = p.Reconcile(w.ctx, w.view(node), w.mesh(node))
	go func() {
		defer close(p.done)
		_ = p.Hold(ctx, o)
	}()
	w.mu.Lock()
	w.placer = p
	w.mu.Unlock()
	return p
}

// until waits for a condition.
func (w *world) until(what string, limit time.Duration, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not within %s: %s\n%s", limit, what, w.describe())
		}
	}
}

// phase is what the report of a live box says of a machine; "" = none does.
func (w *world) phase(uuid string) report.Phase { return w.reported(uuid).Phase }

func (w *world) reported(uuid string) report.VM {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Of several boxes that speak of it, the one that is further counts: another may only have a reservation yet to be settled.
	var found report.VM
	rank := func(vm report.VM) int {
		switch {
		case vm.Phase == "":
			return 0
		case vm.Step == "place":
			return 1
		case vm.Phase == report.Reserved:
			return 2
		}
		return 3
	}
	for _, name := range slices.Sorted(maps.Keys(w.reports)) {
		if vm := w.reports[name].VMs[uuid]; rank(vm) > rank(found) {
			found = vm
		}
	}
	return found
}

// carriers are the boxes with a domain of a UUID.
func (w *world) carriers(uuid string) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, b := range w.boxes {
		if _, ok := b.hv.Defined(uuid); ok {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func (w *world) record(uuid string) (r vmd.Record, ok bool) {
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	raw, ok := w.group.records[vmd.RecordKey(uuid)]
	if !ok {
		return r, false
	}
	if err := vmd.Decode(raw.Value, &r); err != nil {
		w.t.Fatal(err)
	}
	return r, true
}

func (w *world) claims() map[string]string {
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	out := map[string]string{}
	for key, r := range w.group.records {
		if name, ok := strings.CutPrefix(key, "name/vm/"); ok {
			out[name] = string(r.Value)
		}
	}
	return out
}

func (w *world) volumes(box string) []string {
	v, err := w.boxes[box].hv.As(vmdtest.Mesh).Volumes(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *world) domains(box string) []plan.Machine {
	v, err := w.boxes[box].hv.As(vmdtest.Mesh).List(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// describe is the state of a world, for a failed test.
func (w *world) describe() string {
	var out strings.Builder
	if w.placer != nil {
		fmt.Fprintf(&out, "placer: %+v\n", w.placer.Waiting())
	}
	for _, name := range slices.Sorted(maps.Keys(w.boxes)) {
		b := w.boxes[name]
		fmt.Fprintf(&out, "%s: effects %v\n", name, b.trip.names)
		for _, e := range b.Entries() {
			fmt.Fprintf(&out, "  entry %+v\n", e)
		}
		w.mu.Lock()
		r := w.reports[name]
		w.mu.Unlock()
		if r.Box != nil {
			fmt.Fprintf(&out, "  box %+v\n", *r.Box)
		}
		for uuid, vm := range r.VMs {
			fmt.Fprintf(&out, "  vm %s %+v\n", uuid, vm)
		}
	}
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	for key, r := range w.group.records {
		fmt.Fprintf(&out, "record %s %q\n", key, r.Value)
	}
	for name := range w.store.View().Keys(hostdb.Hosts) {
		fmt.Fprintf(&out, "hosts/%s: %q\n", name, w.store.View().Data(hostdb.Hosts, name).YAML())
	}
	return out.String()
}
