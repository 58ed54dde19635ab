package mesh

import (
	"fmt"
	"net/netip"
	"time"
)

// The versions of what nodes say to each other: the member metadata, and the frames of the peer streams. A node speaks
// ProtocolMax and understands all from ProtocolMin, which is at most one lower, so that a mesh can be upgraded node by node.
const (
	ProtocolMax = 1
	ProtocolMin = 1
)

// State says what this node thinks of a member.
type State int

const (
	// StateUnknown is a member of the peer list that was not heard of since this node started.
	StateUnknown State = iota
	// StateAlive is a member that answers. One that is only suspected is still alive: most suspicions are refuted.
	StateAlive
	// StateFailed is a member that stopped to answer without saying goodbye.
	StateFailed
	// StateLeft is a member that said goodbye: its agent was stopped in order.
	StateLeft
)

// String returns unknown, alive, failed or left.
func (s State) String() string {
	switch s {
	case StateUnknown:
		return "unknown"
	case StateAlive:
		return "alive"
	case StateFailed:
		return "failed"
	case StateLeft:
		return "left"
	}
	return fmt.Sprintf("state(%d)", int(s))
}

// MarshalText returns what String returns.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(text []byte) error {
	for t := StateUnknown; t <= StateLeft; t++ {
		if t.String() == string(text) {
			*s = t
			return nil
		}
	}
	return fmt.Errorf("unknown member state %q", text)
}

// Member is one node of the mesh, as this node knows it.
type Member struct {
	ID         string        `json:"id"`             // permanent, 32 hex digits
	Name       string        `json:"name"`           // host name; its key in HostDB's hosts
	Addr       netip.Addr    `json:"addr"`           // where it is reached
	GossipPort uint16        `json:"gossip_port"`    // serf, TCP and UDP
	StreamPort uint16        `json:"stream_port"`    // peer streams, TCP
	Datacenter string        `json:"datacenter"`     // from its configuration; may be empty
	Rack       string        `json:"rack"`           // from its configuration; may be empty
	Protocol   int           `json:"protocol"`       // the version it speaks; 0 = unknown
	State      State         `json:"state"`          //
	Since      time.Time     `json:"since"`          // when this node saw it enter State
	Self       bool          `json:"self,omitempty"` // the node that holds the View
	RTT        time.Duration `json:"rtt,omitempty"`  // estimated round trip from this node; 0 = unknown
}

// Gossip returns the address of the member's gossip port.
func (m Member) Gossip() netip.AddrPort { return netip.AddrPortFrom(m.Addr, m.GossipPort) }

// Stream returns the address of the member's stream port.
func (m Member) Stream() netip.AddrPort { return netip.AddrPortFrom(m.Addr, m.StreamPort) }
