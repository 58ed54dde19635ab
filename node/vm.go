package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh/lease"
	"hostmesh/mesh/report"
	"hostmesh/node/api"
	"hostmesh/vmd"
	"hostmesh/vmd/image"
	"hostmesh/vmd/libvirt"
)

const (
	// DefaultVMKeep is how long the disks of a deleted machine are kept: a slip on Friday evening is noticed on Monday.
	DefaultVMKeep = 7 * 24 * time.Hour
	// DefaultVMShutdown is how long a guest may take to end: databases write out what they have.
	DefaultVMShutdown = time.Minute

	ledgerDir   = "vms"      // of the data directory: what this box promised
	consolesDir = "consoles" // of vm.dir
	vmKind      = "vm"       // of duties
)

// keep and shutdown are the durations of the configuration.
func (v VMConfig) keep() (time.Duration, error) {
	d, err := vmDuration("vm.keep", v.Keep, DefaultVMKeep, 0, 3660*24*time.Hour)
	return d, err
}

func (v VMConfig) shutdown() (time.Duration, error) {
	return vmDuration("vm.shutdown", v.Shutdown, DefaultVMShutdown, time.Second, time.Hour)
}

// vmDuration reads a duration, of which days may be written as 7d.
func vmDuration(knob, text string, other, least, most time.Duration) (time.Duration, error) {
	if text == "" {
		return other, nil
	}
	var d time.Duration
	var err error
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		var n int64
		_, err = fmt.Sscanf(days+"\n", "%d\n", &n)
		d = time.Duration(n) * 24 * time.Hour
		if n > 4000 {
			err = errors.New("too long")
		}
	} else {
		d, err = time.ParseDuration(text)
	}
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("%s %q: want a duration from %s to %s, such as 90s, 12h or 7d", knob, text, least, most)
	}
	return d, nil
}

// openVM makes the part of this agent that carries virtual machines, and the one that finds boxes for them. A hypervisor that
// cannot be used is no reason not to run: the box is unfit, and says why.
func (a *Agent) openVM() error {
	cfg := vmd.DefaultConfig()
	cfg.Node, cfg.Name, cfg.Mesh, cfg.Datacenter = a.dir.nodeID, a.cfg.Name, a.dir.mesh.ID, a.cfg.Labels.Datacenter
	cfg.Dir, cfg.Look = a.dir.file(ledgerDir), a.cfg.Observe
	cfg.DB, cfg.Calls, cfg.Clock, cfg.Logger = a.store, a.mesh, a.clock, a.log
	cfg.Complete = a.caughtUp
	cfg.Keep, _ = a.cfg.VM.keep() // validate has seen them
	cfg.Shutdown, _ = a.cfg.VM.shutdown()
	cfg.Bridges = a.cfg.VM.Bridges
	cfg.Leads = a.clusterGuard().leads
	if a.lease != nil {
		cfg.Records = a.lease
		cfg.Group = func() string {
			g, known := a.lease.Group()
			if !known {
				return ""
			}
			return fmt.Sprintf("%s/%d/%d", g.ID, g.Generation, g.Branch)
		}
	}
	if a.cfg.Libvirt == "" {
		cfg.Unfit = "libvirt is not set in its configuration"
		if a.images.store != nil && !a.cfg.Observe { // others take images from here
			cfg.Reports, cfg.Images = a.mesh, baseImages{a}
		}
	} else {
		if !a.cfg.Observe {
			cfg.Reports = a.mesh
		}
		if err := a.openHypervisor(&cfg); err != nil {
			cfg.Unfit = err.Error()
			a.log.Error("this box carries no machines", "err", err)
		}
	}
	box, err := vmd.Open(cfg)
	if err != nil {
		return err
	}
	a.vms = box
	a.placer = vmd.NewPlacer(vmd.PlacerConfig{
		Node: a.dir.nodeID, Datacenter: a.cfg.Labels.Datacenter, Home: a.isHome, Records: cfg.Records, DB: a.store, Calls: a.mesh,
		Reports: a.mesh, Images: planImages, Drained: a.drained, Removed: nodeRemoved, Clock: a.clock, Logger: a.log,
	})
	if cfg.Hypervisor != nil || cfg.Images != nil || a.cfg.Libvirt != "" {
		a.loop.add(box, false)
	}
	a.loop.add(a.placer, false)
	return nil
}

