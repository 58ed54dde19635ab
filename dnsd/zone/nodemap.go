package zone

import (
	"iter"

	"github.com/miekg/dns"
)

// nodeMap holds the nodes of a zone by name. Beside each it has what most names answer, one address of IPv4, so that such a
// question reads nothing but the map: every further step would wait for memory.
type nodeMap struct{ m pmap[nodeEntry] }

type nodeEntry struct {
	node  *node
	quick quick
}

// quick is a name whose only record is an A: its time to live and address, and a bit that says so. 0 is any other name.
type quick uint64

const isQuick = 1 << 63

// quickOf is n as a quick, where it is one.
func quickOf(n *node) quick {
	c := n.only()
	if c == nil || c.live != nil || c.typ() != dns.TypeA {
		return 0
	}
	a := c.rr().(*dns.A)
	ip := a.A.To4()
	if ip == nil || a.Hdr.Ttl > maxTTL {
		return 0
	}
	return isQuick | quick(a.Hdr.Ttl)<<32 | quick(ip[0])<<24 | quick(ip[1])<<16 | quick(ip[2])<<8 | quick(ip[3])
}

func (m nodeMap) get(key string) (*node, bool) {
	e, ok := m.m.get(key)
	return e.node, ok
}

// quick is what the map itself knows of a name.
func (m nodeMap) quick(key string) quick {
	e, _ := m.m.get(key)
	return e.quick
}

// set is m with a node, of which the map itself knows nothing yet.
func (m nodeMap) set(by *edit, key string, n *node) nodeMap {
	return nodeMap{m.m.set(by, key, nodeEntry{node: n})}
}

// settle is m with what the map itself may know of a node; the node must be complete.
func (m nodeMap) settle(by *edit, key string, n *node) nodeMap {
	return nodeMap{m.m.set(by, key, nodeEntry{n, quickOf(n)})}
}

func (m nodeMap) delete(by *edit, key string) nodeMap { return nodeMap{m.m.delete(by, key)} }
func (m nodeMap) fit(by *edit)                        { m.m.fit(by) }
func (m nodeMap) len() int                            { return m.m.len() }

// all yields the nodes in no particular order.
func (m nodeMap) all() iter.Seq2[string, *node] {
	return func(yield func(string, *node) bool) {
		m.m.root.walk(func(key string, e nodeEntry) bool { return yield(key, e.node) })
	}
}
