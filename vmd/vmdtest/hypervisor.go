package vmdtest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"

	"hostmesh/vmd"
	"hostmesh/vmd/plan"
)

// errClosed is what a closed connection returns.
var errClosed = errors.New("the connection is closed")

// Hypervisor is a connection to a hypervisor in memory. Its zero value is not usable: New makes one. All methods are safe
// for concurrent use.
type Hypervisor struct {
	box     *box
	mesh    string
	changed chan struct{}
	closed  atomic.Bool
}

var _ vmd.Hypervisor = (*Hypervisor)(nil)

// New returns a connection of the mesh Mesh to a new box with 16 processors, 64 GiB of memory, 1 TiB of disk and the bridge br0.
func New() *Hypervisor {
	b := &box{domains: map[string]*domain{}, volumes: map[string]map[string]*volume{}, files: map[string]int64{}, count: map[string]int{},
		host: vmd.Host{Hypervisor: "vmdtest", DomainType: "test", CPUs: 16, Memory: 64 << 30, DiskFree: 1 << 40, DiskSize: 1 << 40, Bridges: []string{"br0"}}}
	return (&Hypervisor{box: b}).As(Mesh)
}

// As returns another connection to the same box: of another mesh, or of the same one after a restart of its agent.
func (h *Hypervisor) As(mesh string) *Hypervisor {
	c := &Hypervisor{box: h.box, mesh: mesh, changed: make(chan struct{}, 1)}
	h.box.mu.Lock()
	defer h.box.mu.Unlock()
	h.box.pokes = append(h.box.pokes, c.changed)
	return c
}

// call lets a call in, meets its fault and does it.
func (h *Hypervisor) call(ctx context.Context, method, what string, do func(*box) error) error {
	about := func(err error) error {
		switch {
		case err == nil:
			return nil
		case what == "":
			return fmt.Errorf("%s: %w", method, err)
		}
		return fmt.Errorf("%s %s: %w", method, what, err)
	}
	if err := ctx.Err(); err != nil {
		return about(err)
	}
	if h.closed.Load() {
		return about(errClosed)
	}
	h.box.mu.Lock()
	h.box.calls = append(h.box.calls, Call{method, what})
	h.box.count[method]++
	f := h.box.met(method, what)
	h.box.mu.Unlock()
	if f != nil && f.Do != nil {
		f.Do()
	}
	if f != nil && f.Hang {
		select {
		case <-ctx.Done():
			return about(cmp.Or(f.Err, ctx.Err()))
		case <-f.release:
		}
	}
	if f != nil && f.Err != nil && !f.After {
		return about(f.Err)
	}
	h.box.mu.Lock()
	defer h.box.mu.Unlock()
	if h.box.away {
		return about(vmd.ErrAway)
	}
	err := do(h.box)
	if err == nil && f != nil {
		err = f.Err
	}
	return about(err)
}

// ours returns a domain of this mesh.
func (h *Hypervisor) ours(b *box, uuid string) (*domain, error) {
	d := b.domains[uuid]
	switch {
	case d == nil:
		return nil, vmd.ErrNoDomain
	case d.foreign || d.defined.Mesh != h.mesh:
		return nil, fmt.Errorf("%w: %s", vmd.ErrNotOurs, d.defined.Name)
	}
	return d, nil
}

func off(s plan.State) bool { return s == plan.Off || s == plan.Crashed }

func (h *Hypervisor) machine(d *domain) plan.Machine {
	now := d.defined
	if !off(d.state) {
		now = d.booted
	}
	m := plan.Machine{Name: d.defined.Name, UUID: d.defined.UUID, State: d.state, CPUs: now.CPUs, Memory: now.Memory}
	for _, def := range []plan.Domain{d.defined, now} {
		for _, path := range []string{def.Disk, def.Seed, def.Kernel, def.Initrd} {
			if path != "" {
				m.Files = append(m.Files, path)
			}
		}
	}
	slices.Sort(m.Files)
	m.Files = slices.Compact(m.Files)
	if !d.foreign {
		m.Mesh, m.Version = d.defined.Mesh, vmd.MetadataVersion
	}
	return m
}