// openHypervisor connects to the hypervisor, and makes the directories of machines.
func (a *Agent) openHypervisor(cfg *vmd.Config) error {
	if !a.cfg.Observe {
		if a.images.store == nil {
			return a.images.why
		}
		cfg.Consoles = filepath.Join(a.cfg.VM.Dir, consolesDir)
		if err := os.Mkdir(cfg.Consoles, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("vm.dir: %w", err)
		}
	}
	hv, err := libvirt.Open(libvirt.Config{
		URI: a.cfg.Libvirt, Mesh: a.dir.mesh.ID, Pool: "hostmesh-" + a.dir.nodeID[:8], Dir: a.cfg.VM.Dir, ReadOnly: a.cfg.Observe, Logger: a.log,
	})
	if err != nil {
		return err
	}
	a.closers = append(a.closers, hv.Close)
	a.virt, cfg.Hypervisor = hv, hv
	cfg.Learn = func(ctx context.Context) (string, error) { // a node joins for the first time
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-a.joined:
		}
		hv.SetMesh(a.dir.mesh.ID)
		return a.dir.mesh.ID, nil
	}
	if a.cfg.Observe {
		return nil
	}
	cfg.Images = baseImages{a}
	a.images.inUse = func(ctx context.Context) ([]string, error) {
		list, err := hv.List(ctx)
		if err != nil {
			return nil, err
		}
		files := a.vms.Files() // of what is not defined yet, or no more
		for _, m := range list {
			files = append(files, m.Files...)
		}
		return files, nil
	}
	return nil
}

// nodeRemoved reports whether a node was removed from the mesh.
func nodeRemoved(db hostdb.View, node string) bool {
	return db.Data(hostdb.System, removedKey).At(node).Exists()
}

// isHome reports whether this datacenter serves networks that belong to none.
func (a *Agent) isHome() bool {
	if a.lease == nil {
		return false
	}
	home, known := a.lease.Home()
	return home && known
}

// drained are the nodes that are to hold nothing.
func (a *Agent) drained(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	v, err := a.lease.Voters(ctx)
	if err != nil {
		return nil // then it is only a wish that cannot be read
	}
	out := map[string]string{}
	for _, d := range v.Drained {
		out[d.Node] = d.Reason
	}
	return out
}

// runPlacer offers this agent for the duty of placing machines.
func (a *Agent) runPlacer(ctx context.Context) error {
	if a.lease == nil || a.cfg.Observe {
		<-ctx.Done()
		return nil
	}
	if !a.cfg.may(vmKind) {
		a.lease.Decline(vmd.PlacerDuty, "duties in its configuration leaves vm out")
		<-ctx.Done()
		return nil
	}
	for ctx.Err() == nil {
		err := a.lease.Campaign(ctx, vmd.PlacerDuty, func(ctx context.Context, g *lease.Grant) error {
			return a.placer.Hold(ctx, placerOffice{a.lease, g})
		})
		if err != nil && ctx.Err() == nil {
			a.log.Error("this agent is not offered for placing machines", "err", err)
		}
		pause(ctx, homeEvery)
	}
	return nil
}

// placerOffice implements vmd.Office.
type placerOffice struct {
	l *lease.Lease
	g *lease.Grant
}

func (o placerOffice) Group() string {
	g, _ := o.l.Group()
	return g.ID
}
func (o placerOffice) Fence() uint64 { return o.g.Fence }
func (o placerOffice) Valid() bool   { return o.g.Valid() }
func (o placerOffice) Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error) {
	return o.l.PutHeld(ctx, o.g, key, value, version)
}

// baseImages implements vmd.Images on the store of images.
type baseImages struct{ a *Agent }

func (b baseImages) Ensure(ctx context.Context, name string) (vmd.Image, error) {
	img, err := image.Get(b.a.store.View(), name)
	if err != nil {
		return vmd.Image{}, bootImageError(err)
	}
	files, err := b.a.images.store.Ensure(ctx, img)
	if err != nil {
		return vmd.Image{}, bootImageError(err)
	}
	out := vmd.Image{Name: name, SHA256: img.ID(), Base: files.Disk, Size: img.VirtualSize, Kernel: files.Kernel, Initrd: files.Initrd, Cmdline: img.Cmdline}
	if files.Disk != "" {
		out.Format = string(img.Format)
	}
	return out, nil
}

