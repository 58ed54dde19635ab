//go:build cgo && libvirt_dlopen && !nolibvirt

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"hostmesh/vmd"
)

// CreateVolume implements vmd.Hypervisor. A volume of a domain that runs is grown beneath it, and its guest sees that at once.
func (h *Hypervisor) CreateVolume(ctx context.Context, name, base, baseFormat string, size int64) (string, error) {
	path := filepath.Join(h.cfg.Dir, name)
	wrap := func(err error) (string, error) { return "", fmt.Errorf("volume %s: %w", name, err) }
	if err := vmd.CheckVolume(name, base, baseFormat, size); err != nil {
		return wrap(err)
	}
	if h.cfg.ReadOnly {
		return wrap(errReadOnly)
	}
	if base != "" {
		if _, err := os.Stat(base); err != nil {
			return wrap(fmt.Errorf("its base: %w", err))
		}
	}
	free, err := h.occupy(ctx, name)
	if err != nil {
		return wrap(err)
	}
	defer free()
	inLibrary, err := call(ctx, h, "ask its kind", "", func(_ context.Context, c *conn) (bool, error) { return c.inLibrary(), nil })
	if err != nil {
		return wrap(err)
	}
	if inLibrary {
		err = h.createInPool(ctx, name, base, baseFormat, size)
	} else {
		err = h.createFile(ctx, path, base, baseFormat, size)
	}
	if err != nil {
		return wrap(err)
	}
	return path, nil
}

