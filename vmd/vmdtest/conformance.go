package vmdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"hostmesh/vmd"
	"hostmesh/vmd/plan"
)

// patience bounds how long a hypervisor may take for what it does by itself, on a machine that has more to do.
const patience = 3 * time.Minute

// Box is a hypervisor that a Conformance may use as it likes; domains that are there already are left alone.
type Box struct {
	// Open connects to the box for a mesh; the connection is closed by the suite. All connections see the same domains.
	Open func(t *testing.T, mesh string) vmd.Hypervisor
	// Foreign defines a domain by other means than vmd's, without metadata, and returns its UUID. It goes with the box.
	Foreign func(t *testing.T, name string) string
	// Base makes a raw file of this size that a volume can stand on, and returns its path.
	Base func(t *testing.T, size int64) string
	// Size is the size of a volume that CreateVolume made, and Content what WriteVolume wrote.
	Size    func(t *testing.T, h vmd.Hypervisor, name, path string) int64
	Content func(t *testing.T, h vmd.Hypervisor, name, path string) []byte
	// Guest is a domain that boots and heeds its power button: what it lives in, without a name, UUID, mesh, disk and interface.
	Guest plan.Domain
	// Bridge is one that an interface can be connected to; "" = there is none.
	Bridge string
	// Lacks is what this hypervisor cannot do, with the reason for people. The suite then asserts what it does instead.
	Lacks map[Ability]string
}

// Ability is something that a hypervisor may lack.
type Ability string

// What may be lacked, and what the suite asserts instead.
const (
	// Growth lacking: CreateVolume of a volume that is there and smaller returns ErrUnsupported.
	Growth Ability = "growth"
	// Files lacking: disks and bridges are names only; a domain starts without them.
	Files Ability = "files"
)

type suite struct {
	box *Box
	h   vmd.Hypervisor
}

func (s *suite) lacks(a Ability) bool { return s.box.Lacks[a] != "" }

