//go:build cgo && libvirt_dlopen && !nolibvirt

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"libvirt.org/go/libvirt"

	"hostmesh/vmd"
	"hostmesh/vmd/plan"
)

// done is the result of a call that has none.
type done struct{}

// List implements vmd.Hypervisor.
func (h *Hypervisor) List(ctx context.Context) ([]plan.Machine, error) {
	return call(ctx, h, "list domains", "", func(ctx context.Context, c *conn) ([]plan.Machine, error) {
		doms, err := c.lv.ListAllDomains(0)
		if err != nil {
			return nil, err
		}
		defer func() {
			for i := range doms {
				_ = doms[i].Free()
			}
		}()
		list := make([]plan.Machine, 0, len(doms))
		for i := range doms {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			m, err := patient(func() (plan.Machine, error) { return look(&doms[i]) })
			if code(err) == libvirt.ERR_NO_DOMAIN {
				continue // it has gone since
			}
			if err != nil {
				return nil, err
			}
			list = append(list, m)
		}
		slices.SortFunc(list, func(a, b plan.Machine) int { return strings.Compare(a.UUID, b.UUID) })
		return list, nil
	})
}

func code(err error) libvirt.ErrorNumber {
	var lv libvirt.Error
	if errors.As(err, &lv) {
		return lv.Code
	}
	return libvirt.ERR_OK
}

// look at a domain: what it is now, and the files of what it will be after its next start too.
func look(dom *libvirt.Domain) (plan.Machine, error) {
	state, err := stateOf(dom)
	if err != nil {
		return plan.Machine{}, err
	}
	text, err := dom.GetXMLDesc(0)
	if err != nil {
		return plan.Machine{}, err
	}
	d, err := describe(text)
	if err != nil {
		return plan.Machine{}, err
	}
	m := d.machine()
	m.State = state
	if off(state) {
		return m, nil
	}
	text, err = dom.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		return plan.Machine{}, err
	}
	next, err := describe(text)
	if err != nil {
		return plan.Machine{}, err
	}
	m.Files = append(m.Files, next.files()...)
	slices.Sort(m.Files)
	m.Files = slices.Compact(m.Files)
	return m, nil
}

func off(s plan.State) bool { return s == plan.Off || s == plan.Crashed }

func stateOf(dom *libvirt.Domain) (plan.State, error) {
	state, reason, err := dom.GetState()
	if err != nil {
		return "", err
	}
	switch state {
	case libvirt.DOMAIN_RUNNING, libvirt.DOMAIN_BLOCKED, libvirt.DOMAIN_NOSTATE:
		return plan.Running, nil
	case libvirt.DOMAIN_PAUSED, libvirt.DOMAIN_PMSUSPENDED:
		return plan.Paused, nil
	case libvirt.DOMAIN_SHUTDOWN:
		return plan.Dying, nil
	case libvirt.DOMAIN_CRASHED:
		return plan.Crashed, nil
	case libvirt.DOMAIN_SHUTOFF:
		if libvirt.DomainShutoffReason(reason) == libvirt.DOMAIN_SHUTOFF_CRASHED {
			return plan.Crashed, nil
		}
		return plan.Off, nil
	}
	return "", fmt.Errorf("state %d is unknown here", state)
}

// Get implements vmd.Hypervisor.
func (h *Hypervisor) Get(ctx context.Context, uuid string) (plan.Machine, error) {
	return call(ctx, h, "look at domain", uuid, func(_ context.Context, c *conn) (plan.Machine, error) {
		dom, err := c.lv.LookupDomainByUUIDString(uuid)
		if err != nil {
			return plan.Machine{}, strange(uuid, err)
		}
		defer dom.Free() //nolint:errcheck // what it held is gone in any case
		return look(dom)
	})
}

// strange makes of a UUID that is none an unknown one.
func strange(uuid string, err error) error {
	if code(err) == libvirt.ERR_INVALID_ARG {
		return fmt.Errorf("%w: %q is not a UUID", vmd.ErrNoDomain, uuid)
	}
	return err
}

// ours finds a domain and sees that it is of this mesh: the sequence of calls that changes it begins so.
func (h *Hypervisor) ours(c *conn, uuid string) (*libvirt.Domain, described, error) {
	dom, err := c.lv.LookupDomainByUUIDString(uuid)
	if err != nil {
		return nil, described{}, strange(uuid, err)
	}
	text, err := dom.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		_ = dom.Free()
		return nil, described{}, err
	}
	d, err := describe(text)
	if mesh := *h.mesh.Load(); err == nil && (mesh == "" || d.Ours.Mesh != mesh) {
		err = fmt.Errorf("%w: %s", vmd.ErrNotOurs, whose(d))
	}
	if err != nil {
		_ = dom.Free()
		return nil, described{}, err
	}
	return dom, d, nil
}

