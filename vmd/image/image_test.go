package image

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
)

func doc(t *testing.T, yaml string) hostdb.Document {
	t.Helper()
	d, err := hostdb.ParseDocument([]byte(yaml))
	if err != nil {
		t.Fatalf("%s: %v", yaml, err)
	}
	return d
}

var (
	sha1 = strings.Repeat("ab", 32)
	sha2 = strings.Repeat("cd", 32)
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, yaml string
		want       Image
		bad        string // "" = it is good
	}{
		{"qcow2", "{Format: qcow2, Size: 100, SHA256: " + sha1 + ", URL: 'https://x/y', VirtualSize: 2000}",
			Image{Format: QCOW2, Disk: File{sha1, 100, "https://x/y"}, VirtualSize: 2000}, ""},
		{"raw", "{Format: raw, Size: 100, SHA256: " + strings.ToUpper(sha1) + "}", Image{Format: Raw, Disk: File{sha1, 100, ""}, VirtualSize: 100}, ""},
		{"kernel", "{Format: kernel, Kernel: {Size: 1, SHA256: " + sha1 + "}, Initrd: {Size: 2, SHA256: " + sha2 + "}, Cmdline: 'ip={ip}'}",
			Image{Format: Kernel, Kernel: File{sha1, 1, ""}, Initrd: File{sha2, 2, ""}, Cmdline: "ip={ip}"}, ""},
		{"unknown keys", "{Format: raw, Size: 100, SHA256: " + sha1 + ", Sise: 3, Colour: {a: b}}",
			Image{Format: Raw, Disk: File{sha1, 100, ""}, VirtualSize: 100, Unknown: []string{"Colour", "Sise"}}, ""},
		{"no mapping", "[1]", Image{}, "images/x: want a mapping"},
		{"empty", "null", Image{}, "want a mapping"},
		{"no format", "{Size: 100, SHA256: " + sha1 + "}", Image{}, "images/x/Format: is missing"},
		{"other format", "{Format: vmdk, Size: 100, SHA256: " + sha1 + "}", Image{}, `"vmdk" is none; want qcow2, raw or kernel`},
		{"format is a list", "{Format: [raw], Size: 100, SHA256: " + sha1 + "}", Image{}, "images/x/Format: want one value"},
		{"no size", "{Format: raw, SHA256: " + sha1 + "}", Image{}, "Size: is missing"},
		{"size", "{Format: raw, Size: 1GiB, SHA256: " + sha1 + "}", Image{}, "want a number of bytes"},
		{"negative", "{Format: raw, Size: -1, SHA256: " + sha1 + "}", Image{}, "want a number of bytes"},
		{"giant", "{Format: raw, Size: 999999999999999999999, SHA256: " + sha1 + "}", Image{}, "want a number of bytes"},
		{"no sum", "{Format: raw, Size: 1}", Image{}, "SHA256: is missing"},
		{"sum", "{Format: raw, Size: 1, SHA256: abc}", Image{}, "want 64 hex digits"},
		{"path for a sum", "{Format: raw, Size: 1, SHA256: ../../../etc/passwd}", Image{}, "want 64 hex digits"},
		{"file URL", "{Format: raw, Size: 1, SHA256: " + sha1 + ", URL: 'file:///etc/shadow'}", Image{}, "http://"},
		{"password in the URL", "{Format: raw, Size: 1, SHA256: " + sha1 + ", URL: 'https://me:s3cret@x/y'}", Image{}, "everybody could read"},
		{"raw of two sizes", "{Format: raw, Size: 1, VirtualSize: 2, SHA256: " + sha1 + "}", Image{}, "images/x/VirtualSize: 2 is not Size, 1"},
		{"kernel with a disk", "{Format: kernel, SHA256: " + sha1 + ", Kernel: {Size: 1, SHA256: " + sha1 + "}}", Image{}, "images/x/SHA256: an image of the format kernel has no disk"},
		{"kernel without one", "{Format: kernel}", Image{}, "images/x/Kernel: is missing"},
		{"kernel is a text", "{Format: kernel, Kernel: vmlinuz}", Image{}, "images/x/Kernel: want a mapping"},
		{"bad kernel", "{Format: kernel, Kernel: {SHA256: " + sha1 + "}}", Image{}, "images/x/Kernel: Size: is missing"},
		{"initrd alone", "{Format: raw, Size: 1, SHA256: " + sha1 + ", Initrd: {Size: 1, SHA256: " + sha1 + "}}", Image{}, "images/x/Initrd: does nothing without a Kernel"},
		{"command line alone", "{Format: raw, Size: 1, SHA256: " + sha1 + ", Cmdline: quiet}", Image{}, "images/x/Cmdline: does nothing"},
		{"placeholder", "{Format: kernel, Kernel: {Size: 1, SHA256: " + sha1 + "}, Cmdline: 'ip={address}'}", Image{}, "{address} is not known; known are {ip}"},
		{"two lines", "{Format: kernel, Kernel: {Size: 1, SHA256: " + sha1 + "}, Cmdline: \"a\\nb\"}", Image{}, "one line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse("x", doc(t, c.yaml))
			if c.bad != "" {
				if !errors.Is(err, ErrBadImage) || !strings.Contains(err.Error(), c.bad) || strings.Contains(err.Error(), "s3cret") {
					t.Fatalf("got %v, want %q", err, c.bad)
				}
				return
			}
			c.want.Name = "x"
			if err != nil || !equal(got, c.want) {
				t.Fatalf("got %+v, %v\nwant %+v", got, err, c.want)
			}
			got.Unknown = nil
			again, err := Parse("x", got.Document())
			if err != nil || !equal(again, got) {
				t.Errorf("written and read again it is %+v, %v", again, err)
			}
		})
	}
	for _, name := range []string{"", ".x", "-x", "a/b", "a b", strings.Repeat("x", 129)} {
		if _, err := Parse(name, hostdb.Document{}); !errors.Is(err, ErrBadImage) {
			t.Errorf("name %q is taken: %v", name, err)
		}
	}
}

