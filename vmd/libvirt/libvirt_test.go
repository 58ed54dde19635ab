package libvirt

import (
	"strings"
	"testing"
)

func TestCPUHasKVM(t *testing.T) {
	intel := "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme vmx ssse3\n\nprocessor\t: 1\nflags\t\t: fpu vme vmx ssse3\n"
	amd := "flags\t\t: fpu svm\n"
	guest := "model name\t: has vmx in its name\nflags\t\t: fpu vme svm_lock hypervisor\nvmx flags\t: vnmi\n"
	for _, c := range []struct {
		name, arch, cpuinfo string
		device, want        bool
	}{
		{"intel", "amd64", intel, true, true},
		{"amd", "amd64", amd, true, true},
		{"module not loaded", "amd64", intel, false, false},
		{"a guest without nesting", "amd64", guest, true, false},
		{"nothing to read", "amd64", "", true, false},
		{"arm has no flag", "arm64", "Features\t: fp asimd\n", true, true},
		{"arm without device", "arm64", "Features\t: fp asimd\n", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := CPUHasKVM(c.arch, strings.NewReader(c.cpuinfo), c.device); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

func TestDomainType(t *testing.T) {
	for _, c := range []struct {
		info Info
		want string
	}{
		{Info{DomainTypes: []string{"kvm", "qemu"}, KVM: true}, "kvm"},
		{Info{DomainTypes: []string{"kvm", "qemu"}}, "qemu"},
		{Info{DomainTypes: []string{"kvm", "test"}}, "test"},
		{Info{DomainTypes: []string{"kvm"}}, ""},
		{Info{}, ""},
	} {
		if got := c.info.DomainType(); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.info, got, c.want)
		}
	}
}

func TestVersion(t *testing.T) {
	if got := version(9_010_002); got != "9.10.2" {
		t.Error(got)
	}
}