func whose(d described) string {
	if d.Ours.Mesh == "" {
		return fmt.Sprintf("%q was made by somebody else", d.Name)
	}
	return fmt.Sprintf("%q is of mesh %q", d.Name, d.Ours.Mesh)
}

// change runs f on a domain of this mesh, in one call.
func (h *Hypervisor) change(ctx context.Context, what, uuid string, f func(context.Context, *libvirt.Domain, described) error) error {
	_, err := call(ctx, h, what, uuid, func(ctx context.Context, c *conn) (done, error) {
		dom, d, err := h.ours(c, uuid)
		if err != nil {
			return done{}, err
		}
		defer dom.Free() //nolint:errcheck // what it held is gone in any case
		if err := ctx.Err(); err != nil {
			return done{}, err
		}
		return patient(func() (done, error) { return done{}, f(ctx, dom, d) })
	})
	return err
}

// Define implements vmd.Hypervisor.
func (h *Hypervisor) Define(ctx context.Context, d plan.Domain) error {
	if err := vmd.CheckDomain(d, *h.mesh.Load()); err != nil {
		return err
	}
	_, err := call(ctx, h, "define domain", d.Name, func(ctx context.Context, c *conn) (done, error) {
		dom, old, err := h.ours(c, d.UUID)
		switch {
		case code(err) == libvirt.ERR_NO_DOMAIN:
			if err := nameIsFree(c, d); err != nil {
				return done{}, err
			}
		case err != nil:
			return done{}, err
		default:
			_ = dom.Free()
			if old.Name != d.Name {
				return done{}, fmt.Errorf("%w: domain %s is named %q and cannot become %q", vmd.ErrRefused, d.UUID, old.Name, d.Name)
			}
		}
		text, err := domainXML(d, c.platform)
		if err != nil {
			return done{}, err
		}
		if err := ctx.Err(); err != nil {
			return done{}, err
		}
		made, err := c.lv.DomainDefineXMLFlags(text, 0)
		if err != nil {
			return done{}, err
		}
		return done{}, made.Free()
	})
	return err
}

// nameIsFree says who has the name of a domain that is not there yet. libvirt itself refuses one that is taken in between.
func nameIsFree(c *conn, want plan.Domain) error {
	dom, err := c.lv.LookupDomainByName(want.Name)
	if code(err) == libvirt.ERR_NO_DOMAIN {
		return nil
	}
	if err != nil {
		return err
	}
	defer dom.Free() //nolint:errcheck // what it held is gone in any case
	text, err := dom.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		return err
	}
	d, err := describe(text)
	if err != nil {
		return err
	}
	if d.UUID == want.UUID && d.Ours.Mesh == want.Mesh {
		return nil // another call made it in between
	}
	owner := "of somebody else"
	if d.Ours.Mesh != "" {
		owner = fmt.Sprintf("of mesh %q", d.Ours.Mesh)
	}
	return fmt.Errorf("%w: the name %q is taken by domain %s %s", vmd.ErrRefused, want.Name, d.UUID, owner)
}