// Conformance tests the contract of vmd.Hypervisor on a box; each part gets one of its own from newBox, and leaves no
// domain of the mesh Mesh behind.
func Conformance(t *testing.T, newBox func(t *testing.T) *Box) {
	for _, part := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Empty", testEmpty}, {"Define", testDefine}, {"Life", testLife}, {"Redefine", testRedefine}, {"Reboot", testReboot}, {"Names", testNames},
		{"NotOurs", testNotOurs}, {"Unknown", testUnknown}, {"Refused", testRefused}, {"Stats", testStats}, {"CreateVolume", testCreateVolume},
		{"WriteVolume", testWriteVolume}, {"InUse", testInUse}, {"Missing", testMissing}, {"Context", testContext}, {"AtOnce", testAtOnce}, {"Close", testClose},
	} {
		t.Run(part.name, func(t *testing.T) {
			box := newBox(t)
			s := &suite{box: box, h: box.Open(t, Mesh)}
			t.Cleanup(func() {
				if err := s.h.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			part.run(t, s)
			for _, m := range s.list(t) {
				if m.Mesh == Mesh {
					t.Errorf("%s was left behind", m.Name)
				}
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, err, is error, says ...string) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Errorf("%s: got %v, want %v", what, err, is)
		return
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %q does not say %q", what, err, text)
		}
	}
}

// UUID returns the UUID that the suite gives to a name.
func UUID(name string) string {
	var sum uint64 = 14695981039346656037
	for _, c := range []byte(name) {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(sum>>32), uint32(sum))
}

func (s *suite) domain(name string) plan.Domain {
	d := s.box.Guest
	d.Name, d.UUID, d.Mesh = name, UUID(name), Mesh
	return d
}

func (s *suite) list(t *testing.T) []plan.Machine {
	t.Helper()
	list, err := s.h.List(t.Context())
	must(t, err)
	if !slices.IsSortedFunc(list, func(a, b plan.Machine) int { return strings.Compare(a.UUID, b.UUID) }) {
		t.Errorf("the list is not sorted: %v", list)
	}
	return list
}

func (s *suite) get(t *testing.T, uuid string) plan.Machine {
	t.Helper()
	m, err := s.h.Get(t.Context(), uuid)
	must(t, err)
	for _, other := range s.list(t) {
		if other.UUID == uuid && (other.Name != m.Name || other.Mesh != m.Mesh || !slices.Equal(other.Files, m.Files)) {
			t.Errorf("List has %+v, and Get %+v", other, m)
		}
	}
	return m
}

// made defines a domain that is gone when the part ends.
func (s *suite) made(t *testing.T, d plan.Domain) string {
	t.Helper()
	must(t, s.h.Define(t.Context(), d))
	return d.UUID
}

func (s *suite) gone(t *testing.T, uuids ...string) {
	t.Helper()
	for _, uuid := range uuids {
		must(t, s.h.Destroy(t.Context(), uuid))
		must(t, s.h.Undefine(t.Context(), uuid))
	}
}

// until repeats try until the domain is in a state.
func (s *suite) until(t *testing.T, uuid string, state plan.State, try func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if try != nil {
			must(t, try())
		}
		now := s.get(t, uuid).State
		if now == state {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("domain %s is %s, want %s", uuid, now, state)
		}
	}
}

// poked waits for Changed, after drained emptied it.
func poked(t *testing.T, h vmd.Hypervisor, what string) {
	t.Helper()
	select {
	case <-h.Changed():
	case <-time.After(patience):
		t.Errorf("%s: nobody was told", what)
	}
}

func drained(h vmd.Hypervisor) {
	select {
	case <-h.Changed():
	default:
	}
}

func testEmpty(t *testing.T, s *suite) {
	for _, m := range s.list(t) {
		if m.Mesh != "" || m.Version != 0 {
			t.Errorf("%+v is on a new box", m)
		}
	}
	names, err := s.h.Volumes(t.Context())
	must(t, err)
	if len(names) > 0 {
		t.Errorf("volumes %q are on a new box", names)
	}
	host, err := s.h.Host(t.Context())
	must(t, err)
	if host.Hypervisor == "" || host.DomainType == "" || host.CPUs < 1 || host.Memory < 1<<20 || host.DiskSize < host.DiskFree || host.DiskFree < 1 || !slices.IsSorted(host.Bridges) {
		t.Errorf("host %+v", host)
	}
	if s.box.Bridge != "" && !slices.Contains(host.Bridges, s.box.Bridge) {
		t.Errorf("bridges %q have no %q", host.Bridges, s.box.Bridge)
	}
}

func testDefine(t *testing.T, s *suite) {
	d := s.domain("define")
	disk, err := s.h.CreateVolume(t.Context(), "define.qcow2", "", "", 1<<20)
	must(t, err)
	seed, err := s.h.WriteVolume(t.Context(), "define.iso", strings.NewReader("seed"), 4)
	must(t, err)
	d.Disk, d.Seed, d.CPUs = disk, seed, 2
	d.Memory = max(d.Memory, 64<<20) + 1 // what is no whole KiB is not given up
	if s.box.Bridge != "" {
		d.Bridge, d.MAC = s.box.Bridge, net.HardwareAddr{0x52, 1, 2, 3, 4, 5}
	}
	drained(s.h)
	s.made(t, d)
	poked(t, s.h, "define")
	files := slices.DeleteFunc([]string{d.Disk, d.Seed, d.Kernel, d.Initrd}, func(p string) bool { return p == "" })
	slices.Sort(files)
	m := s.get(t, d.UUID)
	if m.Name != d.Name || m.UUID != d.UUID || m.Mesh != Mesh || m.Version != vmd.MetadataVersion || m.State != plan.Off || m.CPUs != 2 || m.Memory < d.Memory || m.Memory > d.Memory+1<<20 || !slices.Equal(m.Files, files) {
		t.Errorf("defined %+v, got %+v", d, m)
	}
	must(t, s.h.Define(t.Context(), d)) // again
	d.CPUs, d.Memory, d.Seed = 1, 128<<20, ""
	must(t, s.h.Define(t.Context(), d))
	if m = s.get(t, d.UUID); m.CPUs != 1 || m.Memory != 128<<20 || m.UUID != d.UUID || slices.Contains(m.Files, seed) {
		t.Errorf("redefined %+v, got %+v", d, m)
	}
	renamed := d
	renamed.Name = "define-other"
	want(t, "another name", s.h.Define(t.Context(), renamed), vmd.ErrRefused, `"define"`)
	must(t, s.h.Undefine(t.Context(), d.UUID))
	must(t, s.h.Undefine(t.Context(), d.UUID))
	_, err = s.h.Get(t.Context(), d.UUID)
	want(t, "get", err, vmd.ErrNoDomain)
	names, err := s.h.Volumes(t.Context()) // they stay
	must(t, err)
	if !slices.Equal(names, []string{"define.iso", "define.qcow2"}) {
		t.Errorf("volumes %q", names)
	}
}

func testLife(t *testing.T, s *suite) {
	uuid := s.made(t, s.domain("life"))
	must(t, s.h.Shutdown(t.Context(), uuid)) // it is off
	must(t, s.h.Destroy(t.Context(), uuid))
	drained(s.h)
	must(t, s.h.Start(t.Context(), uuid))
	poked(t, s.h, "start")
	s.until(t, uuid, plan.Running, nil)
	must(t, s.h.Start(t.Context(), uuid))
	want(t, "undefine what runs", s.h.Undefine(t.Context(), uuid), vmd.ErrRefused, "destroy")
	must(t, s.h.Destroy(t.Context(), uuid))
	s.until(t, uuid, plan.Off, nil)
	must(t, s.h.Destroy(t.Context(), uuid))

	must(t, s.h.Start(t.Context(), uuid))
	// A press that comes before the guest hears it is lost, so it is pressed again.
	s.until(t, uuid, plan.Off, func() error { return s.h.Shutdown(t.Context(), uuid) })
	must(t, s.h.Undefine(t.Context(), uuid))
}

func testRedefine(t *testing.T, s *suite) {
	d := s.domain("redefine")
	uuid := s.made(t, d)
	must(t, s.h.Start(t.Context(), uuid))
	before := s.get(t, uuid)
	disk, err := s.h.CreateVolume(t.Context(), "later.qcow2", "", "", 1<<20)
	must(t, err)
	d.CPUs, d.Disk = before.CPUs+1, disk
	must(t, s.h.Define(t.Context(), d))
	m := s.get(t, uuid)
	if m.State != plan.Running || m.CPUs != before.CPUs {
		t.Errorf("a running domain changed to %+v", m)
	}
	if !slices.Contains(m.Files, disk) {
		t.Errorf("files %q lack what it has at its next start", m.Files)
	}
	must(t, s.h.Destroy(t.Context(), uuid))
	must(t, s.h.Start(t.Context(), uuid))
	if m = s.get(t, uuid); m.CPUs != before.CPUs+1 {
		t.Errorf("after its next start it has %d CPUs, want %d", m.CPUs, before.CPUs+1)
	}
	s.gone(t, uuid)
}

func testReboot(t *testing.T, s *suite) {
	uuid := s.made(t, s.domain("reboot"))
	for _, hard := range []bool{false, true} {
		want(t, "reboot what is off", s.h.Reboot(t.Context(), uuid, hard), vmd.ErrRefused, "start it")
	}
	must(t, s.h.Start(t.Context(), uuid))
	must(t, s.h.Reboot(t.Context(), uuid, false))
	s.until(t, uuid, plan.Running, nil)
	must(t, s.h.Reboot(t.Context(), uuid, true))
	s.until(t, uuid, plan.Running, nil)
	s.gone(t, uuid)
}

func (s *suite) other(t *testing.T) vmd.Hypervisor {
	t.Helper()
	other := s.box.Open(t, "another-mesh")
	t.Cleanup(func() { must(t, other.Close()) })
	return other
}

func testNames(t *testing.T, s *suite) {
	ours := s.domain("ours")
	s.made(t, ours)
	foreign := s.box.Foreign(t, "foreign")
	other := s.other(t)
	theirs := s.domain("theirs")
	theirs.Mesh = "another-mesh"
	must(t, other.Define(t.Context(), theirs))
	for name, owner := range map[string]string{"ours": ours.UUID, "foreign": foreign, "theirs": theirs.UUID} {
		d := s.domain("second")
		d.Name = name
		want(t, name, s.h.Define(t.Context(), d), vmd.ErrRefused, name, owner)
		_, err := s.h.Get(t.Context(), d.UUID)
		want(t, "the second "+name, err, vmd.ErrNoDomain)
	}
	must(t, other.Undefine(t.Context(), theirs.UUID))
	s.gone(t, ours.UUID)
}

func testNotOurs(t *testing.T, s *suite) {
	foreign := s.box.Foreign(t, "foreign")
	other := s.other(t)
	theirs := s.domain("theirs")
	theirs.Mesh = "another-mesh"
	must(t, other.Define(t.Context(), theirs))
	must(t, other.Start(t.Context(), theirs.UUID))
	if m := s.get(t, foreign); m.Mesh != "" || m.Version != 0 || m.Name != "foreign" {
		t.Errorf("a foreign domain is %+v", m)
	}
	if m := s.get(t, theirs.UUID); m.Mesh != "another-mesh" {
		t.Errorf("a domain of another mesh is %+v", m)
	}
	for _, uuid := range []string{foreign, theirs.UUID} {
		before := s.get(t, uuid)
		d := s.domain(before.Name)
		d.UUID = uuid
		want(t, "define", s.h.Define(t.Context(), d), vmd.ErrNotOurs, before.Name)
		want(t, "start", s.h.Start(t.Context(), uuid), vmd.ErrNotOurs)
		want(t, "shut down", s.h.Shutdown(t.Context(), uuid), vmd.ErrNotOurs)
		want(t, "destroy", s.h.Destroy(t.Context(), uuid), vmd.ErrNotOurs)
		want(t, "undefine", s.h.Undefine(t.Context(), uuid), vmd.ErrNotOurs)
		want(t, "reboot", s.h.Reboot(t.Context(), uuid, false), vmd.ErrNotOurs)
		want(t, "reset", s.h.Reboot(t.Context(), uuid, true), vmd.ErrNotOurs)
		if after := s.get(t, uuid); after.State != before.State || after.Mesh != before.Mesh {
			t.Errorf("%+v became %+v", before, after)
		}
	}
	must(t, other.Destroy(t.Context(), theirs.UUID))
	must(t, other.Undefine(t.Context(), theirs.UUID))
}

func testUnknown(t *testing.T, s *suite) {
	for _, uuid := range []string{UUID("nobody"), "nobody"} {
		_, err := s.h.Get(t.Context(), uuid)
		want(t, "get", err, vmd.ErrNoDomain)
		_, err = s.h.Stats(t.Context(), uuid)
		want(t, "count", err, vmd.ErrNoDomain)
		want(t, "start", s.h.Start(t.Context(), uuid), vmd.ErrNoDomain)
		want(t, "shut down", s.h.Shutdown(t.Context(), uuid), vmd.ErrNoDomain)
		want(t, "destroy", s.h.Destroy(t.Context(), uuid), vmd.ErrNoDomain)
		want(t, "reboot", s.h.Reboot(t.Context(), uuid, false), vmd.ErrNoDomain)
		must(t, s.h.Undefine(t.Context(), uuid))
	}
	must(t, s.h.DeleteVolume(t.Context(), "nothing.qcow2"))
}

func testRefused(t *testing.T, s *suite) {
	for what, change := range map[string]func(*plan.Domain){
		"no CPU":       func(d *plan.Domain) { d.CPUs = 0 },
		"another mesh": func(d *plan.Domain) { d.Mesh = "another-mesh" },
		"no UUID":      func(d *plan.Domain) { d.UUID = "" },
		"a path":       func(d *plan.Domain) { d.Name = "a/b" },
	} {
		d := s.domain("refused")
		change(&d)
		want(t, what, s.h.Define(t.Context(), d), vmd.ErrRefused)
	}
	_, err := s.h.Get(t.Context(), UUID("refused"))
	want(t, "what was refused", err, vmd.ErrNoDomain)
}

func testStats(t *testing.T, s *suite) {
	d := s.domain("stats")
	uuid := s.made(t, d)
	_, err := s.h.Stats(t.Context(), uuid)
	want(t, "count what is off", err, vmd.ErrRefused)
	must(t, s.h.Start(t.Context(), uuid))
	st, err := s.h.Stats(t.Context(), uuid)
	if err != nil || st.Memory < 1 || st.CPUTime < 0 {
		t.Errorf("got %+v, %v", st, err)
	}
	s.gone(t, uuid)
}

func testCreateVolume(t *testing.T, s *suite) {
	ctx := t.Context()
	base := s.box.Base(t, 3<<20)
	size := func(name, path string, want int64) {
		t.Helper()
		if got := s.box.Size(t, s.h, name, path); got != want {
			t.Errorf("%s has %d bytes, want %d", name, got, want)
		}
	}
	path, err := s.h.CreateVolume(ctx, "a.qcow2", base, "raw", 10<<20)
	must(t, err)
	size("a.qcow2", path, 10<<20)
	grown := int64(20 << 20)
	_, err = s.h.CreateVolume(ctx, "a.qcow2", base, "raw", grown)
	if s.lacks(Growth) {
		want(t, "grow", err, vmd.ErrUnsupported)
		grown = 10 << 20
	} else {
		must(t, err)
	}
	size("a.qcow2", path, grown)
	again, err := s.h.CreateVolume(ctx, "a.qcow2", base, "raw", 5<<20) // never less
	must(t, err)
	size("a.qcow2", path, grown)
	if again != path {
		t.Errorf("its path was %s and is %s", path, again)
	}
	path, err = s.h.CreateVolume(ctx, "b.qcow2", base, "raw", 0)
	must(t, err)
	size("b.qcow2", path, 3<<20)
	_, err = s.h.CreateVolume(ctx, "c.qcow2", base+"-missing", "raw", 1<<20)
	want(t, "without its base", err, fs.ErrNotExist, "-missing")
	for what, v := range map[string][3]string{"a path": {"../x", base, "raw"}, "hidden": {".x", base, "raw"}, "no format": {"x", base, ""}, "a relative base": {"x", "y", "raw"}} {
		_, err = s.h.CreateVolume(ctx, v[0], v[1], v[2], 1<<20)
		want(t, what, err, vmd.ErrRefused)
	}
	names, err := s.h.Volumes(ctx)
	must(t, err)
	if !slices.Equal(names, []string{"a.qcow2", "b.qcow2"}) {
		t.Errorf("volumes %q", names)
	}
	for _, name := range []string{"a.qcow2", "a.qcow2", "b.qcow2"} {
		must(t, s.h.DeleteVolume(ctx, name))
	}
	if names, err = s.h.Volumes(ctx); err != nil || len(names) > 0 {
		t.Errorf("volumes %q, %v after all were deleted", names, err)
	}
}

func testWriteVolume(t *testing.T, s *suite) {
	ctx := t.Context()
	old, young := bytes.Repeat([]byte("old "), 100_000), bytes.Repeat([]byte("young"), 50_000)
	var path string
	holds := func(what string, want []byte) {
		t.Helper()
		if got := s.box.Content(t, s.h, "seed.iso", path); !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes that begin with %.10q, want %d with %.10q", what, len(got), got, len(want), want)
		}
		names, err := s.h.Volumes(ctx)
		if err != nil || !slices.Equal(names, []string{"seed.iso"}) {
			t.Errorf("%s: volumes %q, %v", what, names, err)
		}
	}
	broken := errors.New("the line broke")
	if _, err := s.h.WriteVolume(ctx, "seed.iso", iotest.ErrReader(broken), 10); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if names, err := s.h.Volumes(ctx); err != nil || len(names) > 0 {
		t.Errorf("volumes %q, %v of what broke off", names, err)
	}
	path, err := s.h.WriteVolume(ctx, "seed.iso", bytes.NewReader(old), int64(len(old)))
	must(t, err)
	holds("written", old)
	for what, size := range map[string]int64{"too short": int64(len(young)) + 1, "too long": int64(len(young)) - 1} {
		if _, err := s.h.WriteVolume(ctx, "seed.iso", bytes.NewReader(young), size); err == nil || !strings.Contains(err.Error(), "bytes") {
			t.Errorf("%s: got %v", what, err)
		}
		holds(what, old)
	}
	_, err = s.h.WriteVolume(ctx, "seed.iso", bytes.NewReader(young), int64(len(young)))
	must(t, err)
	holds("written again", young)
	must(t, s.h.DeleteVolume(ctx, "seed.iso"))
}

