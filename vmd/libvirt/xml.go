package libvirt

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"hostmesh/vmd"
	"hostmesh/vmd/plan"
)

// namespace marks our metadata in a domain's XML. It is an identity and no address.
const namespace = "urn:hostmesh:domain"

// platform is what the XML of a domain depends on besides the domain: what the hypervisor offers.
type platform struct {
	domainType string // kvm, qemu, test
	arch       string // as libvirt names it; "" = its choice
	machine    string // q35, pc, virt; "" = its choice
	direct     bool   // the file system of the volumes can do without the page cache
}

func (p platform) x86() bool { return p.arch == "x86_64" || p.arch == "i686" }

// serverDefaults are what every machine has that nobody asks about: it is a server, and hostmesh watches it.
func serverDefaults(dom *libvirtxml.Domain, p platform) {
	// What stopped is started again by the agent, which counts and slows down; libvirt would do it at once and for ever.
	// A reboot is the guest's own matter.
	dom.OnPoweroff, dom.OnReboot, dom.OnCrash = "destroy", "restart", "destroy"
	if p.domainType == "test" {
		return // it has no hardware to speak of
	}
	switch p.domainType {
	case "kvm":
		// What the processor can, in a form that a like box has too: a machine may move one day.
		dom.CPU = &libvirtxml.DomainCPU{Mode: "host-model", Check: "partial"}
	default:
		// All that can be emulated: distributions begin to ask for more than the emulator's default has.
		dom.CPU = &libvirtxml.DomainCPU{Mode: "maximum", Check: "none", Migratable: "on"}
	}
	dom.Features = &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}} // the power button
	// The hardware clock is UTC. Ticks that a busy box could not deliver are made up for in the clock, and dropped in the
	// old timer; HPET is the most expensive one to emulate, and guests have better.
	dom.Clock = &libvirtxml.DomainClock{Offset: "utc", Timer: []libvirtxml.DomainTimer{{Name: "rtc", TickPolicy: "catchup"}}}
	if p.x86() {
		dom.Features.APIC = &libvirtxml.DomainFeatureAPIC{}
		dom.Clock.Timer = append(dom.Clock.Timer, libvirtxml.DomainTimer{Name: "pit", TickPolicy: "delay"}, libvirtxml.DomainTimer{Name: "hpet", Present: "no"})
		// A server that sleeps is off, and nobody would wake it.
		dom.PM = &libvirtxml.DomainPM{SuspendToMem: &libvirtxml.DomainPMPolicy{Enabled: "no"}, SuspendToDisk: &libvirtxml.DomainPMPolicy{Enabled: "no"}}
		// A kernel that panics says so, and on_crash applies. Without it a panic looks like a machine that runs.
		dom.Devices.Panics = []libvirtxml.DomainPanic{{Model: "isa"}}
	}
	// No screen and no USB: emulating them costs processor time for ever. Where there is no graphics libvirt adds none.
	dom.Devices.Controllers = append(dom.Devices.Controllers, libvirtxml.DomainController{Type: "usb", Model: "none"})
	// Without randomness a first boot waits for it; the agent's channel lets a shutdown be asked for politely; the balloon
	// tells how much memory is really used.
	dom.Devices.RNGs = []libvirtxml.DomainRNG{{Model: "virtio", Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}}}}
	dom.Devices.Channels = []libvirtxml.DomainChannel{{
		Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind"}},
		Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"}},
	}}
	dom.Devices.MemBalloon = &libvirtxml.DomainMemBalloon{Model: "virtio", Stats: &libvirtxml.DomainMemBalloonStats{Period: 10}}
}

// disk is the machine's own: what the guest was told is on disk is there, whatever happens to the box.
func disk(path string, boots bool, p platform) libvirtxml.DomainDisk {
	d := libvirtxml.DomainDisk{
		Device: "disk",
		// Discard gives blocks back that the guest does not use any more. A guest whose disk is full or broken is paused,
		// and goes on when that is mended; an error would leave it with a file system that is read-only.
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "qcow2", Discard: "unmap", ErrorPolicy: "stop"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target: &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"},
	}
	// The guest has a page cache, the box need not have another one of the same. writeback is as safe, and what a file
	// system without direct access (tmpfs) can do.
	d.Driver.Cache = "writeback"
	if p.direct {
		d.Driver.Cache = "none"
	}
	if boots {
		d.Boot = &libvirtxml.DomainDeviceBoot{Order: 1}
	}
	return d
}

// seed is a CD at a virtio controller: kernels made for clouds have no drivers for IDE and SATA.
func seed(path string) (libvirtxml.DomainDisk, libvirtxml.DomainController) {
	index := uint(0)
	return libvirtxml.DomainDisk{
		Device:   "cdrom",
		Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
		Source:   &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}},
		Target:   &libvirtxml.DomainDiskTarget{Dev: "sda", Bus: "scsi"},
		ReadOnly: &libvirtxml.DomainDiskReadOnly{},
	}, libvirtxml.DomainController{Type: "scsi", Index: &index, Model: "virtio-scsi"}
}

// console is a serial port that can be spoken to (virsh console), and whose output is kept in a file besides. The file is
// written by virtlogd, which bounds it: it is turned over at max_size (2 MiB) and max_backups (3) of it are kept, as
// virtlogd.conf says. It is appended to, because what a machine said before it crashed is what one looks for after it was
// started again.
func console(path string) (libvirtxml.DomainSerial, libvirtxml.DomainConsole) {
	port := uint(0)
	s := libvirtxml.DomainSerial{Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}, Target: &libvirtxml.DomainSerialTarget{Port: &port}}
	if path != "" {
		s.Log = &libvirtxml.DomainChardevLog{File: path, Append: "on"}
	}
	return s, libvirtxml.DomainConsole{Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}, Target: &libvirtxml.DomainConsoleTarget{Type: "serial", Port: &port}}
}

