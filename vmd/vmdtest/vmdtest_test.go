package vmdtest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"

	"hostmesh/vmd"
	"hostmesh/vmd/plan"
)

func TestConformance(t *testing.T) {
	Conformance(t, func(t *testing.T) *Box {
		h := New()
		h.AddFile("/boot/guest", 1)
		return &Box{
			Open: func(_ *testing.T, mesh string) vmd.Hypervisor { return h.As(mesh) },
			Foreign: func(_ *testing.T, name string) string {
				h.AddForeign(plan.Domain{Name: name, UUID: UUID(name), CPUs: 1, Memory: 1 << 20}, plan.Running)
				return UUID(name)
			},
			Base: func(t *testing.T, size int64) string {
				path := "/bases/" + t.Name()
				h.AddFile(path, size)
				return path
			},
			Size: func(t *testing.T, of vmd.Hypervisor, name, _ string) int64 {
				size, ok := of.(*Hypervisor).Size(name)
				if !ok {
					t.Fatalf("no volume %s", name)
				}
				return size
			},
			Content: func(_ *testing.T, of vmd.Hypervisor, name, _ string) []byte {
				content, _ := of.(*Hypervisor).Content(name)
				return content
			},
			Guest:  plan.Domain{CPUs: 1, Memory: 64 << 20, Kernel: "/boot/guest"},
			Bridge: "br0",
		}
	})
}

var guest = plan.Domain{Name: "web7", UUID: UUID("web7"), Mesh: Mesh, CPUs: 1, Memory: 64 << 20, Kernel: "/boot/guest"}

func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	h := New()
	h.AddFile("/boot/guest", 1)
	h.Inject(&Fault{Method: "Define", Call: 2, Err: boom})
	for i, want := range []error{nil, boom, nil} {
		if err := h.Define(t.Context(), guest); !errors.Is(err, want) {
			t.Errorf("define %d: got %v, want %v", i, err, want)
		}
	}

	h.Inject(&Fault{Method: "Start", What: guest.UUID, Err: vmd.ErrAway, After: true})
	if err := h.Start(t.Context(), guest.UUID); !errors.Is(err, vmd.ErrAway) {
		t.Errorf("got %v", err)
	}
	if m, err := h.Get(t.Context(), guest.UUID); err != nil || m.State != plan.Running {
		t.Errorf("the answer was lost, and the work done: %+v, %v", m, err)
	}

	h.Inject(&Fault{Times: -1, Err: boom})
	if _, err := h.Host(t.Context()); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	h.Clear()
	h.Inject(&Fault{Method: "Destroy", Do: func() { h.Crash(guest.UUID) }, Err: boom})
	if err := h.Destroy(t.Context(), guest.UUID); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if m, err := h.Get(t.Context(), guest.UUID); err != nil || m.State != plan.Crashed {
		t.Errorf("got %+v, %v", m, err)
	}
	if got := h.Count()["Define"]; got != 3 {
		t.Errorf("%d defines were counted", got)
	}
	if calls := h.Calls(); calls[0] != (Call{"Define", guest.UUID}) {
		t.Errorf("first call %+v", calls[0])
	}
}

func TestHang(t *testing.T) {
	h := New()
	f := h.Inject(&Fault{Method: "List", Hang: true, Times: -1})
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan struct{})
	h.Inject(&Fault{Method: "Host", Do: func() { close(entered) }})
	var wg sync.WaitGroup
	wg.Go(func() {
		<-entered
		cancel()
	})
	if _, err := h.Host(ctx); err != nil {
		t.Error(err)
	}
	if _, err := h.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wg.Go(f.Release)
	if _, err := h.List(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestVanish(t *testing.T) {
	h := New()
	h.AddFile("/boot/guest", 1)
	must(t, h.Define(t.Context(), guest))
	must(t, h.Start(t.Context(), guest.UUID))
	drained(h)
	h.Vanish()
	poked(t, h, "vanish")
	_, err := h.List(t.Context())
	want(t, "list", err, vmd.ErrAway)
	h.Return()
	poked(t, h, "return")
	if m, err := h.Get(t.Context(), guest.UUID); err != nil || m.State != plan.Running {
		t.Errorf("it went on without it: %+v, %v", m, err)
	}
	h.Reset()
	if m, err := h.As(Mesh).Get(t.Context(), guest.UUID); err != nil || m.State != plan.Off {
		t.Errorf("after a power cut: %+v, %v", m, err)
	}
}

func TestGuestThatIsDeafOrPaused(t *testing.T) {
	h := New()
	h.AddFile("/boot/guest", 1)
	must(t, h.Define(t.Context(), guest))
	must(t, h.Start(t.Context(), guest.UUID))
	h.Deaf(guest.UUID, true)
	must(t, h.Shutdown(t.Context(), guest.UUID))
	must(t, h.Reboot(t.Context(), guest.UUID, false))
	if m, _ := h.Get(t.Context(), guest.UUID); m.State != plan.Running || h.Starts(guest.UUID) != 1 {
		t.Errorf("a deaf guest is %s after %d starts", m.State, h.Starts(guest.UUID))
	}
	h.Pause(guest.UUID)
	must(t, h.Start(t.Context(), guest.UUID))
	h.SetStats(guest.UUID, vmd.Stats{DiskRead: 7})
	if s, err := h.Stats(t.Context(), guest.UUID); err != nil || s.DiskRead != 7 {
		t.Errorf("got %+v, %v", s, err)
	}
	h.PowerOff(guest.UUID)
	if d, ok := h.Defined(guest.UUID); !ok || d.Kernel != guest.Kernel {
		t.Errorf("got %+v, %t", d, ok)
	}
}

func TestFullDisk(t *testing.T) {
	h := New()
	host, err := h.Host(t.Context())
	must(t, err)
	host.DiskFree = 12
	h.SetHost(host)
	if _, err := h.WriteVolume(t.Context(), "a", strings.NewReader("1234567890123"), 13); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	for range 2 { // while it is written the old one is still there
		if _, err := h.WriteVolume(t.Context(), "a", strings.NewReader("123456"), 6); err != nil {
			t.Error(err)
		}
	}
	must(t, h.DeleteVolume(t.Context(), "a"))
	if host, _ = h.Host(t.Context()); host.DiskFree != 12 {
		t.Errorf("%d bytes are free", host.DiskFree)
	}
}
