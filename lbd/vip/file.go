package vip

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// fileVersion is that of the claim file.
const fileVersion = 1

// fileName is the name of the claim file.
const fileName = "vips.json"

// claimFile is the list of addresses that this box claimed, on disk. It is written before an address is added, and after it was removed. One that
// cannot be read is never written.
type claimFile struct {
	dir string

	mu   sync.Mutex // guards the fields below, and the file
	list []netip.Addr
	left map[netip.Addr]time.Duration // of list, those that were left, until when by the Boot clock
}

type fileContents struct {
	Version   int          `json:"version"`
	Addresses []netip.Addr `json:"addresses"`
	// Left are those of them that were left to the next process, until when, in nanoseconds after the machine's start. A build that does not know it removes them.
	Left map[netip.Addr]time.Duration `json:"left,omitempty"`
}

// read takes in the file as it is. ErrUnread.
func (f *claimFile) read() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := os.ReadFile(f.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var c fileContents
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrUnread, f.path(), err)
	case c.Version != fileVersion:
		return fmt.Errorf("%w: %s is of version %d, and this build knows %d", ErrUnread, f.path(), c.Version, fileVersion)
	}
	f.list, f.left = c.Addresses, c.Left
	return nil
}

// inherited are the addresses that the process before has left, until when by the Boot clock.
func (f *claimFile) inherited() map[netip.Addr]time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.left)
}

// bequeath writes down that an address is left.
func (f *claimFile) bequeath(addr netip.Addr, until time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := maps.Clone(f.left)
	if left == nil {
		left = map[netip.Addr]time.Duration{}
	}
	left[addr] = until
	list := f.list
	if !slices.Contains(list, addr) {
		list = append(slices.Clone(list), addr)
	}
	was := f.left
	f.left = left
	if err := f.write(list); err != nil {
		f.left = was
		return err
	}
	f.list = list
	return nil
}

func (f *claimFile) path() string { return filepath.Join(f.dir, fileName) }

func (f *claimFile) addresses() []netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

func (f *claimFile) remember(addr netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.list, addr) {
		delete(f.left, addr) // with the next writing: until then it may be taken for left, and is claimed here
		return nil
	}
	list := append(slices.Clone(f.list), addr)
	if err := f.write(list); err != nil {
		return err
	}
	f.list = list
	return nil
}

func (f *claimFile) forget(addrs ...netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(f.list), func(a netip.Addr) bool { return slices.Contains(addrs, a) })
	if len(list) == len(f.list) {
		return nil
	}
	for _, a := range addrs {
		delete(f.left, a)
	}
	if err := f.write(list); err != nil {
		return err
	}
	f.list = list
	return nil
}

// write replaces the file, and returns when it is on disk.
func (f *claimFile) write(list []netip.Addr) (err error) {
	text, err := json.Marshal(fileContents{Version: fileVersion, Addresses: list, Left: f.left})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the claims of virtual addresses: %w", err)
		}
	}()
	tmp, err := os.CreateTemp(f.dir, fileName+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // there is none when it was renamed
	if _, err = tmp.Write(append(text, '\n')); err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), f.path()); err != nil {
		return err
	}
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
