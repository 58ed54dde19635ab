//go:build cgo && libvirt_dlopen && !nolibvirt

package libvirt

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"libvirt.org/go/libvirt"
)

// The driver test:///default lives inside libvirt's client library and needs no daemon. On a box without the library
// the same call must be an error that says what to install; both are right answers of a right program.
func TestProbe(t *testing.T) {
	info, err := Probe("test:///default")
	if errors.Is(err, ErrNotInstalled) {
		if !strings.Contains(err.Error(), "libvirt0") {
			t.Errorf("error does not say what to install: %v", err)
		}
		if _, err := LibraryVersion(); !errors.Is(err, ErrNotInstalled) {
			t.Errorf("second call: got %v, want ErrNotInstalled again", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if info.Driver != "TEST" || info.URI != "test:///default" || info.Hostname == "" || !slices.Contains(info.DomainTypes, "test") || info.KVM {
		t.Errorf("got %+v", info)
	}
	if strings.Count(info.Library, ".") != 2 || strings.HasPrefix(info.Library, "0.") {
		t.Errorf("library version %q", info.Library)
	}
}

func TestProbeAtOnce(t *testing.T) {
	_, want := LibraryVersion()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := Probe("test:///default"); (err == nil) != (want == nil) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
}

func TestProbeErrors(t *testing.T) {
	info, err := Probe("nonsense:///")
	if err == nil || !strings.Contains(err.Error(), `"nonsense:///"`) {
		t.Errorf("got %+v, %v, want an error that names the URI", info, err)
	}
}

func TestClassify(t *testing.T) {
	missing := libvirt.Error{Domain: libvirt.FROM_NONE, Message: "libvirt.so.0: cannot open shared object file: No such file or directory"}
	if err := classify(missing); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("got %v", err)
	}
	refused := libvirt.Error{Domain: libvirt.FROM_RPC, Message: "Failed to connect socket to '/var/run/libvirt/libvirt-sock'"}
	if err := classify(refused); errors.Is(err, ErrNotInstalled) {
		t.Errorf("got %v", err)
	}
}
