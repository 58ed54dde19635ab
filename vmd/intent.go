package vmd

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/vmd/plan"
)

// What people want of machines is written into HostDB here, and nowhere else: the placer and the boxes act on the entries,
// whoever wrote them. Each function makes its write within one Tx, so that it is one operation, checked against the state
// that it goes on, and refused as a whole.

// NewMachine is a machine that somebody wants.
type NewMachine struct {
	// Name is the host's key; it is also its name in DNS.
	Name string
	// Image is the name of a base image in the catalogue, Subnet of a tag that has the section Subnet.
	Image, Subnet string
	// CPUs are virtual processors; 0 = 1.
	CPUs int
	// Memory and Disk are as HostDB has sizes: 2GiB. Memory "" = 1GiB, Disk "" = the size of the image.
	Memory, Disk string
	// Tags are what it becomes a member of.
	Tags []string
	// IP is an address outside the pool of the subnet; "" = its box gives it one of the pool.
	IP string
	// Protected, Owner and Expires are facts of the host; Expires is a day or an instant.
	Protected bool
	Owner     string
	Expires   string
	// Off enters it without starting it.
	Off bool
}

// Catalog tells of base images.
type Catalog interface {
	// Image is the size of the disk that an image makes, in bytes; 0 where it has none. The error is for people, and wraps
	// hostdb.ErrNotFound for a name that the catalogue does not have.
	Image(db hostdb.View, name string) (disk int64, err error)
}

// Entered is what became of a wish.
type Entered struct {
	Name, UUID string
	// New is false when the same was wished before: nothing was written.
	New bool
}

// wrong is an error that says what cannot be.
func wrong(kind error, format string, args ...any) error {
	return &mistake{fmt.Sprintf(format, args...), kind}
}

type mistake struct {
	text string
	kind error
}

func (m *mistake) Error() string { return m.text }
func (m *mistake) Unwrap() error { return m.kind }

// Create enters a machine. The same wish again changes nothing; another wish under a name that is taken is refused with
// hostdb.ErrExists. What is wrong with a wish is hostdb.ErrInvalid or hostdb.ErrBadName.
func Create(tx *hostdb.Tx, images Catalog, w NewMachine) (Entered, error) {
	if err := checkMachineName(w.Name); err != nil {
		return Entered{}, err
	}
	w.Tags = slices.Compact(slices.Sorted(slices.Values(w.Tags)))
	v := tx.View()
	if item, ok := v.Get(hostdb.Hosts, w.Name); ok {
		return w.again(v, item.Data())
	}
	doc, err := w.document(newUUID())
	if err != nil {
		return Entered{}, err
	}
	if err := w.check(v, images, doc); err != nil {
		return Entered{}, err
	}
	if err := tx.Put(hostdb.Hosts, w.Name, doc); err != nil {
		return Entered{}, err
	}
	for _, tag := range w.Tags {
		if err := tx.AddMember(hostdb.Tags, tag, w.Name); err != nil {
			return Entered{}, err
		}
	}
	return Entered{Name: w.Name, UUID: doc.Text("VM", "UUID"), New: true}, nil
}

// checkMachineName: a machine's key is its name in DNS and within the guest, so what HostDB allows is not enough.
func checkMachineName(name string) error {
	if err := hostdb.CheckName(name); err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return wrong(hostdb.ErrBadName, "name %q cannot be that of a machine: %s", name, fmt.Sprintf(format, args...))
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return bad("it is an address; expected a name as web7 or web7.dc1.example.com")
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return bad("it has an empty label: take out the dot too many")
		case len(label) > 63:
			return bad("%s... has %d characters, and a label of DNS at most 63", label[:20], len(label))
		case label[0] == '-' || label[len(label)-1] == '-':
			return bad("%s begins or ends with a hyphen", label)
		}
		for _, r := range label {
			if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') {
				return bad("%q is not among the lower-case letters, digits, hyphens and dots of a host name", r)
			}
		}
	}
	return nil
}