// occupy waits until nobody else makes, grows or deletes a volume.
func (h *Hypervisor) occupy(ctx context.Context, name string) (free func(), err error) {
	for {
		h.mu.Lock()
		other := h.busy[name]
		if other == nil {
			mine := make(chan struct{})
			h.busy[name] = mine
			h.mu.Unlock()
			return func() {
				h.mu.Lock()
				delete(h.busy, name)
				h.mu.Unlock()
				close(mine)
			}, nil
		}
		h.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (h *Hypervisor) createFile(ctx context.Context, path, base, baseFormat string, size int64) error {
	is, err := virtualSize(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createQcow2(ctx, path, base, baseFormat, size)
	}
	if err != nil || is >= size {
		return err
	}
	user, err := h.user(ctx, path)
	if err != nil {
		return err
	}
	if user == "" {
		return growQcow2(ctx, path, size)
	}
	return h.change(ctx, "grow a disk of domain", user, func(_ context.Context, dom *libvirt.Domain, _ described) error {
		return dom.BlockResize(path, uint64(size), libvirt.DOMAIN_BLOCK_RESIZE_BYTES)
	})
}

// user returns the domain that has a file open, "" when none has.
func (h *Hypervisor) user(ctx context.Context, path string) (string, error) {
	machines, err := h.List(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range machines {
		if !off(m.State) && slices.Contains(m.Files, path) {
			return m.UUID, nil
		}
	}
	return "", nil
}

// WriteVolume implements vmd.Hypervisor. A domain that runs keeps the file that it has.
func (h *Hypervisor) WriteVolume(ctx context.Context, name string, content io.Reader, size int64) (string, error) {
	path := filepath.Join(h.cfg.Dir, name)
	if err := vmd.CheckVolume(name, "", "", size); err != nil {
		return "", fmt.Errorf("volume %s: %w", name, err)
	}
	if h.cfg.ReadOnly {
		return "", fmt.Errorf("volume %s: %w", name, errReadOnly)
	}
	if err := h.here(); err != nil { // so that a box without hypervisor collects nothing
		return "", fmt.Errorf("volume %s: %w", name, err)
	}
	if err := writeFile(ctx, path, content, size); err != nil {
		return "", fmt.Errorf("volume %s: %w", name, err)
	}
	return path, nil
}

// DeleteVolume implements vmd.Hypervisor.
func (h *Hypervisor) DeleteVolume(ctx context.Context, name string) error {
	wrap := func(err error) error { return fmt.Errorf("volume %s: %w", name, err) }
	if err := vmd.CheckVolume(name, "", "", 1); err != nil {
		return wrap(err)
	}
	if h.cfg.ReadOnly {
		return wrap(errReadOnly)
	}
	free, err := h.occupy(ctx, name)
	if err != nil {
		return wrap(err)
	}
	defer free()
	path := filepath.Join(h.cfg.Dir, name)
	user, err := h.user(ctx, path)
	if err != nil {
		return wrap(err)
	}
	if user != "" {
		return wrap(fmt.Errorf("%w: domain %s runs with it", vmd.ErrRefused, user))
	}
	if err := removeFile(path); err != nil {
		return wrap(err)
	}
	return h.deleteInPool(ctx, name)
}

// Volumes implements vmd.Hypervisor.
func (h *Hypervisor) Volumes(ctx context.Context) ([]string, error) {
	pooled, err := call(ctx, h, "list volumes", "", func(_ context.Context, c *conn) ([]string, error) {
		if !c.inLibrary() {
			return nil, nil
		}
		pool, err := c.lv.LookupStoragePoolByName(h.cfg.Pool)
		if h.cfg.ReadOnly && code(err) == libvirt.ERR_NO_STORAGE_POOL {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		defer pool.Free() //nolint:errcheck // what it held is gone in any case
		return pool.ListStorageVolumes()
	})
	if err != nil {
		return nil, err
	}
	names, err := wholeFiles(h.cfg.Dir)
	if err != nil && !(h.cfg.ReadOnly && errors.Is(err, fs.ErrNotExist)) {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	names = append(names, pooled...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// createInPool makes a volume of the driver that has no files.
func (h *Hypervisor) createInPool(ctx context.Context, name, base, baseFormat string, size int64) error {
	_, err := call(ctx, h, "create volume", name, func(_ context.Context, c *conn) (done, error) {
		pool, err := c.lv.LookupStoragePoolByName(h.cfg.Pool)
		if err != nil {
			return done{}, err
		}
		defer pool.Free() //nolint:errcheck // what it held is gone in any case
		vol, err := pool.LookupStorageVolByName(name)
		if err == nil {
			defer vol.Free() //nolint:errcheck // as above
			info, err := vol.GetInfo()
			if err != nil || info.Capacity >= uint64(size) {
				return done{}, err
			}
			return done{}, vol.Resize(uint64(size), 0)
		}
		if code(err) != libvirt.ERR_NO_STORAGE_VOL {
			return done{}, err
		}
		def := libvirtxml.StorageVolume{Name: name, Target: &libvirtxml.StorageVolumeTarget{Format: &libvirtxml.StorageVolumeTargetFormat{Type: "qcow2"}}}
		if base != "" {
			def.BackingStore = &libvirtxml.StorageVolumeBackingStore{Path: base, Format: &libvirtxml.StorageVolumeTargetFormat{Type: baseFormat}}
			if size == 0 {
				info, err := os.Stat(base)
				if err != nil {
					return done{}, err
				}
				size = info.Size()
			}
		}
		def.Capacity = &libvirtxml.StorageVolumeSize{Value: uint64(size), Unit: "bytes"}
		def.Allocation = &libvirtxml.StorageVolumeSize{Unit: "bytes"}
		text, err := def.Marshal()
		if err != nil {
			return done{}, err
		}
		made, err := pool.StorageVolCreateXML(text, 0)
		if err != nil {
			return done{}, err
		}
		return done{}, made.Free()
	})
	return err
}

func (h *Hypervisor) deleteInPool(ctx context.Context, name string) error {
	_, err := call(ctx, h, "delete volume", name, func(_ context.Context, c *conn) (done, error) {
		if !c.inLibrary() {
			return done{}, nil
		}
		pool, err := c.lv.LookupStoragePoolByName(h.cfg.Pool)
		if err != nil {
			return done{}, err
		}
		defer pool.Free() //nolint:errcheck // what it held is gone in any case
		vol, err := pool.LookupStorageVolByName(name)
		if code(err) == libvirt.ERR_NO_STORAGE_VOL {
			return done{}, nil
		}
		if err != nil {
			return done{}, err
		}
		defer vol.Free() //nolint:errcheck // as above
		return done{}, vol.Delete(0)
	})
	return err
}
