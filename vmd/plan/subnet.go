package plan

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// ErrSubnet is returned for a tag that is no network, or one that machines cannot be connected to.
var ErrSubnet = errors.New("no network for machines")

// Subnet is a network that machines are connected to, of the section Subnet of a tag.
type Subnet struct {
	Tag        string
	CIDR       netip.Prefix
	Gateway    netip.Addr // the zero Addr = none
	Bridge     string
	Datacenter string       // "" = not said
	VIPs, Pool netip.Prefix // the zero Prefix = none
}

// SubnetOf is the network of a tag. The error wraps ErrSubnet, and says what is wrong with the tag, and what to do. Two networks
// whose pools overlap are both refused: each would give out the other's addresses. It costs all tags; a Planner keeps them.
func SubnetOf(db hostdb.View, tag string) (Subnet, error) {
	n := networks{}
	for t := range db.Keys(hostdb.Tags) {
		n.set(t, db.Data(hostdb.Tags, t))
	}
	return n.of(db, tag)
}

// network is what the Subnet section of one tag says.
type network struct {
	doc     hostdb.Document
	subnet  Subnet
	problem string // "" = it can be used
}

// networks are all tags with a Subnet section. Its values are not changed.
type networks map[string]*network

// set reads a tag, and reports whether its network is another now.
func (n networks) set(tag string, doc hostdb.Document) bool {
	part := doc.At("Subnet")
	old := n[tag]
	if old != nil && old.doc.Equal(part) {
		return false
	}
	s, problems := section.SubnetOf(doc)
	if s == nil && len(problems) == 0 {
		delete(n, tag)
		return old != nil
	}
	now := &network{doc: part, subnet: Subnet{Tag: tag}}
	if s != nil {
		now.subnet = Subnet{tag, s.CIDR.Masked(), s.Gateway, s.Bridge, s.Datacenter, s.VIPs.Masked(), s.Pool.Masked()}
	}
	for _, p := range problems {
		if p.Severity == section.Error {
			now.problem = p.String()
			break
		}
	}
	if now.problem == "" && !now.subnet.CIDR.IsValid() {
		now.problem = "Subnet/CIDR: is missing; expected a network such as 10.1.0.0/16"
	}
	n[tag] = now
	return true
}

func (n networks) of(db hostdb.View, tag string) (Subnet, error) {
	none := Subnet{Tag: tag}
	it := n[tag]
	switch {
	case tag == "":
		return none, fmt.Errorf("%w: no tag is named; name one that has a Subnet, %s", ErrSubnet, n.names())
	case it == nil && !db.Exists(hostdb.Tags, tag):
		return none, fmt.Errorf("%w: tags/%s does not exist; make it with a Subnet section, or name a tag that has one, %s", ErrSubnet, tag, n.names())
	case it == nil:
		return none, fmt.Errorf("%w: tags/%s has no Subnet section; give it one, or name a tag that has one, %s", ErrSubnet, tag, n.names())
	case it.problem != "":
		return it.subnet, fmt.Errorf("%w: tags/%s: %s", ErrSubnet, tag, it.problem)
	}
	clash := ""
	for other, o := range n {
		if other != tag && o.subnet.Pool.IsValid() && it.subnet.Pool.IsValid() && o.subnet.Pool.Overlaps(it.subnet.Pool) && (clash == "" || other < clash) {
			clash = other
		}
	}
	if clash != "" {
		return it.subnet, fmt.Errorf("%w: tags/%s: Subnet/Pool: %s overlaps that of tags/%s, %s; give each network a pool of its own",
			ErrSubnet, tag, it.subnet.Pool, clash, n[clash].subnet.Pool)
	}
	return it.subnet, nil
}

// names are the first tags with a network, for messages.
func (n networks) names() string {
	const shown = 4
	list := slices.Sorted(maps.Keys(n))
	switch {
	case len(list) == 0:
		return "of which there is none yet"
	case len(list) > shown:
		return "such as " + strings.Join(list[:shown], ", ")
	}
	return "such as " + strings.Join(list, ", ")
}
