//go:build cgo && libvirt_dlopen && !nolibvirt

package libvirt

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// architectures are libvirt's names of Go's.
var architectures = map[string]string{"amd64": "x86_64", "386": "i686", "arm64": "aarch64", "arm": "armv7l", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}

// connect makes a connection that hears of changes and notices when the daemon hangs.
func (h *Hypervisor) connect() (*conn, error) {
	open := libvirt.NewConnect
	if h.cfg.ReadOnly {
		open = libvirt.NewConnectReadOnly
	}
	lv, err := patient(func() (*libvirt.Connect, error) { return open(h.cfg.URI) })
	if err != nil {
		return nil, classify(err)
	}
	c := &conn{lv: lv, events: -1, slots: make(chan struct{}, h.cfg.Limits.Calls), lost: make(chan struct{})}
	if err := h.prepare(c); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (h *Hypervisor) prepare(c *conn) error {
	var err error
	if c.driver, err = patient(c.lv.GetType); err != nil {
		return fmt.Errorf("ask for its kind: %w", err)
	}
	number, err := patient(c.lv.GetVersion)
	if err != nil {
		return fmt.Errorf("ask for its version: %w", err)
	}
	c.version = c.driver + " " + version(number)
	text, err := patient(c.lv.GetCapabilities)
	if err != nil {
		return fmt.Errorf("ask what it can: %w", err)
	}
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(text); err != nil {
		return fmt.Errorf("read what it can: %w", err)
	}
	c.platform = platformOf(caps, architectures[runtime.GOARCH], kvmHere())
	if c.platform.domainType == "" {
		return errors.New("it offers no type of domain that would run; install an emulator (Debian: qemu-system-x86)")
	}
	c.platform.direct = !h.cfg.ReadOnly && directIO(h.cfg.Dir)
	// Drivers within the library have no daemon to lose, and refuse this.
	_, err = patient(func() (struct{}, error) {
		return struct{}{}, c.lv.RegisterCloseCallback(func(_ *libvirt.Connect, reason libvirt.ConnectCloseReason) {
			h.lose(c, closeReason(reason))
		})
	})
	if err != nil && !unsupported(err) {
		return fmt.Errorf("ask to be told of its end: %w", err)
	}
	c.events, err = patient(func() (int, error) {
		return c.lv.DomainEventLifecycleRegister(nil, func(*libvirt.Connect, *libvirt.Domain, *libvirt.DomainEventLifecycle) { h.poke() })
	})
	if err != nil {
		c.events = -1
		return fmt.Errorf("ask to be told of changes: %w", err)
	}
	if h.cfg.ReadOnly {
		return nil
	}
	return h.makePool(c)
}

func closeReason(r libvirt.ConnectCloseReason) error {
	switch r {
	case libvirt.CONNECT_CLOSE_REASON_EOF:
		return errors.New("the daemon closed the connection")
	case libvirt.CONNECT_CLOSE_REASON_KEEPALIVE:
		return errors.New("the daemon does not answer")
	case libvirt.CONNECT_CLOSE_REASON_CLIENT:
		return errors.New("closed")
	}
	return errors.New("the connection broke")
}

func unsupported(err error) bool {
	var lv libvirt.Error
	return errors.As(err, &lv) && lv.Code == libvirt.ERR_NO_SUPPORT
}

// makePool tells libvirt of the directory, so that people find the volumes there (virsh vol-list). The files are ours.
func (h *Hypervisor) makePool(c *conn) error {
	pool, err := patient(func() (*libvirt.StoragePool, error) { return c.lv.LookupStoragePoolByName(h.cfg.Pool) })
	var lv libvirt.Error
	switch {
	case err == nil:
		defer pool.Free() //nolint:errcheck // what it held is gone in any case
		text, err := pool.GetXMLDesc(0)
		if err != nil {
			return fmt.Errorf("look at pool %q: %w", h.cfg.Pool, err)
		}
		var def libvirtxml.StoragePool
		if err := def.Unmarshal(text); err != nil {
			return fmt.Errorf("read pool %q: %w", h.cfg.Pool, err)
		}
		if def.Type != "dir" || def.Target == nil || def.Target.Path != h.cfg.Dir {
			return fmt.Errorf("there is a pool %q already, which is not of directory %s: undefine it (virsh pool-undefine) or choose another vm.dir", h.cfg.Pool, h.cfg.Dir)
		}
	case errors.As(err, &lv) && lv.Code == libvirt.ERR_NO_STORAGE_POOL:
		text, err := (&libvirtxml.StoragePool{Type: "dir", Name: h.cfg.Pool, Target: &libvirtxml.StoragePoolTarget{Path: h.cfg.Dir,
			Permissions: &libvirtxml.StoragePoolTargetPermissions{Mode: "0711"}}}).Marshal()
		if err != nil {
			return fmt.Errorf("write the XML of pool %q: %w", h.cfg.Pool, err)
		}
		if pool, err = patient(func() (*libvirt.StoragePool, error) { return c.lv.StoragePoolDefineXML(text, 0) }); err != nil {
			return fmt.Errorf("define pool %q of %s: %w", h.cfg.Pool, h.cfg.Dir, err)
		}
		defer pool.Free() //nolint:errcheck // as above
	default:
		return fmt.Errorf("look for pool %q: %w", h.cfg.Pool, err)
	}
	active, err := patient(pool.IsActive)
	if err == nil && !active {
		_, err = patient(func() (struct{}, error) { return struct{}{}, pool.Create(0) })
		if errors.As(err, &lv) && lv.Code == libvirt.ERR_OPERATION_INVALID && strings.Contains(lv.Message, "already active") {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("start pool %q: %w", h.cfg.Pool, err)
	}
	return nil
}