func equal(a, b Image) bool {
	u, v := a.Unknown, b.Unknown
	return slices.Equal(u, v) && a.Name == b.Name && a.Format == b.Format && a.Disk == b.Disk && a.VirtualSize == b.VirtualSize &&
		a.Kernel == b.Kernel && a.Initrd == b.Initrd && a.Cmdline == b.Cmdline
}

// FuzzParse: whatever stands in the catalogue, it is refused with a reason or written back as it was read.
func FuzzParse(f *testing.F) {
	f.Add("x", "{Format: qcow2, Size: 100, SHA256: "+sha1+", URL: 'https://x/y', VirtualSize: 2000}")
	f.Add("k", "{Format: kernel, Kernel: {Size: 1, SHA256: "+sha1+"}, Initrd: {Size: 2, SHA256: "+sha2+"}, Cmdline: 'ip={ip}'}")
	f.Add("x", "{Format: raw, Size: 0x10, SHA256: [a], Kernel: 3}")
	f.Fuzz(func(t *testing.T, name, yaml string) {
		d, err := hostdb.ParseDocument([]byte(yaml))
		if err != nil {
			return
		}
		img, err := Parse(name, d)
		if err != nil {
			if !errors.Is(err, ErrBadImage) {
				t.Fatalf("%v is no ErrBadImage", err)
			}
			return
		}
		for _, file := range img.Files() {
			if !shaForm.MatchString(file.SHA256) || file.Size <= 0 || file.Size > MaxSize {
				t.Fatalf("taken: %+v", file)
			}
		}
		img.Unknown = nil
		again, err := Parse(name, img.Document())
		if err != nil || !equal(again, img) {
			t.Fatalf("read %+v, again %+v, %v", img, again, err)
		}
	})
}

func TestID(t *testing.T) {
	a := Image{Disk: File{SHA256: sha1}}
	b := Image{Kernel: File{SHA256: sha1}, Initrd: File{SHA256: sha2}}
	c := Image{Kernel: File{SHA256: sha2}, Initrd: File{SHA256: sha1}}
	d := Image{Disk: File{SHA256: sha1}, Kernel: File{SHA256: sha2}}
	if a.ID() != sha1 {
		t.Errorf("the ID of one file is %s", a.ID())
	}
	seen := map[string]bool{}
	for _, i := range []Image{a, b, c, d} {
		seen[i.ID()] = true
	}
	if len(seen) != 4 {
		t.Errorf("different images have one ID: %v", seen)
	}
}