// document is the host's entry. It is refused where HostDB would only warn: an inventory may be old, a wish is of now.
func (w NewMachine) document(uuid string) (hostdb.Document, error) {
	if w.CPUs == 0 {
		w.CPUs = 1 // written down, so that the entry says what the machine has
	}
	if w.Memory == "" {
		w.Memory = "1GiB"
	}
	vm := map[string]any{"UUID": uuid, "Image": w.Image, "CPUs": w.CPUs, "Memory": w.Memory, "Subnet": w.Subnet}
	if w.Disk != "" {
		vm["Disk"] = w.Disk
	}
	if w.Off {
		vm["Power"] = false
	}
	entry := map[string]any{"VM": vm, "Status": string(section.Active)}
	if w.IP != "" {
		entry["Network"] = map[string]any{"IP": w.IP}
	}
	if w.Protected {
		entry["Protected"] = true
	}
	for key, value := range map[string]string{"Owner": w.Owner, "Expires": w.Expires} {
		if value != "" {
			entry[key] = value
		}
	}
	text, err := json.Marshal(entry)
	if err != nil {
		return hostdb.Document{}, fmt.Errorf("enter %s: %w", w.Name, err)
	}
	doc, err := hostdb.ParseDocument(text)
	if err != nil {
		return hostdb.Document{}, fmt.Errorf("enter %s: %w", w.Name, err)
	}
	if _, problems := section.HostOf(doc); len(problems) > 0 {
		return hostdb.Document{}, &section.InvalidError{ID: hostdb.Hosts + "/" + w.Name, Problems: problems}
	}
	return doc, nil
}

// check holds a new wish against what there is.
func (w NewMachine) check(v hostdb.View, images Catalog, doc hostdb.Document) error {
	host, _ := section.HostOf(doc)
	for _, other := range v.HostsByName(w.Name) {
		return wrong(hostdb.ErrExists, "the name %s is taken: it is a name of hosts/%s (Network/FQDN or cname)", w.Name, other)
	}
	if w.Image == "" {
		return wrong(hostdb.ErrInvalid, "%s: no image is named: say what its disk grows from (--image); hostmesh image list shows what there is", w.Name)
	}
	size, err := images.Image(v, w.Image)
	if err != nil {
		return fmt.Errorf("%s: %w", w.Name, err)
	}
	if d := int64(host.VM.Disk); d > 0 && d < size {
		return wrong(hostdb.ErrInvalid, "%s: a disk of %s is smaller than the image %s: give it at least %s, or leave it out", w.Name, host.VM.Disk, w.Image, section.Size(size))
	}
	subnet, err := plan.SubnetOf(v, w.Subnet)
	if err != nil {
		return wrong(hostdb.ErrInvalid, "%s: %v", w.Name, err)
	}
	for _, tag := range w.Tags {
		if !v.Exists(hostdb.Tags, tag) {
			return wrong(hostdb.ErrInvalid, "%s: tags/%s does not exist%s; make it with hostmesh db set tags/%s", w.Name, tag, didYouMean(tag, slices.Collect(v.Keys(hostdb.Tags))), tag)
		}
	}
	switch ip := host.Network.IP; {
	case !ip.IsValid() && !subnet.Pool.IsValid():
		return wrong(hostdb.ErrInvalid, "%s: tags/%s has no Pool to take an address from: give the machine one (--ip), or the Subnet a Pool", w.Name, w.Subnet)
	case !ip.IsValid():
	case subnet.Pool.IsValid() && subnet.Pool.Contains(ip): // the box could own its block, but that is luck
		return wrong(hostdb.ErrInvalid, "%s: %s lies in the Pool of tags/%s, whose addresses boxes give out: leave the address out, or take one outside of %s", w.Name, ip, w.Subnet, subnet.Pool)
	default:
		if err := plan.CheckAddress(plan.AddressInput{Subnet: subnet, InUse: plan.InUse(v, w.Name), Want: ip}, ip); err != nil {
			return wrong(hostdb.ErrInvalid, "%s: %v", w.Name, err)
		}
	}
	return nil
}

func didYouMean(name string, known []string) string {
	if near := section.Nearest(name, known); near != "" && near != name {
		return "; did you mean " + near + "?"
	}
	return ""
}

