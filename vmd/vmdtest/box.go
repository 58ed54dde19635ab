// Package vmdtest helps to test what stands on a vmd.Hypervisor, and the Hypervisors themselves.
//
// It owns a hypervisor in memory that fails, hangs and vanishes on demand, and Conformance, the contract of
// vmd.Hypervisor as a test. What a particular hypervisor promises beyond the contract is tested in its own package.
package vmdtest

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"hostmesh/vmd"
	"hostmesh/vmd/plan"
)

// Mesh is the mesh that a new Hypervisor works for.
const Mesh = "vmdtest-mesh"

// box is what all connections to one hypervisor in memory see.
type box struct {
	mu      sync.Mutex // guards the fields below
	domains map[string]*domain
	volumes map[string]map[string]*volume // by mesh and name
	files   map[string]int64              // sizes of what lies there besides, by path
	host    vmd.Host
	away    bool
	calls   []Call
	count   map[string]int // calls by method
	faults  []*Fault
	pokes   []chan struct{} // of open connections
}

type domain struct {
	defined plan.Domain
	foreign bool
	booted  plan.Domain // what it runs with, while it is not off
	state   plan.State
	deaf    bool
	starts  int
	stats   vmd.Stats
}

type volume struct {
	size    int64
	base    string
	content []byte // of WriteVolume
}

// Call is one call of a method that was let in, in the order in which they came.
type Call struct {
	Method string
	What   string // UUID of the domain, or name of the volume; "" where there is neither
}

// Fault is what a call meets instead of, or besides, what it does.
type Fault struct {
	// Method is the name of a method of vmd.Hypervisor, "" stands for each of them.
	Method string
	// What limits the fault to a UUID or name of a volume; "" = all.
	What string
	// Call is the first call that meets it, counted from the injection: 1 is the next one. 0 stands for 1.
	Call int
	// Times is how many calls meet it from there on. 0 stands for 1, -1 for all.
	Times int
	// Err is what the call returns; it may wrap vmd's sentinels.
	Err error
	// After lets the call do its work before it returns Err, as when the answer of the hypervisor is lost.
	After bool
	// Hang keeps the call until its context ends or until Release; then it returns Err, or the context's error.
	Hang bool
	// Do is called before the rest, to change the world at that moment. It may call every method of the Hypervisor but those of the contract.
	Do func()

	seen    int
	release chan struct{}
	once    sync.Once
}

// Release lets calls go on that hang in the fault; a later one does not hang.
func (f *Fault) Release() { f.once.Do(func() { close(f.release) }) }

// Inject adds a fault, which belongs to the Hypervisor from then on. Faults are looked at in the order of their
// injection, and the first that fits is met.
func (h *Hypervisor) Inject(f *Fault) *Fault {
	f.Call, f.release = max(f.Call, 1), make(chan struct{})
	if f.Times == 0 {
		f.Times = 1
	}
	h.box.mu.Lock()
	defer h.box.mu.Unlock()
	h.box.faults = append(h.box.faults, f)
	return f
}

// met returns the fault that a call meets, if there is one.
func (b *box) met(method, what string) *Fault {
	var hit *Fault
	for _, f := range b.faults {
		if f.Method != "" && f.Method != method || f.What != "" && f.What != what {
			continue
		}
		f.seen++
		if hit == nil && f.seen >= f.Call && (f.Times < 0 || f.seen < f.Call+f.Times) {
			hit = f
		}
	}
	return hit
}

// Clear takes all faults away, and lets go what hangs in them.
func (h *Hypervisor) Clear() {
	h.box.mu.Lock()
	faults := h.box.faults
	h.box.faults = nil
	h.box.mu.Unlock()
	for _, f := range faults {
		f.Release()
	}
}

func (b *box) poke() {
	for _, c := range b.pokes {
		select {
		case c <- struct{}{}:
		default: // it is filled
		}
	}
}

// change runs f on the box and tells its connections.
func (h *Hypervisor) change(f func(*box)) {
	h.box.mu.Lock()
	defer h.box.mu.Unlock()
	f(h.box)
	h.box.poke()
}

