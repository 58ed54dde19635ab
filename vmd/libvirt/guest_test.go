//go:build cgo && libvirt_dlopen && !nolibvirt

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hostmesh/integration/guest"
	"hostmesh/integration/libvirtd"
	"hostmesh/vmd"
	"hostmesh/vmd/plan"
	"hostmesh/vmd/vmdtest"
)

// patience bounds what a guest and a daemon may take, on a machine that has more to do.
const patience = 4 * time.Minute

// eventually waits until ask has nothing to say.
func eventually(t testing.TB, ask func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// says waits until a console said something so many times.
func says(t *testing.T, console, text string, times int) {
	t.Helper()
	eventually(t, func() error {
		said, err := os.ReadFile(console)
		if err == nil && strings.Count(string(said), text) < times {
			err = fmt.Errorf("the console said %d times %q, want %d:\n%s", strings.Count(string(said), text), text, times, said)
		}
		return err
	})
}

func isState(ctx context.Context, h vmd.Hypervisor, uuid string, want plan.State) func() error {
	return func() error {
		m, err := h.Get(ctx, uuid)
		if err == nil && m.State != want {
			err = fmt.Errorf("%s is %s, want %s", m.Name, m.State, want)
		}
		return err
	}
}

// run is a command that must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestGuest runs a real machine with an overlay, a CD and an interface through its life.
func TestGuest(t *testing.T) {
	netns := fmt.Sprintf("libvirt-%d", os.Getpid())
	run(t, "ip", "netns", "add", netns)
	t.Cleanup(func() { run(t, "ip", "netns", "del", netns) })
	in := func(args ...string) string { return run(t, "ip", append([]string{"netns", "exec", netns}, args...)...) }
	in("ip", "link", "set", "lo", "up")
	in("ip", "link", "add", "br0", "type", "bridge")
	in("ip", "addr", "add", "10.9.8.1/24", "dev", "br0")
	in("ip", "link", "set", "br0", "up")
	d, err := libvirtd.Start(netns)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	g, dir := build(t), dirFor(t)
	h := open(t, d.URI(), vmdtest.Mesh, dir)
	defer h.Close()
	ctx := t.Context()

	base := filepath.Join(dir, "base.qcow2")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", base, "16M")
	m := machine("web7", g)
	m.Disk, err = h.CreateVolume(ctx, "web7.qcow2", base, "qcow2", 32<<20)
	must(t, err)
	if info := run(t, "qemu-img", "info", m.Disk); !strings.Contains(info, base) || !strings.Contains(info, "backing file format: qcow2") {
		t.Errorf("the overlay is no overlay:\n%s", info)
	}
	seed, meta := filepath.Join(dir, "seed.iso"), filepath.Join(dir, "meta-data")
	must(t, os.WriteFile(meta, []byte("local-hostname: web7\n"), 0o600))
	run(t, "genisoimage", "-quiet", "-volid", "cidata", "-rational-rock", "-output", seed, meta)
	f, err := os.Open(seed)
	must(t, err)
	info, err := f.Stat()
	must(t, err)
	m.Seed, err = h.WriteVolume(ctx, "web7-seed.iso", f, info.Size())
	must(t, err)
	must(t, f.Close())
	m.Console = filepath.Join(dir, "consoles", "web7.log") // the directory is made with the first start
	m.Bridge, m.MAC = "br0", net.HardwareAddr{0x52, 0x10, 0, 0, 0, 7}
	m.Cmdline = guest.Cmdline("web7", "10.9.8.7", "10.9.8.1", "255.255.255.0")
	must(t, h.Define(ctx, m))
	must(t, h.Start(ctx, m.UUID))
	says(t, m.Console, fmt.Sprintf("guest: ready web7 10.9.8.7 disk=%d starts=1 cd=mounted", 32<<20), 1)
	eventually(t, func() error {
		for path, want := range map[string]string{"": "web7 10.9.8.7", "seed/meta-data": "local-hostname: web7"} {
			out, err := exec.Command("ip", "netns", "exec", netns, "curl", "-sS", "-m", "5", "http://10.9.8.7/"+path).CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) {
				return fmt.Errorf("/%s: %q, %w", path, out, err)
			}
		}
		return nil
	})
	eventually(t, func() error {
		s, err := h.Stats(ctx, m.UUID)
		if err == nil && (s.CPUTime <= 0 || s.Memory <= 0 || s.DiskRead <= 0 || s.DiskWritten <= 0 || s.NetReceived <= 0 || s.NetSent <= 0) {
			err = fmt.Errorf("counted %+v", s)
		}
		return err
	})

	says(t, m.Console, "guest: button /dev", 1)
	must(t, h.Reboot(ctx, m.UUID, false)) // by its button
	says(t, m.Console, "guest: power button", 1)
	says(t, m.Console, "starts=2 ", 1)
	says(t, m.Console, "guest: button /dev", 2)
	must(t, h.Reboot(ctx, m.UUID, true)) // it is not asked
	says(t, m.Console, "starts=3 ", 1)
	says(t, m.Console, "guest: button /dev", 3)

	grown, err := h.CreateVolume(ctx, "web7.qcow2", base, "qcow2", 64<<20)
	must(t, err)
	if grown != m.Disk {
		t.Errorf("grown %s, want %s", grown, m.Disk)
	}
	must(t, h.Destroy(ctx, m.UUID))
	must(t, h.Start(ctx, m.UUID))
	says(t, m.Console, fmt.Sprintf("disk=%d starts=4 ", 64<<20), 1) // and what it had said before is there still
	says(t, m.Console, "guest: button /dev", 4)
	if _, err := d.Virsh(ctx, "suspend", "web7"); err != nil {
		t.Fatal(err)
	}
	must(t, isState(ctx, h, m.UUID, plan.Paused)())
	must(t, h.Start(ctx, m.UUID))
	must(t, isState(ctx, h, m.UUID, plan.Running)())
	if tty, err := d.Virsh(ctx, "ttyconsole", "web7"); err != nil || !strings.HasPrefix(tty, "/dev/pts/") { // virsh console works
		t.Errorf("its console cannot be spoken to: %q, %v", tty, err)
	}
	must(t, h.Shutdown(ctx, m.UUID))
	eventually(t, isState(ctx, h, m.UUID, plan.Off))
	says(t, m.Console, "guest: power button", 2)

	must(t, h.Undefine(ctx, m.UUID))
	for _, name := range []string{"web7.qcow2", "web7-seed.iso"} {
		must(t, h.DeleteVolume(ctx, name))
	}
	if all, err := d.Virsh(ctx, "list", "--all", "--name"); err != nil || strings.TrimSpace(all) != "" {
		t.Errorf("left are %q, %v", all, err)
	}
	if left, err := filepath.Glob(filepath.Join(h.cfg.Dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left are %q, %v", left, err)
	}
}

// TestDaemonKilled kills libvirtd at moments of a definition and a start, and starts it again: what there is must be
// whole, the machine that runs goes on, and trying again leads to the end.
func TestDaemonKilled(t *testing.T) {
	d, g, dir := daemon(t), build(t), dirFor(t)
	h := open(t, d.URI(), vmdtest.Mesh, dir)
	defer h.Close()
	ctx := t.Context()

	lives := machine("lives", g)
	lives.Console = filepath.Join(dir, "lives.log")
	must(t, h.Define(ctx, lives))
	must(t, h.Start(ctx, lives.UUID))

	for i, after := range []time.Duration{0, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond} {
		m := machine(fmt.Sprintf("killed-%d", i), g)
		var err error
		m.Disk, err = h.CreateVolume(ctx, m.Name+".qcow2", "", "", 1<<20)
		must(t, err)
		tried := make(chan error, 1)
		go func() {
			err := h.Define(ctx, m)
			if err == nil {
				err = h.Start(ctx, m.UUID)
			}
			tried <- err
		}()
		var others sync.WaitGroup
		for range 3 { // the library shares a connection among those who wait
			others.Go(func() {
				for {
					if _, err := h.List(ctx); err != nil {
						if !errors.Is(err, vmd.ErrAway) {
							t.Errorf("list: got %v, want ErrAway", err)
						}
						return
					}
				}
			})
		}
		time.Sleep(after) // any moment will do
		must(t, d.Kill())
		others.Wait()
		if err := <-tried; err != nil && !errors.Is(err, vmd.ErrAway) {
			t.Errorf("killed after %s: got %v, want ErrAway", after, err)
		}
		eventually(t, func() error {
			if _, err := h.List(ctx); !errors.Is(err, vmd.ErrAway) {
				return fmt.Errorf("without a daemon: got %w, want ErrAway", err)
			}
			return nil
		})
		for len(h.Changed()) > 0 {
			<-h.Changed()
		}
		must(t, d.Restart())
		select {
		case <-h.Changed(): // it is back
		case <-time.After(patience):
			t.Fatal("nobody was told that the daemon is back")
		}
		eventually(t, func() error { _, err := h.List(ctx); return err })
		must(t, isState(ctx, h, lives.UUID, plan.Running)())

		// The next reconcile: look, then do.
		must(t, h.Define(ctx, m))
		must(t, h.Start(ctx, m.UUID))
		must(t, isState(ctx, h, m.UUID, plan.Running)())
		list, err := h.List(ctx)
		must(t, err)
		if n := len(slices.DeleteFunc(list, func(x plan.Machine) bool { return x.Mesh != vmdtest.Mesh })); n != 2 {
			t.Errorf("there are %d domains, want 2: %+v", n, list)
		}
		must(t, h.Destroy(ctx, m.UUID))
		must(t, h.Undefine(ctx, m.UUID))
		must(t, h.DeleteVolume(ctx, m.Name+".qcow2"))
	}
	says(t, lives.Console, "guest: ready lives", 1) // its console is kept all the while
	must(t, h.Destroy(ctx, lives.UUID))
	must(t, h.Undefine(ctx, lives.UUID))
	names, err := h.Volumes(ctx)
	must(t, err)
	if len(names) > 0 {
		t.Errorf("volumes %q are left", names)
	}
}

// TestDaemonHangs stops libvirtd without ending it: no call waits for longer than it may, no more of them are within
// libvirt than may be, and it is found out.
func TestDaemonHangs(t *testing.T) {
	d, dir := daemon(t), dirFor(t)
	limits := DefaultLimits()
	limits.Ping, limits.Silence = 500*time.Millisecond, 2*time.Second
	h, err := Open(Config{URI: d.URI(), Mesh: vmdtest.Mesh, Pool: "hangs", Dir: dir, Limits: limits})
	must(t, err)
	defer h.Close()
	connected(t, h)
	must(t, d.Freeze())
	thaw := sync.OnceFunc(func() { must(t, d.Thaw()) })
	defer thaw()
	most := 0
	for range 3 * limits.Calls {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_, err := h.List(ctx)
		cancel()
		if err == nil {
			t.Error("a daemon that hangs answered")
		}
		now := h.Load()
		if most = max(most, now.Abandoned); now.Calls > limits.Calls || now.Abandoned > limits.Calls {
			t.Errorf("in libvirt are %+v", now)
		}
	}
	if most == 0 {
		t.Error("no call was left alone")
	}
	eventually(t, func() error {
		if _, err := h.List(t.Context()); !errors.Is(err, vmd.ErrAway) {
			return fmt.Errorf("got %w, want ErrAway", err)
		}
		return nil
	})
	thaw()
	connected(t, h)
	eventually(t, func() error { // nothing is kept of those that were left alone
		if l := h.Load(); l != (Hanging{}) {
			return fmt.Errorf("in libvirt are still %+v", l)
		}
		return nil
	})
}

func TestOpenWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	h, err := Open(Config{URI: "qemu:///system?socket=" + filepath.Join(dir, "nobody"), Mesh: "m", Pool: "p", Dir: filepath.Join(dir, "vm")})
	must(t, err) // the agent runs without it
	if _, err := h.List(t.Context()); !errors.Is(err, vmd.ErrAway) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("got %v, want ErrAway with the reason", err)
	}
	must(t, h.Close())
	for what, c := range map[string]Config{"URI": {Mesh: "m", Pool: "p", Dir: "/d"}, "pool": {URI: "u", Mesh: "m", Dir: "/d"}, "absolute": {URI: "u", Mesh: "m", Pool: "p", Dir: "d"}} {
		if _, err := Open(c); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}