func TestCmdline(t *testing.T) {
	full := Values{
		Addr: netip.MustParsePrefix("10.1.2.3/20"), Gateway: netip.MustParseAddr("10.1.0.1"), Hostname: "web7",
		MAC: net.HardwareAddr{0x52, 1, 2, 3, 4, 5}, UUID: "0acfbcca-161e-427c-8423-ef788bb47f00",
	}
	for _, c := range []struct {
		template string
		v        Values
		want     string
		bad      string
	}{
		{"console=ttyS0 ip={ip}::{gateway}:{netmask}:{hostname}:eth0:off", full, "console=ttyS0 ip=10.1.2.3::10.1.0.1:255.255.240.0:web7:eth0:off", ""},
		{"{ip}/{prefix} {mac} {uuid}", full, "10.1.2.3/20 52:01:02:03:04:05 0acfbcca-161e-427c-8423-ef788bb47f00", ""},
		{"ip={ip}::{gateway}:{netmask}:{hostname}", Values{Hostname: "a"}, "ip=::::a", ""},
		{"", full, "", ""},
		{"ip={adress}", full, "", "{adress} is not known"},
		{"ip={ip", full, "", "{ without a }"},
		{"ip=ip}", full, "", "} without a {"},
		{"h={hostname}", Values{Hostname: "a init=/bin/sh"}, "", "' '"},
		{"h={hostname}", Values{Hostname: "a\"b"}, "", "{hostname}"},
		{"h={hostname}", Values{Hostname: "a\nb"}, "", "{hostname}"},
		{"h={uuid}", Values{UUID: "a,b"}, "", "{uuid}"},
		{"h={hostname}", Values{Hostname: "{ip}"}, "", "{hostname}"},
		{strings.Repeat("x", MaxCmdline+1), full, "", "bytes long"},
		{strings.Repeat("x", MaxCmdline-3) + "{ip}", full, "", "bytes long"},
		{"a\tb", full, "", "printable"},
	} {
		got, err := Cmdline(c.template, c.v)
		if c.bad == "" && (err != nil || got != c.want) || c.bad != "" && (err == nil || !strings.Contains(err.Error(), c.bad)) {
			t.Errorf("%q: got %q, %v; want %q, %q", c.template, got, err, c.want, c.bad)
		}
	}
	v6 := Values{Addr: netip.MustParsePrefix("2001:db8::7/64")}
	if got, err := Cmdline("{ip} {netmask}", v6); err != nil || got != "2001:db8::7 ffff:ffff:ffff:ffff::" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRemovable(t *testing.T) {
	now := time.Unix(1e9, 0)
	file := func(sha string, age time.Duration) Stored {
		return Stored{Name: sha, Path: "/images/" + sha, Since: now.Add(-age)}
	}
	a, b, young := file("a", 2*Grace), file("b", 2*Grace), file("c", Grace-1)
	all := []Stored{a, b, young}
	img := func(sha string) Image { return Image{Disk: File{SHA256: sha}} }
	for _, c := range []struct {
		name string
		use  Use
		want []Stored
	}{
		{"nobody", Use{}, []Stored{a, b}},
		{"catalogue", Use{Catalogue: map[string]Image{"x": img("a")}}, []Stored{b}},
		{"kernel of the catalogue", Use{Catalogue: map[string]Image{"x": {Kernel: File{SHA256: "a"}, Initrd: File{SHA256: "b"}}}}, nil},
		{"an entry that cannot be read", Use{Bad: []string{"x"}}, nil},
		{"machine here, by path", Use{Needed: []string{"/images/a"}}, []Stored{b}},
		{"machine here, by sum", Use{Needed: []string{"b"}}, []Stored{a}},
		{"host that wants the name", Use{Images: []string{"x"}, Known: map[string][]string{"x": {"a"}}}, []Stored{b}},
		{"host that wants another name", Use{Images: []string{"y"}, Known: map[string][]string{"x": {"a"}}}, []Stored{a, b}},
		{"name nobody wants", Use{Known: map[string][]string{"x": {"a"}}}, []Stored{a, b}},
		{"fetch", Use{Fetching: []string{"a", "b"}}, nil},
	} {
		if got := Removable(all, c.use, now); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestUnused(t *testing.T) {
	now := time.Unix(1e9, 0)
	const one, two = "0acfbcca-161e-427c-8423-ef788bb47f00", "1acfbcca-161e-427c-8423-ef788bb47f00"
	vol := func(name string, age time.Duration) Stored {
		return Stored{Name: name, Path: "/vm/" + name, Since: now.Add(-age)}
	}
	disk, seed, young := vol(one+".qcow2", 2*Grace), vol(one+"-seed.iso", 2*Grace), vol(two+".qcow2", time.Minute)
	all := []Stored{disk, seed, young, vol("mine.qcow2", 2*Grace), vol(sha1, 2*Grace), vol(strings.ToUpper(one)+".qcow2", 2*Grace)}
	for _, c := range []struct {
		name          string
		files, ledger []string
		want          []Stored
	}{
		{"nobody", nil, nil, []Stored{disk, seed}},
		{"ledger", nil, []string{one}, nil},
		{"other entry of the ledger", nil, []string{two}, []Stored{disk, seed}},
		{"domain", []string{"/vm/" + one + ".qcow2"}, nil, []Stored{seed}},
	} {
		if got := Unused(all, c.files, c.ledger, now); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
