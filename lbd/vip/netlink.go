package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Linux is the Kernel of this machine.
type Linux struct {
	ns   *Namespace
	acts *netlink.Handle // what is in a hurry does not wait for lists
	list *netlink.Handle
}

// OpenLinux opens the kernel's doors in a network namespace; nil = that of the calling thread.
func OpenLinux(ns *Namespace) (*Linux, error) {
	k := &Linux{ns: ns}
	err := ns.in(func() (err error) {
		if k.acts, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		k.list, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netlink: %w", err), k.Close())
	}
	return k, nil
}

// Close closes them. It is idempotent.
func (k *Linux) Close() error {
	for _, h := range []*netlink.Handle{k.acts, k.list} {
		if h != nil {
			h.Close()
		}
	}
	return nil
}

// Check implements Kernel: it asks to begin anew the lifetimes of addresses that do not exist, which must be refused and not make them.
func (k *Linux) Check() error {
	lo := func(addr string) (Address, error) {
		links, err := k.Links()
		for _, l := range links {
			if l.Name == "lo" {
				return Address{Link: l.Index, Prefix: netip.PrefixFrom(netip.MustParseAddr(addr), netip.MustParseAddr(addr).BitLen()), Lifetime: time.Second}, nil
			}
		}
		return Address{}, errors.Join(err, fmt.Errorf("%w: there is no interface lo", ErrNoLink))
	}
	for _, addr := range []string{"192.0.2.254", "100::fe"} { // RFC 5737, RFC 6666: nobody has them
		a, err := lo(addr)
		if err != nil {
			return err
		}
		switch err := k.Refresh(a); {
		case err == nil:
			return errors.Join(fmt.Errorf("%w: it makes addresses that it is asked to replace; use a Linux kernel from 4.1 on", ErrUnsuited), k.Delete(a))
		case errors.Is(err, ErrGone), errors.Is(err, errNoFamily):
		default:
			return err
		}
	}
	return nil
}

// errNoFamily is returned where IPv6 is off.
var errNoFamily = errors.New("this address family is off")

// Links implements Kernel.
func (k *Linux) Links() ([]Link, error) {
	found, err := uninterrupted(k.list.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	links := make([]Link, 0, len(found))
	for _, l := range found {
		a := l.Attrs()
		// Where a driver does not know of carriers, the state is unknown.
		running := a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_RUNNING != 0
		links = append(links, Link{Index: a.Index, Name: a.Name, MAC: a.HardwareAddr, Running: running})
	}
	return links, nil
}

// Addresses implements Kernel.
func (k *Linux) Addresses() ([]Address, error) {
	found, err := uninterrupted(func() ([]netlink.Addr, error) { return k.list.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	list := make([]Address, 0, len(found))
	for _, a := range found {
		addr, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		bits, _ := a.Mask.Size()
		of := Address{Link: a.LinkIndex, Prefix: netip.PrefixFrom(addr.Unmap(), bits)}
		if a.Flags&unix.IFA_F_PERMANENT == 0 {
			of.Lifetime = time.Duration(uint32(a.ValidLft)) * time.Second
			if of.Lifetime == 0 {
				of.Lifetime = 1 // less than a second, not for ever
			}
		}
		list = append(list, of)
	}
	return list, nil
}

// uninterrupted lists again while the kernel says that what it listed was changed meanwhile. What it has in the end may lack what just changed.
func uninterrupted[T any](list func() ([]T, error)) (all []T, err error) {
	for range 10 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, fmt.Errorf("%w, ten times", err)
}

// Add implements Kernel. An IPv6 address is usable at once: whoever has it was asked by the claim, and the kernel's own question takes a second. Neither is
// used for what this box sends by itself: it is deprecated from the beginning (RFC 4862, 5.5.4).
func (k *Linux) Add(a Address) error {
	return k.explain("add", a, k.acts.AddrAdd(linkIndex(a.Link), kernelAddr(a, unix.IFA_F_NODAD)))
}

// Refresh implements Kernel. Linux makes an address that it is asked to replace and that does not exist (it says of NLM_F_CREATE that programs rely on not
// needing it). One that is marked to join its multicast group it refuses, with EINVAL, if it is no such group; but the mark is looked at only when
// the address would be made.
func (k *Linux) Refresh(a Address) error {
	err := k.acts.AddrReplace(linkIndex(a.Link), kernelAddr(a, unix.IFA_F_MCAUTOJOIN|unix.IFA_F_NODAD))
	if errors.Is(err, unix.EINVAL) {
		err = ErrGone
	}
	return k.explain("refresh", a, err)
}

// Delete implements Kernel.
func (k *Linux) Delete(a Address) error {
	a.Lifetime = 0
	err := k.acts.AddrDel(linkIndex(a.Link), kernelAddr(a, 0))
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		err = nil
	}
	return k.explain("delete", a, err)
}

func (k *Linux) explain(what string, a Address, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES) && a.Prefix.Addr().Is4():
		err = fmt.Errorf("%w: it takes CAP_NET_ADMIN; run the agent as root, or give its unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW", ErrNotAllowed)
	case errors.Is(err, unix.EEXIST):
		err = ErrExists
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENETDOWN):
		err = ErrNoLink
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		err = fmt.Errorf("%w: IPv6 is disabled (net.ipv6.conf.*.disable_ipv6): %w", errNoFamily, err)
	}
	return fmt.Errorf("%s %s: %w", what, a.Prefix, err)
}

func linkIndex(i int) netlink.Link { return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: i}} }

func kernelAddr(a Address, flags int) *netlink.Addr {
	ip := a.Prefix.Addr()
	return &netlink.Addr{
		IPNet:    &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(a.Prefix.Bits(), ip.BitLen())},
		Flags:    flags,
		ValidLft: int(a.Lifetime / time.Second),
	}
}