// settle makes an error of a call nothing when what was wanted is so by now: another was faster, or the emulator went while
// it was spoken to, which libvirt takes in a moment later.
func settle(dom *libvirt.Domain, err error, want func(plan.State) bool) error {
	gone := err != nil && strings.Contains(err.Error(), "monitor")
	if code(err) != libvirt.ERR_OPERATION_INVALID && !gone {
		return err
	}
	for i := 0; ; i++ {
		if state, e := stateOf(dom); e == nil && want(state) {
			return nil
		}
		if !gone || i == 20 {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Start implements vmd.Hypervisor.
func (h *Hypervisor) Start(ctx context.Context, uuid string) error {
	return h.change(ctx, "start domain", uuid, func(ctx context.Context, dom *libvirt.Domain, d described) error {
		// A start that a killed daemon did not finish looks paused until the next daemon ends it: what is so is looked at
		// again when it turns out to be otherwise.
		for again := 0; ; again++ {
			err := start(dom, d)
			if again == 3 || code(err) != libvirt.ERR_OPERATION_INVALID || ctx.Err() != nil {
				return err
			}
		}
	})
}

func start(dom *libvirt.Domain, d described) error {
	state, err := stateOf(dom)
	if err != nil {
		return err
	}
	running := func(s plan.State) bool { return s == plan.Running }
	switch {
	case state == plan.Paused:
		return settle(dom, dom.Resume(), running)
	case !off(state):
		return nil
	}
	if log := d.Console.Log.File; log != "" {
		if err := os.MkdirAll(filepath.Dir(log), 0o711); err != nil { // virtlogd makes the file, and no directory
			return err
		}
	}
	return settle(dom, dom.CreateWithFlags(0), running)
}

// Shutdown implements vmd.Hypervisor. The guest's agent is asked where there is one, else its power button is pressed.
func (h *Hypervisor) Shutdown(ctx context.Context, uuid string) error {
	return h.change(ctx, "shut down domain", uuid, func(_ context.Context, dom *libvirt.Domain, _ described) error {
		state, err := stateOf(dom)
		if err != nil || off(state) || state == plan.Dying {
			return err
		}
		return settle(dom, dom.Shutdown(), off)
	})
}

// Destroy implements vmd.Hypervisor.
func (h *Hypervisor) Destroy(ctx context.Context, uuid string) error {
	return h.change(ctx, "destroy domain", uuid, func(_ context.Context, dom *libvirt.Domain, _ described) error {
		state, err := stateOf(dom)
		if err != nil || off(state) {
			return err
		}
		return settle(dom, dom.Destroy(), off)
	})
}

// Undefine implements vmd.Hypervisor.
func (h *Hypervisor) Undefine(ctx context.Context, uuid string) error {
	err := h.change(ctx, "undefine domain", uuid, func(_ context.Context, dom *libvirt.Domain, _ described) error {
		state, err := stateOf(dom)
		if err != nil {
			return err
		}
		if !off(state) { // libvirt would forget it as soon as it is off
			return fmt.Errorf("%w: it is %s; destroy it first", vmd.ErrRefused, state)
		}
		// What people added by hand (a saved state, snapshots) must not keep it.
		err = dom.UndefineFlags(libvirt.DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.DOMAIN_UNDEFINE_NVRAM)
		if c := code(err); c == libvirt.ERR_INVALID_ARG || c == libvirt.ERR_NO_SUPPORT {
			err = dom.Undefine()
		}
		return err
	})
	if errors.Is(err, vmd.ErrNoDomain) {
		return nil
	}
	return err
}

// Reboot implements vmd.Hypervisor.
func (h *Hypervisor) Reboot(ctx context.Context, uuid string, hard bool) error {
	return h.change(ctx, "reboot domain", uuid, func(_ context.Context, dom *libvirt.Domain, _ described) error {
		state, err := stateOf(dom)
		switch {
		case err != nil:
			return err
		case off(state):
			return fmt.Errorf("%w: it is %s; start it", vmd.ErrRefused, state)
		case hard:
			return dom.Reset(0)
		}
		return dom.Reboot(0)
	})
}

// Stats implements vmd.Hypervisor.
func (h *Hypervisor) Stats(ctx context.Context, uuid string) (vmd.Stats, error) {
	return call(ctx, h, "count domain", uuid, func(_ context.Context, c *conn) (vmd.Stats, error) {
		dom, err := c.lv.LookupDomainByUUIDString(uuid)
		if err != nil {
			return vmd.Stats{}, strange(uuid, err)
		}
		defer dom.Free() //nolint:errcheck // what it held is gone in any case
		state, err := stateOf(dom)
		if err != nil {
			return vmd.Stats{}, err
		}
		if off(state) {
			return vmd.Stats{}, fmt.Errorf("%w: it is %s and has no counters", vmd.ErrRefused, state)
		}
		// NOWAIT: a domain that is busy with something long is counted as far as can be seen from outside.
		all, err := c.lv.GetAllDomainStats([]*libvirt.Domain{dom},
			libvirt.DOMAIN_STATS_CPU_TOTAL|libvirt.DOMAIN_STATS_BALLOON|libvirt.DOMAIN_STATS_INTERFACE|libvirt.DOMAIN_STATS_BLOCK, libvirt.CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
		if err != nil {
			return vmd.Stats{}, err
		}
		var s vmd.Stats
		for _, one := range all {
			s = counted(one)
			_ = one.Domain.Free()
		}
		if s.Memory == 0 { // the driver within the library has no more than this
			info, err := dom.GetInfo()
			if err != nil {
				return vmd.Stats{}, err
			}
			s.CPUTime, s.Memory = time.Duration(info.CpuTime), int64(info.Memory)<<10
		}
		return s, nil
	})
}

func counted(from libvirt.DomainStats) vmd.Stats {
	var s vmd.Stats
	if from.Cpu != nil {
		s.CPUTime = time.Duration(from.Cpu.Time)
	}
	if from.Balloon != nil {
		s.Memory = int64(from.Balloon.Current) << 10
		if from.Balloon.RssSet {
			s.Memory = int64(from.Balloon.Rss) << 10 // what it takes of the box
		}
	}
	for _, b := range from.Block {
		s.DiskRead += int64(b.RdBytes)
		s.DiskWritten += int64(b.WrBytes)
	}
	for _, n := range from.Net {
		s.NetReceived += int64(n.RxBytes)
		s.NetSent += int64(n.TxBytes)
	}
	return s
}
