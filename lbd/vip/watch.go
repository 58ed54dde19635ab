package vip

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Watch implements Kernel.
func (k *Linux) Watch() (<-chan struct{}, func(), error) {
	var fd int
	err := k.ns.in(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("watch addresses: %w", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("watch addresses: %w", err), unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "netlink")
	changed, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(changed)
		buf := make([]byte, 1<<16)
		for {
			n, err := f.Read(buf)
			if err != nil && !errors.Is(err, unix.ENOBUFS) { // some were lost: then all is looked at
				return
			}
			if err == nil && !matters(buf[:n]) {
				continue
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, sync.OnceFunc(func() {
		f.Close()
		<-ended
	}), nil
}

// matters reports whether messages tell of more than of addresses that came or were refreshed: our own, mostly.
func matters(b []byte) bool {
	list, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return true
	}
	for _, m := range list {
		if m.Header.Type != unix.RTM_NEWADDR {
			return true
		}
	}
	return false
}