// List implements vmd.Hypervisor.
func (h *Hypervisor) List(ctx context.Context) ([]plan.Machine, error) {
	var list []plan.Machine
	err := h.call(ctx, "List", "", func(b *box) error {
		for _, uuid := range slices.Sorted(maps.Keys(b.domains)) {
			list = append(list, h.machine(b.domains[uuid]))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Get implements vmd.Hypervisor.
func (h *Hypervisor) Get(ctx context.Context, uuid string) (m plan.Machine, err error) {
	err = h.call(ctx, "Get", uuid, func(b *box) error {
		d := b.domains[uuid]
		if d == nil {
			return vmd.ErrNoDomain
		}
		m = h.machine(d)
		return nil
	})
	if err != nil {
		return plan.Machine{}, err
	}
	return m, nil
}

// Define implements vmd.Hypervisor.
func (h *Hypervisor) Define(ctx context.Context, d plan.Domain) error {
	return h.call(ctx, "Define", d.UUID, func(b *box) error {
		if err := vmd.CheckDomain(d, h.mesh); err != nil {
			return err
		}
		for uuid, other := range b.domains {
			if uuid != d.UUID && other.defined.Name == d.Name {
				return fmt.Errorf("%w: the name %q is taken by domain %s", vmd.ErrRefused, d.Name, uuid)
			}
		}
		old, err := h.ours(b, d.UUID)
		switch {
		case errors.Is(err, vmd.ErrNoDomain):
			b.domains[d.UUID] = &domain{defined: d, state: plan.Off}
			b.poke()
		case err != nil:
			return err
		case old.defined.Name != d.Name:
			return fmt.Errorf("%w: domain %s is named %q and cannot become %q", vmd.ErrRefused, d.UUID, old.defined.Name, d.Name)
		default:
			old.defined = d
		}
		return nil
	})
}

// Start implements vmd.Hypervisor.
func (h *Hypervisor) Start(ctx context.Context, uuid string) error {
	return h.call(ctx, "Start", uuid, func(b *box) error {
		d, err := h.ours(b, uuid)
		if err != nil {
			return err
		}
		if d.state == plan.Paused {
			d.state = plan.Running
			b.poke()
			return nil
		}
		if !off(d.state) {
			return nil
		}
		for _, path := range []string{d.defined.Disk, d.defined.Seed, d.defined.Kernel, d.defined.Initrd} {
			if path != "" {
				if _, err := b.size(path); err != nil {
					return err
				}
			}
		}
		if d.defined.Bridge != "" && !slices.Contains(b.host.Bridges, d.defined.Bridge) {
			return fmt.Errorf("bridge %q: %w", d.defined.Bridge, syscall.ENODEV)
		}
		d.boot()
		b.poke()
		return nil
	})
}

func (d *domain) boot() {
	d.state, d.booted, d.starts = plan.Running, d.defined, d.starts+1
	d.stats = vmd.Stats{Memory: d.defined.Memory}
}

// Shutdown implements vmd.Hypervisor.
func (h *Hypervisor) Shutdown(ctx context.Context, uuid string) error {
	return h.call(ctx, "Shutdown", uuid, func(b *box) error {
		d, err := h.ours(b, uuid)
		if err != nil || off(d.state) || d.deaf {
			return err
		}
		d.state = plan.Off
		b.poke()
		return nil
	})
}

// Destroy implements vmd.Hypervisor.
func (h *Hypervisor) Destroy(ctx context.Context, uuid string) error {
	return h.call(ctx, "Destroy", uuid, func(b *box) error {
		d, err := h.ours(b, uuid)
		if err != nil || off(d.state) {
			return err
		}
		d.state = plan.Off
		b.poke()
		return nil
	})
}

// Undefine implements vmd.Hypervisor.
func (h *Hypervisor) Undefine(ctx context.Context, uuid string) error {
	return h.call(ctx, "Undefine", uuid, func(b *box) error {
		d, err := h.ours(b, uuid)
		switch {
		case errors.Is(err, vmd.ErrNoDomain):
			return nil
		case err != nil:
			return err
		case !off(d.state):
			return fmt.Errorf("%w: it is %s; destroy it first", vmd.ErrRefused, d.state)
		}
		delete(b.domains, uuid)
		b.poke()
		return nil
	})
}

// Reboot implements vmd.Hypervisor.
func (h *Hypervisor) Reboot(ctx context.Context, uuid string, hard bool) error {
	return h.call(ctx, "Reboot", uuid, func(b *box) error {
		d, err := h.ours(b, uuid)
		switch {
		case err != nil:
			return err
		case off(d.state):
			return fmt.Errorf("%w: it is %s; start it", vmd.ErrRefused, d.state)
		case hard || !d.deaf:
			d.starts++ // with what it has: the definition counts from the next start
			d.state = plan.Running
			b.poke()
		}
		return nil
	})
}

// Stats implements vmd.Hypervisor.
func (h *Hypervisor) Stats(ctx context.Context, uuid string) (s vmd.Stats, err error) {
	err = h.call(ctx, "Stats", uuid, func(b *box) error {
		d := b.domains[uuid]
		switch {
		case d == nil:
			return vmd.ErrNoDomain
		case off(d.state):
			return fmt.Errorf("%w: it is %s and has no counters", vmd.ErrRefused, d.state)
		}
		s = d.stats
		return nil
	})
	return s, err
}

// dir is where volumes of this mesh seem to lie.
func (h *Hypervisor) dir() string { return filepath.Join("/vmdtest", h.mesh) }

// size of a file that a volume stands on or a domain needs: a volume, what AddFile added, or a real one.
func (b *box) size(path string) (int64, error) {
	for mesh, volumes := range b.volumes {
		if v := volumes[filepath.Base(path)]; v != nil && filepath.Dir(path) == filepath.Join("/vmdtest", mesh) {
			return v.size, nil
		}
	}
	if size, ok := b.files[path]; ok {
		return size, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return info.Size(), nil
}

// CreateVolume implements vmd.Hypervisor.
func (h *Hypervisor) CreateVolume(ctx context.Context, name, base, baseFormat string, size int64) (string, error) {
	path := filepath.Join(h.dir(), name)
	err := h.call(ctx, "CreateVolume", name, func(b *box) error {
		if err := vmd.CheckVolume(name, base, baseFormat, size); err != nil {
			return err
		}
		if v := b.volumes[h.mesh][name]; v != nil {
			v.size = max(v.size, size)
			return nil
		}
		if base != "" {
			of, err := b.size(base)
			if err != nil {
				return err
			}
			size = cmp.Or(size, of)
		}
		b.put(h.mesh, name, &volume{size: size, base: base})
		return nil
	})
	if err != nil {
		return "", err
	}
	return path, nil
}

func (b *box) put(mesh, name string, v *volume) {
	if b.volumes[mesh] == nil {
		b.volumes[mesh] = map[string]*volume{}
	}
	b.volumes[mesh][name] = v
}

// WriteVolume implements vmd.Hypervisor.
func (h *Hypervisor) WriteVolume(ctx context.Context, name string, content io.Reader, size int64) (string, error) {
	path := filepath.Join(h.dir(), name)
	err := h.call(ctx, "WriteVolume", name, func(b *box) error {
		if err := vmd.CheckVolume(name, "", "", size); err != nil {
			return err
		}
		free := b.host.DiskFree
		if size > free {
			return syscall.ENOSPC
		}
		var data bytes.Buffer
		n, err := io.Copy(&data, io.LimitReader(content, size+1))
		switch {
		case err != nil:
			return err
		case n != size:
			return vmd.WrongSize(n, size)
		}
		if old := b.volumes[h.mesh][name]; old != nil {
			free += int64(len(old.content))
		}
		b.host.DiskFree = free - size
		b.put(h.mesh, name, &volume{size: size, content: data.Bytes()})
		return nil
	})
	if err != nil {
		return "", err
	}
	return path, nil
}

// DeleteVolume implements vmd.Hypervisor.
func (h *Hypervisor) DeleteVolume(ctx context.Context, name string) error {
	return h.call(ctx, "DeleteVolume", name, func(b *box) error {
		for uuid, d := range b.domains {
			if !off(d.state) && slices.Contains(h.machine(d).Files, filepath.Join(h.dir(), name)) {
				return fmt.Errorf("%w: domain %s runs with it", vmd.ErrRefused, uuid)
			}
		}
		if v := b.volumes[h.mesh][name]; v != nil {
			b.host.DiskFree += int64(len(v.content))
			delete(b.volumes[h.mesh], name)
		}
		return nil
	})
}

// Volumes implements vmd.Hypervisor.
func (h *Hypervisor) Volumes(ctx context.Context) (names []string, err error) {
	err = h.call(ctx, "Volumes", "", func(b *box) error {
		names = slices.Sorted(maps.Keys(b.volumes[h.mesh]))
		return nil
	})
	return names, err
}

// Changed implements vmd.Hypervisor.
func (h *Hypervisor) Changed() <-chan struct{} { return h.changed }

// Host implements vmd.Hypervisor.
func (h *Hypervisor) Host(ctx context.Context) (host vmd.Host, err error) {
	err = h.call(ctx, "Host", "", func(b *box) error {
		host = b.host
		host.Bridges = slices.Clone(host.Bridges)
		host.DiskOwn = 0
		for _, v := range b.volumes[h.mesh] {
			host.DiskOwn += int64(len(v.content))
		}
		return nil
	})
	return host, err
}

// Close implements vmd.Hypervisor. It ends no domain.
func (h *Hypervisor) Close() error {
	if h.closed.Swap(true) {
		return nil
	}
	h.box.mu.Lock()
	defer h.box.mu.Unlock()
	h.box.pokes = slices.DeleteFunc(h.box.pokes, func(c chan struct{}) bool { return c == h.changed })
	return nil
}
