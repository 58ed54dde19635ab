package section

import (
	"net/netip"
	"time"
)

// MySQL makes the members of a tag a database cluster: one primary, replicas, and addresses that lead to them.
type MySQL struct {
	// VIP is the address of the primary. It lies in VIPs of a Subnet.
	VIP netip.Addr `need:"yes" example:"10.1.0.60"`
	// ReadVIP is the address of the replicas that are not too far behind. Absent is none.
	ReadVIP netip.Addr `example:"10.1.0.61"`
	// Port is where the servers listen, and clients ask at VIP and ReadVIP.
	Port uint16 `min:"1" example:"3307"`
	// MaxLag is how far a replica may be behind and still answer at ReadVIP.
	MaxLag time.Duration `min:"1s" max:"30d" example:"5s"`
	// Credentials names the accounts to use, a file in credentials.d of the boxes.
	Credentials string `need:"yes" format:"file" example:"shop"`
	// Durability is what a failover may cost.
	Durability Durability `example:"available"`
	// Failover is who decides that the primary is replaced.
	Failover Failover `example:"auto"`
}

func (m *MySQL) defaults() {
	m.Port = 3306              // the one that MySQL is assigned (IANA)
	m.MaxLag = 5 * time.Second // a reader that wrote a moment ago rarely notices
	m.Durability = Strict      // an acknowledged transaction is never lost unless somebody chose so
	m.Failover = Manual        // nothing is promoted before a person has said that it may be
}

func (MySQL) example() string {
	return `VIP: 10.1.0.60
ReadVIP: 10.1.0.61
MaxLag: 5s
Credentials: shop
Durability: strict
Failover: manual
`
}

func (m *MySQL) check(r *report) {
	if m.VIP.IsValid() && m.VIP == m.ReadVIP {
		r.bad(m.ReadVIP.String(), "is VIP as well; expected another address", "ReadVIP")
	}
}

// Durability is what a failover of a database may cost.
type Durability string

// The values of Durability.
const (
	Strict    Durability = "strict"    // no acknowledged transaction: writes stop rather than stand in one place only
	Available Durability = "available" // possibly the last transactions: writes go on while replicas are away
)

func (Durability) values() []string { return []string{string(Strict), string(Available)} }

// Failover is who decides that a primary is replaced.
type Failover string

// The values of Failover.
const (
	Manual Failover = "manual" // a person, by hostmesh mysql failover
	Auto   Failover = "auto"   // the agents, when they agree that it is gone
)

func (Failover) values() []string { return []string{string(Manual), string(Auto)} }