// bootImageError gives an error of the store the kind that machines know.
func bootImageError(err error) error {
	switch {
	case errors.Is(err, image.ErrBadImage), errors.Is(err, image.ErrChecksum):
		return fmt.Errorf("%w: %w", vmd.ErrBadImage, err)
	case errors.Is(err, image.ErrNoSource), errors.Is(err, hostdb.ErrNotFound):
		return fmt.Errorf("%w: %w", vmd.ErrNoImage, err)
	}
	return err
}

func (b baseImages) Have() map[string]string {
	good, _ := image.Catalogue(b.a.store.View())
	return b.a.images.store.Here(good)
}

// guestOf reads what a machine's tags say under Guest. A slip in it keeps no machine from being made; doctor names it.
func guestOf(settings hostdb.Document) *section.Guest {
	var leaves []hostdb.Leaf
	for p, v := range settings.Leaves() {
		leaves = append(leaves, hostdb.Leaf{Path: hostdb.PathOf(append([]string{"Guest"}, p.Segments()...)...), Value: v})
	}
	tag, _ := section.TagOf(hostdb.NewDocument(leaves...))
	return tag.Guest
}

func (b baseImages) Seed(g vmd.Guest) ([]byte, error) {
	guest := guestOf(g.Settings)
	spec := image.SeedSpec{FQDN: g.FQDN, UUID: g.UUID, Network: image.SeedNetwork{MAC: g.MAC, Addr: g.Addr, Gateway: g.Gateway}}
	spec.Hostname, _, _ = strings.Cut(g.Name, ".")
	spec.Tell(guest)
	profile := ""
	if guest != nil {
		profile = guest.Profile
	}
	p, err := image.LoadProfile(cmp.Or(b.a.cfg.VM.Guests, guestsDir), profile)
	if err != nil {
		return nil, err
	}
	p.Add(&spec)
	return image.Seed(spec)
}

func (baseImages) Cmdline(template string, g vmd.Guest) (string, error) {
	host, _, _ := strings.Cut(g.Name, ".")
	return image.Cmdline(template, image.Values{Addr: g.Addr, Gateway: g.Gateway, Hostname: host, MAC: g.MAC, UUID: g.UUID})
}

// vmProblems are what is wrong with this box's machines, for status.
func (a *Agent) vmProblems() (out []api.Problem) {
	if a.vms == nil {
		return nil
	}
	box, vms := a.vms.Report()
	if box != nil && box.Unfit != "" && a.cfg.Libvirt != "" {
		out = append(out, api.Problem{Severity: api.SeverityNotice, Subject: "vm", Text: "this box takes no machines: " + box.Unfit, Remedy: "as the text says; machines that are here go on"})
	}
	for _, uuid := range slices.Sorted(maps.Keys(vms)) {
		vm := vms[uuid]
		switch vm.Phase {
		case report.Failed:
			out = append(out, api.Problem{Severity: api.SeverityError, Subject: "vm", Text: fmt.Sprintf("%s failed: %s", vm.Name, vm.Reason), Remedy: "hostmesh vm show " + vm.Name})
		case report.Deleted:
			if vm.Step == vmd.StepLost {
				out = append(out, api.Problem{Severity: api.SeverityNotice, Subject: "vm", Text: fmt.Sprintf("%s: %s", vm.Name, vm.Reason), Remedy: "hostmesh vm purge " + vm.Name})
			}
		case report.Waiting:
			out = append(out, api.Problem{Severity: api.SeverityNotice, Subject: "vm", Text: fmt.Sprintf("%s: %s", vm.Name, vm.Reason), Remedy: "hostmesh approve " + vm.Name})
		}
	}
	for _, vm := range slices.SortedFunc(maps.Values(a.placer.Waiting()), func(x, y report.VM) int { return strings.Compare(x.Name, y.Name) }) {
		if vm.Phase == report.Failed {
			out = append(out, api.Problem{Severity: api.SeverityError, Subject: "vm", Text: fmt.Sprintf("%s cannot be placed: %s", vm.Name, vm.Reason), Remedy: "hostmesh vm explain " + vm.Name})
		}
	}
	return out
}