func testInUse(t *testing.T, s *suite) {
	d := s.domain("in-use")
	var err error
	d.Disk, err = s.h.CreateVolume(t.Context(), "in-use.qcow2", "", "", 2<<20)
	must(t, err)
	uuid := s.made(t, d)
	must(t, s.h.Start(t.Context(), uuid))
	want(t, "delete what runs", s.h.DeleteVolume(t.Context(), "in-use.qcow2"), vmd.ErrRefused, uuid)
	path, err := s.h.CreateVolume(t.Context(), "in-use.qcow2", "", "", 4<<20) // grown beneath it
	if s.lacks(Growth) {
		want(t, "grow", err, vmd.ErrUnsupported)
	} else {
		must(t, err)
		if got := s.box.Size(t, s.h, "in-use.qcow2", path); got != 4<<20 {
			t.Errorf("%d bytes after it was grown to %d", got, 4<<20)
		}
	}
	s.gone(t, uuid)
	must(t, s.h.DeleteVolume(t.Context(), "in-use.qcow2"))
}

func testMissing(t *testing.T, s *suite) {
	for what, change := range map[string]func(*plan.Domain){
		"disk":   func(d *plan.Domain) { d.Disk = "/nowhere/missing.qcow2" },
		"seed":   func(d *plan.Domain) { d.Seed = "/nowhere/missing.iso" },
		"bridge": func(d *plan.Domain) { d.Bridge, d.MAC = "missing0", net.HardwareAddr{0x52, 1, 2, 3, 4, 5} },
	} {
		d := s.domain("missing")
		change(&d)
		uuid := s.made(t, d)
		err := s.h.Start(t.Context(), uuid)
		if s.lacks(Files) {
			must(t, err)
		} else {
			if err == nil || !strings.Contains(err.Error(), "missing") {
				t.Errorf("%s: got %v", what, err)
			}
			if m := s.get(t, uuid); m.State != plan.Off {
				t.Errorf("%s: it is %s", what, m.State)
			}
		}
		s.gone(t, uuid)
	}
}

