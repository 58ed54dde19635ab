package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// count is a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// size is an amount of bytes for people, to a tenth.
func size(n int64) string {
	for _, u := range []struct {
		name  string
		bytes int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.bytes || n <= -u.bytes {
			// Down, so that what is free never looks larger than what is asked for.
			return strconv.FormatFloat(math.Floor(float64(n)/float64(u.bytes)*10)/10, 'f', -1, 64) + " " + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}

// tally counts a box, for the sum.
func (q *question) tally(s *site, m mark) {
	q.count[m.class]++
	switch m.class {
	case unfit:
		q.unfit = cmp.Or(q.unfit, s.why)
	case leftOut:
		if q.left == "" {
			q.left = s.key + ": " + q.why(s)
		}
	case noMemory:
		q.largest.Memory = max(q.largest.Memory, m.free.Memory)
	case noCPUs:
		q.largest.CPUs = max(q.largest.CPUs, m.free.CPUs)
	case noDisk:
		q.largest.Disk = max(q.largest.Disk, m.free.Disk)
	}
}

// sum is the decision in one line.
func (q *question) sum(best *site) string {
	all := len(q.f.sites)
	switch {
	case best != nil && q.count[fits] == 1:
		return fmt.Sprintf("%s is the only one that fits, of %s", best.key, count(all, "box", "boxes"))
	case best != nil:
		return fmt.Sprintf("%s is the best of %d that fit, of %s", best.key, q.count[fits], count(all, "box", "boxes"))
	case all == 0:
		return "no host carries virtual machines: give one a Box (hostmesh db set hosts/NAME/Box '{}'), and start an agent on it"
	case !q.known && q.count[noImage] > 0:
		return q.noSuchImage()
	}
	var against []class
	for c := fits + 1; c < classes; c++ {
		if q.count[c] > 0 {
			against = append(against, c)
		}
	}
	slices.SortStableFunc(against, func(a, b class) int { return cmp.Compare(q.count[b], q.count[a]) })
	reasons := make([]string, len(against))
	for i, c := range against {
		reasons[i] = q.phrase(c, q.count[c])
	}
	return fmt.Sprintf("%s: %s", count(all, "box", "boxes"), strings.Join(reasons, ", "))
}

func (q *question) noSuchImage() string {
	return fmt.Sprintf("no image is named %q: add it (hostmesh image add), or name another (hostmesh image list)", q.w.Image)
}

// phrase says of n boxes why they do not fit.
func (q *question) phrase(c class, n int) string {
	verb := func(one, many string) string {
		if n == 1 {
			return fmt.Sprintf("1 %s", one)
		}
		return fmt.Sprintf("%d %s", n, many)
	}
	switch c {
	case lost:
		return verb("is lost", "are lost")
	case retired:
		return verb("is retired", "are retired")
	case maintenance:
		return verb("is in maintenance", "are in maintenance")
	case stranger:
		return verb("is no member of the mesh", "are no members of the mesh")
	case silent:
		return verb("does not answer", "do not answer")
	case emptied:
		return verb("is drained", "are drained")
	case unheard:
		return verb("has not reported yet", "have not reported yet")
	case unfit:
		return verb("is not fit", "are not fit") + " (" + q.unfit + ")"
	case elsewhere:
		return verb("is not in datacenter "+q.w.Subnet.Datacenter, "are not in datacenter "+q.w.Subnet.Datacenter)
	case leftOut:
		return verb("is left out", "are left out") + " (" + q.left + ")"
	case otherBlock:
		return verb("does not own", "do not own") + " the block of its address " + q.w.IP.String()
	case noBridge:
		return verb("has no bridge "+q.w.Subnet.Bridge, "have no bridge "+q.w.Subnet.Bridge)
	case noImage:
		return verb("has no way", "have no way") + " to the image " + strconv.Quote(q.w.Image)
	case badCompany:
		return verb("would break", "would break") + " a strict Placement"
	case noMemory:
		return verb("has", "have") + fmt.Sprintf(" too little memory (largest free %s of %s)", size(q.largest.Memory), size(q.need.Memory))
	case noCPUs:
		return verb("has", "have") + fmt.Sprintf(" too few CPUs (most free %d of %d)", q.largest.CPUs, q.need.CPUs)
	default:
		return verb("has", "have") + fmt.Sprintf(" too little disk (largest free %s of %s)", size(q.largest.Disk), size(q.need.Disk))
	}
}

// verdict is a mark for people.
func (q *question) verdict(s *site, m mark) Verdict {
	v := Verdict{Box: s.key, Node: s.node, OK: m.class == fits}
	if !v.OK {
		v.Reason = q.against(s, m)
		return v
	}
	left := m.free.minus(q.need)
	left.Disk -= q.fetch(s, m)
	v.Score = m.score()
	v.Reason = fmt.Sprintf("it fits; %d CPUs, %s of memory and %s of disk stay free", left.CPUs, size(left.Memory), size(left.Disk))
	part := func(name string, score float64, reason string) {
		v.Parts = append(v.Parts, Part{name, math.Round(score*1e4) / 1e4, reason})
	}
	part("memory", m.memory, fmt.Sprintf("%s of %s stay free", size(left.Memory), size(s.total.Memory)))
	part("cpu", m.cpu, fmt.Sprintf("%d of %d CPUs stay free", left.CPUs, s.total.CPUs))
	if m.here {
		part("image", m.image, "it has the image")
	}
	company := func(name string, score float64, kinds ...int) {
		var reasons []string
		for i := range q.companies {
			c := &q.companies[i]
			for _, k := range kinds {
				if c.kind == k {
					if r := c.tell(s, q.w.Name); r != "" {
						reasons = append(reasons, r)
					}
				}
			}
		}
		if len(reasons) > 0 {
			part(name, score, strings.Join(reasons, "; "))
		}
	}
	company("spread", m.spread, spreads, shuns)
	company("apart", m.apart, parts)
	company("together", m.near, gathers)
	return v
}

// tell says which machines of a rule are near a box; "" = none.
func (c *company) tell(s *site, but string) string {
	l := c.level
	if c.kind == shuns {
		l = onRack
	}
	var where []string
	for ; l >= onBox; l-- {
		if l == onRack && s.rack == "" {
			continue // nobody said which; the box is told of
		}
		if n := c.peers.beside(l, s, but); n > 0 {
			where = append(where, fmt.Sprintf("%d in the same %s", n, levelNames[l]))
		}
		if c.kind == gathers {
			break // a narrower place is no better
		}
	}
	if where == nil {
		return ""
	}
	return fmt.Sprintf("of %d of tags/%s %s", c.total, c.tag, strings.Join(where, ", "))
}

// against is why a box does not fit, and what to do where that is not plain.
func (q *question) against(s *site, m mark) string {
	switch m.class {
	case elsewhere:
		return fmt.Sprintf("it is in datacenter %q, the network tags/%s in %q", s.datacenter, q.w.Subnet.Tag, q.w.Subnet.Datacenter)
	case leftOut:
		return q.why(s)
	case otherBlock:
		if q.owner == "" {
			return fmt.Sprintf("its address %s lies in Pool %s of tags/%s, in a block that no box owns: enter one outside of Pool, or take Network/IP out to have one given", q.w.IP, q.w.Subnet.Pool, q.w.Subnet.Tag)
		}
		owner := "node " + q.owner
		if m, ok := q.f.in.Mesh.Get(q.owner); ok {
			owner = m.Name
		}
		return fmt.Sprintf("its address %s lies in a block of %s: take Network/IP out to have another given", q.w.IP, owner)
	case noBridge:
		return fmt.Sprintf("it has no bridge %s for machines, which tags/%s names; make one there, add it to vm.bridges there if that is set, or set Subnet/Bridge", q.w.Subnet.Bridge, q.w.Subnet.Tag)
	case noImage:
		if !q.known {
			return q.noSuchImage()
		}
		return fmt.Sprintf("it has not the image %q, and neither a URL nor a live box gives it: push it (hostmesh image push)", q.w.Image)
	case badCompany:
		c := &q.companies[m.company]
		key := "Spread"
		if c.kind == parts {
			key = "Apart"
		}
		n := c.peers.beside(c.level, s, q.w.Name)
		return fmt.Sprintf("%s of tags/%s in the same %s, which Placement/%s of tags/%s forbids", count(n, "machine", "machines"), c.tag, levelNames[c.level], key, c.of)
	case noMemory:
		return fmt.Sprintf("too little memory: %s free of %s, %s needed", size(m.free.Memory), size(s.total.Memory), size(q.need.Memory))
	case noCPUs:
		return fmt.Sprintf("too few CPUs: %d free of %d, %d needed", m.free.CPUs, s.total.CPUs, q.need.CPUs)
	case noDisk:
		return fmt.Sprintf("too little disk: %s free of %s, %s needed", size(m.free.Disk), size(s.total.Disk), size(q.need.Disk+q.fetch(s, m)))
	}
	return s.why
}
