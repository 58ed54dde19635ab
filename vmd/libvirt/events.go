//go:build cgo && libvirt_dlopen && !nolibvirt

package libvirt

import (
	"sync"
	"time"

	"libvirt.org/go/libvirt"
)

// events is the loop that libvirt needs for events and for keepalive. libvirt has one for the whole process, and it must be
// there before the first connection that uses it: so it is the one thing here that is not of a Hypervisor. It starts with
// the first Open and never ends; with nothing to wait for it sleeps.
var events struct {
	once sync.Once
	err  error
}

func startEvents() error {
	events.once.Do(func() {
		if events.err = libvirt.EventRegisterDefaultImpl(); events.err != nil {
			return
		}
		go func() {
			for {
				if err := libvirt.EventRunDefaultImpl(); err != nil {
					time.Sleep(time.Second) // it is asked again: nothing else could be done, and calls work without it
				}
			}
		}()
	})
	return events.err
}