// mustHave is for a test that speaks of a domain that it made itself.
func (b *box) mustHave(uuid string) *domain {
	d := b.domains[uuid]
	if d == nil {
		panic(fmt.Sprintf("vmdtest: no domain %s", uuid))
	}
	return d
}

// Vanish makes every call return ErrAway until Return. Domains go on without it.
func (h *Hypervisor) Vanish() { h.change(func(b *box) { b.away = true }) }

// Return ends Vanish.
func (h *Hypervisor) Return() { h.change(func(b *box) { b.away = false }) }

// Crash ends a domain as a panic of its guest does.
func (h *Hypervisor) Crash(uuid string) {
	h.change(func(b *box) { b.mustHave(uuid).state = plan.Crashed })
}

// PowerOff ends a domain as its guest does by itself.
func (h *Hypervisor) PowerOff(uuid string) {
	h.change(func(b *box) { b.mustHave(uuid).state = plan.Off })
}

// Pause stops a domain, as a full disk does.
func (h *Hypervisor) Pause(uuid string) {
	h.change(func(b *box) { b.mustHave(uuid).state = plan.Paused })
}

// Deaf says whether the guest leaves Shutdown and the soft Reboot unheard. A guest that is not deaf is off, or has booted again, when the call returns.
func (h *Hypervisor) Deaf(uuid string, deaf bool) {
	h.change(func(b *box) { b.mustHave(uuid).deaf = deaf })
}

// Reset ends all domains, as a power cut of the box does; what is defined and stored stays.
func (h *Hypervisor) Reset() {
	h.change(func(b *box) {
		for _, d := range b.domains {
			d.state = plan.Off
		}
	})
}

// AddForeign defines a domain as somebody does by hand: without metadata. Its Mesh is not looked at.
func (h *Hypervisor) AddForeign(d plan.Domain, state plan.State) {
	d.Mesh = ""
	h.change(func(b *box) {
		b.domains[d.UUID] = &domain{defined: d, booted: d, foreign: true, state: state}
	})
}

// AddFile says that a file of this size is there, for CreateVolume to stand on.
func (h *Hypervisor) AddFile(path string, size int64) {
	h.change(func(b *box) { b.files[path] = size })
}

// SetHost changes what Host returns. DiskFree also bounds WriteVolume.
func (h *Hypervisor) SetHost(host vmd.Host) { h.change(func(b *box) { b.host = host }) }

// SetStats changes what Stats returns for a domain that runs.
func (h *Hypervisor) SetStats(uuid string, s vmd.Stats) {
	h.change(func(b *box) { b.mustHave(uuid).stats = s })
}

// Defined returns the definition of a domain as Define got it last.
func (h *Hypervisor) Defined(uuid string) (plan.Domain, bool) {
	h.box.mu.Lock()
	defer h.box.mu.Unlock()
	if d := h.box.domains[uuid]; d != nil {
		return d.defined, true
	}
	return plan.Domain{}, false
}

// Starts counts how often a domain was started or booted again.
func (h *Hypervisor) Starts(uuid string) int {
	h.box.mu.Lock()
	defer h.box.mu.Unlock()
	if d := h.box.domains[uuid]; d != nil {
		return d.starts
	}
	return 0
}

// Content returns what WriteVolume wrote.
func (h *Hypervisor) Content(name string) ([]byte, bool) {
	h.box.mu.Lock()
	defer h.box.mu.Unlock()
	v := h.box.volumes[h.mesh][name]
	if v == nil {
		return nil, false
	}
	return slices.Clone(v.content), true
}

// Size returns the size of a volume.
func (h *Hypervisor) Size(name string) (int64, bool) {
	h.box.mu.Lock()
	defer h.box.mu.Unlock()
	v := h.box.volumes[h.mesh][name]
	if v == nil {
		return 0, false
	}
	return v.size, true
}

// Calls returns the calls of all connections up to now.
func (h *Hypervisor) Calls() []Call {
	h.box.mu.Lock()
	defer h.box.mu.Unlock()
	return slices.Clone(h.box.calls)
}

// Count returns how many calls of each method there were.
func (h *Hypervisor) Count() map[string]int {
	h.box.mu.Lock()
	defer h.box.mu.Unlock()
	return maps.Clone(h.box.count)
}
