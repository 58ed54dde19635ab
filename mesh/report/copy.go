package report

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what people wrote or programs said; Trim cuts to them, and peers refuse what is longer.
const (
	MaxName   = 253     // bytes of a name, an image's or a bridge's too
	MaxKey    = 64      // bytes of a machine's UUID
	MaxWord   = 64      // bytes of a phase, a step or an address
	MaxReason = 2 << 10 // bytes of a reason
)

// Clone returns a copy that shares nothing with r.
func Clone(r Report) Report {
	r.Box = cloneBox(r.Box)
	r.VMs, r.Checks, r.MySQL = maps.Clone(r.VMs), maps.Clone(r.Checks), maps.Clone(r.MySQL)
	if r.LB != nil {
		r.LB = &LB{maps.Clone(r.LB.VIPs)}
	}
	return r
}

func cloneBox(b *Box) *Box {
	if b == nil {
		return nil
	}
	c := *b
	c.Images, c.Bridges = maps.Clone(b.Images), slices.Clone(b.Bridges)
	return &c
}

// Equal reports whether two reports say the same. Whose they are, and their numbers, do not count.
func Equal(a, b Report) bool {
	return equalBox(a.Box, b.Box) && maps.Equal(a.VMs, b.VMs) && maps.Equal(a.Checks, b.Checks) && maps.Equal(a.MySQL, b.MySQL) && equalLB(a.LB, b.LB)
}

func equalLB(a, b *LB) bool {
	if a == nil || b == nil {
		return a == b
	}
	return maps.Equal(a.VIPs, b.VIPs)
}

func equalBox(a, b *Box) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	if !maps.Equal(x.Images, y.Images) || !slices.Equal(x.Bridges, y.Bridges) {
		return false
	}
	x.Images, x.Bridges, y.Images, y.Bridges = nil, nil, nil, nil
	return x.Unfit == y.Unfit && x.Hypervisor == y.Hypervisor && x.CPUs == y.CPUs && x.Memory == y.Memory && x.Disk == y.Disk &&
		x.UsedCPUs == y.UsedCPUs && x.UsedMemory == y.UsedMemory && x.UsedDisk == y.UsedDisk
}

// Trim cuts r, in place, to what peers take: texts are valid UTF-8 within the bounds above, and machines without a UUID, or
// with one that is too long, are left out, as are checks and database servers with a key that is none. Names of foreign domains may be anything. r must not be in a View.
func Trim(r *Report) {
	if b := r.Box; b != nil {
		b.Unfit, b.Hypervisor = clip(b.Unfit, MaxReason), clip(b.Hypervisor, MaxName)
		for i := range b.Bridges {
			b.Bridges[i] = clip(b.Bridges[i], MaxName)
		}
		for name, sum := range b.Images {
			n, s := clip(name, MaxName), clip(sum, MaxName)
			if n != name {
				delete(b.Images, name)
			}
			b.Images[n] = s
		}
	}
	for id, v := range r.VMs {
		if !validKey(id) {
			delete(r.VMs, id)
			continue
		}
		v.Name, v.Reason = clip(v.Name, MaxName), clip(v.Reason, MaxReason)
		v.Phase, v.Step = Phase(clip(string(v.Phase), MaxWord)), clip(v.Step, MaxWord)
		v.IP, v.MAC = clip(v.IP, MaxWord), clip(v.MAC, MaxWord)
		r.VMs[id] = v
	}
	for key, c := range r.Checks {
		if !validCheckKey(key) {
			delete(r.Checks, key)
			continue
		}
		c.State, c.Addr, c.Reason = CheckState(clip(string(c.State), MaxWord)), clip(c.Addr, MaxWord), clip(c.Reason, MaxReason)
		r.Checks[key] = c
	}
	if r.LB != nil {
		for addr, v := range r.LB.VIPs {
			if !validKey(addr) {
				delete(r.LB.VIPs, addr)
				continue
			}
			v.Phase, v.Why = clip(v.Phase, MaxWord), clip(v.Why, MaxReason)
			r.LB.VIPs[addr] = v
		}
	}
	for tag, m := range r.MySQL {
		if !validTag(tag) {
			delete(r.MySQL, tag)
			continue
		}
		m.Process, m.Role, m.VIP, m.Reason, m.Full = clip(m.Process, MaxWord), clip(m.Role, MaxWord), clip(m.VIP, MaxWord), clip(m.Reason, MaxReason), clip(m.Full, MaxReason)
		m.Copy, m.Differs = clip(m.Copy, MaxName), clip(m.Differs, MaxReason)
		r.MySQL[tag] = m
	}
}

// Fits reports whether a database server of this tag is within the bounds. Words of a later build are taken as they are.
func (m MySQL) Fits(tag string) bool {
	return validTag(tag) && fits(m.Process, MaxWord) && fits(m.Role, MaxWord) && fits(m.VIP, MaxWord) && fits(m.Reason, MaxReason) && fits(m.Full, MaxReason) && fits(m.Copy, MaxName) && fits(m.Differs, MaxReason)
}

func validTag(tag string) bool { return tag != "" && fits(tag, MaxName) }

// Fits reports whether l is within the bounds.
func (l LB) Fits() bool {
	for addr, v := range l.VIPs {
		if !validKey(addr) || !fits(v.Phase, MaxWord) || !fits(v.Why, MaxReason) {
			return false
		}
	}
	return true
}

// Fits reports whether b is within the bounds.
func (b Box) Fits() bool {
	for name, sum := range b.Images {
		if !fits(name, MaxName) || !fits(sum, MaxName) {
			return false
		}
	}
	for _, name := range b.Bridges {
		if !fits(name, MaxName) {
			return false
		}
	}
	return fits(b.Unfit, MaxReason) && fits(b.Hypervisor, MaxName)
}

// Fits reports whether a machine of this UUID is within the bounds. Phases and steps of a later build are taken as they are.
func (v VM) Fits(uuid string) bool {
	return validKey(uuid) && fits(v.Name, MaxName) && fits(v.Reason, MaxReason) && fits(string(v.Phase), MaxWord) &&
		fits(v.Step, MaxWord) && fits(v.IP, MaxWord) && fits(v.MAC, MaxWord)
}

func validKey(id string) bool {
	if id == "" || len(id) > MaxKey {
		return false
	}
	for _, r := range id {
		if r > unicode.MaxASCII || !unicode.IsGraphic(r) || r == ' ' {
			return false
		}
	}
	return true
}

func fits(s string, most int) bool { return len(s) <= most && utf8.ValidString(s) }

// clip makes s valid and at most so many bytes long.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	end := most
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
