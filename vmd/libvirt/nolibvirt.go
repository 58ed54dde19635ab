//go:build !cgo || !libvirt_dlopen || nolibvirt

package libvirt

// LibraryVersion returns ErrNoLibvirt.
func LibraryVersion() (string, error) { return "", ErrNoLibvirt }

// Probe returns ErrNoLibvirt.
func Probe(string) (Info, error) { return Info{}, ErrNoLibvirt }