func testContext(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := s.domain("context")
	for what, err := range map[string]error{
		"define": s.h.Define(ctx, d), "start": s.h.Start(ctx, d.UUID), "shut down": s.h.Shutdown(ctx, d.UUID), "destroy": s.h.Destroy(ctx, d.UUID),
		"undefine": s.h.Undefine(ctx, d.UUID), "reboot": s.h.Reboot(ctx, d.UUID, false), "delete": s.h.DeleteVolume(ctx, "a"),
		"list": second(s.h.List(ctx)), "get": second(s.h.Get(ctx, d.UUID)), "count": second(s.h.Stats(ctx, d.UUID)), "volumes": second(s.h.Volumes(ctx)),
		"host": second(s.h.Host(ctx)), "create": second(s.h.CreateVolume(ctx, "a", "", "", 1)), "write": second(s.h.WriteVolume(ctx, "a", strings.NewReader("a"), 1)),
	} {
		want(t, what, err, context.Canceled)
	}
	if names, err := s.h.Volumes(t.Context()); err != nil || len(names) > 0 {
		t.Errorf("volumes %q, %v", names, err)
	}
}

func second[T any](_ T, err error) error { return err }

func testAtOnce(t *testing.T, s *suite) {
	var wg sync.WaitGroup
	for i := range 6 {
		d := s.domain(fmt.Sprintf("at-once-%d", i/2)) // two for each
		volume := fmt.Sprintf("at-once-%d.qcow2", i/2)
		wg.Go(func() {
			for _, err := range []error{s.h.Define(t.Context(), d), second(s.h.CreateVolume(t.Context(), volume, "", "", 1<<20)),
				second(s.h.List(t.Context())), s.h.Start(t.Context(), d.UUID), second(s.h.Volumes(t.Context()))} {
				if err != nil {
					t.Errorf("%s: %v", d.Name, err)
				}
			}
		})
	}
	wg.Wait()
	for i := range 3 {
		uuid := UUID(fmt.Sprintf("at-once-%d", i))
		if m := s.get(t, uuid); m.State != plan.Running {
			t.Errorf("%s is %s", m.Name, m.State)
		}
		wg.Go(func() { s.gone(t, uuid) })
	}
	wg.Wait()
}

func testClose(t *testing.T, s *suite) {
	uuid := s.made(t, s.domain("close"))
	must(t, s.h.Start(t.Context(), uuid))
	second := s.box.Open(t, Mesh) // as after a restart of the agent
	must(t, second.Close())
	must(t, second.Close())
	if _, err := second.List(t.Context()); err == nil || errors.Is(err, vmd.ErrAway) {
		t.Errorf("a closed connection: %v", err)
	}
	if m := s.get(t, uuid); m.State != plan.Running {
		t.Errorf("it is %s after a connection was closed", m.State)
	}
	s.gone(t, uuid)
}
