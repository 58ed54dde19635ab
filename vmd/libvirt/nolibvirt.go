//go:build !cgo || !libvirt_dlopen || nolibvirt

package libvirt

import "hostmesh/vmd"

// LibraryVersion returns ErrNoLibvirt.
func LibraryVersion() (string, error) { return "", ErrNoLibvirt }

// Probe returns ErrNoLibvirt.
func Probe(string) (Info, error) { return Info{}, ErrNoLibvirt }

// Hypervisor is one that cannot be had in this build.
type Hypervisor struct{ vmd.Hypervisor }

// Open returns ErrNoLibvirt.
func Open(Config) (*Hypervisor, error) { return nil, ErrNoLibvirt }

// Load returns nothing.
func (h *Hypervisor) Load() Hanging { return Hanging{} }

// SetMesh tells the id of the mesh where Open could not.
func (h *Hypervisor) SetMesh(string) {}