// again is a wish for a name that is there.
func (w NewMachine) again(v hostdb.View, doc hostdb.Document) (Entered, error) {
	taken := func(format string, args ...any) error {
		return wrong(hostdb.ErrExists, "hosts/%s exists already and %s", w.Name, fmt.Sprintf(format, args...))
	}
	was, _ := section.HostOf(doc)
	if was.VM == nil {
		return Entered{}, taken("is no virtual machine: take another name")
	}
	want, err := w.document(newUUID())
	if err != nil {
		return Entered{}, err
	}
	is, _ := section.HostOf(want)
	differs := func(what string, has, wants any) error {
		return taken("is another machine: its %s is %v, not %v; take another name, or change the entry (hostmesh db edit hosts/%s)", what, has, wants, w.Name)
	}
	switch a, b := was.VM, is.VM; {
	case a.Image != b.Image:
		return Entered{}, differs("Image", orNone(a.Image), orNone(b.Image))
	case a.Subnet != b.Subnet:
		return Entered{}, differs("Subnet", orNone(a.Subnet), orNone(b.Subnet))
	case a.CPUs != b.CPUs:
		return Entered{}, differs("number of CPUs", a.CPUs, b.CPUs)
	case a.Memory != b.Memory:
		return Entered{}, differs("Memory", a.Memory, b.Memory)
	case a.Disk != b.Disk:
		return Entered{}, differs("Disk", sizeOrImage(a.Disk), sizeOrImage(b.Disk))
	case w.IP != "" && was.Network.IP != is.Network.IP:
		return Entered{}, differs("address", orNone(doc.Text("Network", "IP")), w.IP)
	case was.Protected != is.Protected:
		return Entered{}, differs("protection", was.Protected, is.Protected)
	case was.Owner != is.Owner:
		return Entered{}, differs("Owner", orNone(was.Owner), orNone(is.Owner))
	case !was.Expires.Equal(is.Expires):
		return Entered{}, differs("Expires", orNone(doc.Text("Expires")), orNone(w.Expires))
	}
	for _, tag := range w.Tags {
		if !slices.Contains(v.Holders(hostdb.Tags, w.Name), tag) {
			return Entered{}, taken("is no member of tags/%s: hostmesh tag add %s %s", tag, w.Name, tag)
		}
	}
	return Entered{Name: w.Name, UUID: was.VM.UUID}, nil
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func sizeOrImage(s section.Size) string {
	if s == 0 {
		return "the image's"
	}
	return s.String()
}

// Machine returns the entry of a machine. ErrNotFound of hostdb when the host is not there, ErrInvalid when it is none.
func Machine(v hostdb.View, name string) (section.Host, error) {
	item, ok := v.Get(hostdb.Hosts, name)
	if !ok {
		for _, key := range v.HostsByName(name) {
			return section.Host{}, wrong(hostdb.ErrNotFound, "there is no hosts/%s; it is a name of hosts/%s: give that", name, key)
		}
		return section.Host{}, wrong(hostdb.ErrNotFound, "there is no machine %s: hosts/%s does not exist", name, name)
	}
	host, _ := section.HostOf(item.Data())
	if host.VM == nil {
		return section.Host{}, wrong(hostdb.ErrInvalid, "hosts/%s is no virtual machine: it has no VM", name)
	}
	return host, nil
}

// SetPower enters whether a machine is meant to run. It reports whether that changed. Stopping a Protected machine takes an
// override, the reason, as rebooting it does.
func SetPower(tx *hostdb.Tx, name string, on bool, override string) (changed bool, err error) {
	host, err := Machine(tx.View(), name)
	switch {
	case err != nil:
		return false, err
	case host.VM.Power == on:
		return false, nil
	case on && host.Status == section.Retired:
		return false, wrong(hostdb.ErrInvalid, "hosts/%s is retired: set its Status to active first", name)
	case !on && host.Protected && override == "":
		return false, wrong(hostdb.ErrProtected, "hosts/%s is Protected: to stop it, give an override with the reason, or end the protection first", name)
	}
	value, err := hostdb.ParseDocument([]byte(map[bool]string{true: "on", false: "off"}[on]))
	if err != nil {
		return false, fmt.Errorf("power of %s: %w", name, err)
	}
	return true, tx.PutPath(hostdb.Hosts, name, []string{"VM", "Power"}, value)
}

// Destroy deletes the entry of a machine with all its memberships. The machine is shut down, and its disks are kept for a
// while: see Undelete. A host that is no machine is refused, and so is a Protected one without an override of the Request.
func Destroy(tx *hostdb.Tx, name string) error {
	if _, err := Machine(tx.View(), name); err != nil {
		return err
	}
	return tx.Delete(hostdb.Hosts, name)
}

// newUUID is a random UUID of version 4 (RFC 9562).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
