//go:build cgo && libvirt_dlopen && !nolibvirt

package libvirt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"hostmesh/vmd"
)

// Host implements vmd.Hypervisor. Bridges are those of this box; of the driver that has no hardware, those of its networks.
func (h *Hypervisor) Host(ctx context.Context) (vmd.Host, error) {
	return call(ctx, h, "look at the box", "", func(_ context.Context, c *conn) (vmd.Host, error) {
		node, err := c.lv.GetNodeInfo()
		if err != nil {
			return vmd.Host{}, err
		}
		host := vmd.Host{Hypervisor: c.version, DomainType: c.platform.domainType, CPUs: int(node.Cpus), Memory: int64(node.Memory) << 10}
		var fs unix.Statfs_t
		err = unix.Statfs(h.cfg.Dir, &fs)
		for dir := h.cfg.Dir; h.cfg.ReadOnly && errors.Is(err, unix.ENOENT) && dir != filepath.Dir(dir); {
			dir = filepath.Dir(dir) // where it would be made
			err = unix.Statfs(dir, &fs)
		}
		if err != nil {
			return vmd.Host{}, &os.PathError{Op: "look at", Path: h.cfg.Dir, Err: err}
		}
		host.DiskFree, host.DiskSize = int64(fs.Bavail)*fs.Bsize, int64(fs.Blocks)*fs.Bsize
		if host.DiskOwn, err = taken(h.cfg.Dir); err != nil {
			return vmd.Host{}, err
		}
		if c.inLibrary() {
			host.Bridges, err = networkBridges(c)
			return host, err
		}
		if err := enterable(h.cfg.Dir); err != nil && !(h.cfg.ReadOnly && errors.Is(err, unix.ENOENT)) {
			return vmd.Host{}, err
		}
		links, err := filepath.Glob("/sys/class/net/*/bridge")
		if err != nil {
			return vmd.Host{}, err
		}
		for _, l := range links {
			host.Bridges = append(host.Bridges, filepath.Base(filepath.Dir(l)))
		}
		slices.Sort(host.Bridges)
		return host, nil
	})
}

func networkBridges(c *conn) ([]string, error) {
	nets, err := c.lv.ListAllNetworks(0)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range nets {
		if name, err := nets[i].GetBridgeName(); err == nil {
			names = append(names, name) // others have none
		}
		_ = nets[i].Free()
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// inLibrary reports whether the hypervisor is the driver that libvirt's library brings for tests: it has no emulator, no
// hardware and no files.
func (c *conn) inLibrary() bool { return c.platform.domainType == "test" }