// domainXML is what libvirt is given for a domain that vmd.CheckDomain likes.
func domainXML(d plan.Domain, p platform) (string, error) {
	kib := uint((d.Memory + 1023) / 1024)
	meta, err := metadataXML(d)
	if err != nil {
		return "", err
	}
	dom := libvirtxml.Domain{
		Type:          p.domainType,
		Name:          d.Name,
		UUID:          d.UUID,
		Metadata:      &libvirtxml.DomainMetadata{XML: meta},
		Memory:        &libvirtxml.DomainMemory{Value: kib, Unit: "KiB"},
		CurrentMemory: &libvirtxml.DomainCurrentMemory{Value: kib, Unit: "KiB"},
		VCPU:          &libvirtxml.DomainVCPU{Placement: "static", Value: uint(d.CPUs)},
		OS: &libvirtxml.DomainOS{
			Type:   &libvirtxml.DomainOSType{Arch: p.arch, Machine: p.machine, Type: "hvm"},
			Kernel: d.Kernel, Initrd: d.Initrd, Cmdline: d.Cmdline,
		},
		Devices: &libvirtxml.DomainDeviceList{},
	}
	serverDefaults(&dom, p)
	if d.Disk != "" {
		dom.Devices.Disks = append(dom.Devices.Disks, disk(d.Disk, d.Kernel == "", p))
	}
	if d.Seed != "" {
		cd, controller := seed(d.Seed)
		dom.Devices.Disks = append(dom.Devices.Disks, cd)
		dom.Devices.Controllers = append(dom.Devices.Controllers, controller)
	}
	if d.Bridge != "" {
		dom.Devices.Interfaces = []libvirtxml.DomainInterface{{
			MAC:    &libvirtxml.DomainInterfaceMAC{Address: d.MAC.String()},
			Source: &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: d.Bridge}},
			Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			ROM:    &libvirtxml.DomainROM{Enabled: "no"}, // it never boots from the network
		}}
	}
	serial, con := console(d.Console)
	dom.Devices.Serials, dom.Devices.Consoles = []libvirtxml.DomainSerial{serial}, []libvirtxml.DomainConsole{con}
	text, err := dom.Marshal()
	if err != nil {
		return "", fmt.Errorf("write the XML of %s: %w", d.Name, err)
	}
	return text, nil
}

// metadata is the part of a domain's XML that is ours. Fields may be added; what they mean changes with the version.
type metadata struct {
	XMLName xml.Name `xml:"urn:hostmesh:domain machine"`
	Version int      `xml:"version,attr"`
	Mesh    string   `xml:"mesh,attr"`
	Address string   `xml:"address,attr,omitempty"`
}

func metadataXML(d plan.Domain) (string, error) {
	// libvirt wants a prefix on the element, which encoding/xml does not write.
	var out bytes.Buffer
	fmt.Fprintf(&out, `<hostmesh:machine xmlns:hostmesh="%s" version="%d" mesh="`, namespace, vmd.MetadataVersion)
	if err := xml.EscapeText(&out, []byte(d.Mesh)); err != nil {
		return "", fmt.Errorf("write the metadata of %s: %w", d.Name, err)
	}
	if (d.IP != netip.Addr{}) {
		fmt.Fprintf(&out, `" address="%s`, d.IP)
	}
	out.WriteString(`"/>`)
	return out.String(), nil
}

// described is what is read of a domain's XML.
type described struct {
	Name   string   `xml:"name"`
	UUID   string   `xml:"uuid"`
	Ours   metadata `xml:"metadata>machine"` // of the namespace in metadata
	Memory struct {
		Value int64  `xml:",chardata"`
		Unit  string `xml:"unit,attr"`
	} `xml:"memory"`
	VCPU   int    `xml:"vcpu"`
	Kernel string `xml:"os>kernel"`
	Initrd string `xml:"os>initrd"`
	Disks  []struct {
		Source struct {
			File string `xml:"file,attr"`
			Dev  string `xml:"dev,attr"`
		} `xml:"source"`
		Target struct {
			Dev string `xml:"dev,attr"`
		} `xml:"target"`
	} `xml:"devices>disk"`
	Console struct {
		Log struct {
			File string `xml:"file,attr"`
		} `xml:"log"`
	} `xml:"devices>serial"`
}

func describe(text string) (described, error) {
	var d described
	if err := xml.Unmarshal([]byte(text), &d); err != nil {
		return described{}, fmt.Errorf("read a domain's XML: %w", err)
	}
	return d, nil
}

func (d described) files() []string {
	paths := []string{d.Kernel, d.Initrd}
	for _, disk := range d.Disks {
		paths = append(paths, disk.Source.File, disk.Source.Dev)
	}
	slices.Sort(paths)
	return slices.Compact(slices.DeleteFunc(paths, func(p string) bool { return p == "" }))
}

// machine is what a domain is by its XML; its state is asked for elsewhere.
func (d described) machine() plan.Machine {
	m := plan.Machine{Name: d.Name, UUID: strings.ToLower(d.UUID), CPUs: d.VCPU, Memory: d.Memory.Value << 10, Files: d.files()}
	if d.Ours.Mesh != "" {
		m.Mesh, m.Version = d.Ours.Mesh, d.Ours.Version
	}
	return m
}
