package vip

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
)

// Namespace is a network namespace. nil is the one that the calling thread is in.
type Namespace struct{ h netns.NsHandle }

// OpenNamespace opens one that ip netns has a name for.
func OpenNamespace(name string) (*Namespace, error) {
	h, err := netns.GetFromName(name)
	if err != nil {
		return nil, fmt.Errorf("network namespace %q: %w", name, err)
	}
	return &Namespace{h}, nil
}

// Close closes it; what was opened in it stays open. It is idempotent.
func (n *Namespace) Close() error {
	if n == nil || !n.h.IsOpen() {
		return nil
	}
	return n.h.Close()
}

// in runs f on a thread that is in the namespace.
func (n *Namespace) in(f func() error) error {
	if n == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("network namespace: %w", err)
			return // the thread ends
		}
		defer home.Close()
		if err := netns.Set(n.h); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
