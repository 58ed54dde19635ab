package lease

// Status is one duty, as the leader knows it.
type Status struct {
	Duty       string `cbor:"1,keyasint" json:"duty"`
	Node       string `cbor:"2,keyasint,omitempty" json:"node,omitempty"` // id of the holder; "" = nobody
	Name       string `cbor:"3,keyasint,omitempty" json:"name,omitempty"` // its host name, when it is known
	Fence      uint64 `cbor:"4,keyasint" json:"fence"`
	Since      int64  `cbor:"5,keyasint" json:"since_ms"` // unix ms of the leader
	Why        string `cbor:"6,keyasint,omitempty" json:"why,omitempty"`
	Last       string `cbor:"7,keyasint,omitempty" json:"last,omitempty"` // id of the node before
	Candidates int    `cbor:"8,keyasint" json:"candidates"`               // nodes that would take it
	Over       string `cbor:"9,keyasint,omitempty" json:"over,omitempty"` // it is being handed over: why
	OverMS     int64  `cbor:"10,keyasint,omitempty" json:"over_ms,omitempty"`
	To         string `cbor:"11,keyasint,omitempty" json:"to,omitempty"`
}

// Explanation is why a duty is where it is.
type Explanation struct {
	Status Status `cbor:"1,keyasint" json:"status"`
	Ranks  []Rank `cbor:"2,keyasint" json:"ranks"` // the first is who would get it now
	Leader string `cbor:"3,keyasint" json:"leader"`
}

// Rank is how one node stands for a duty.
type Rank struct {
	Node   string `cbor:"1,keyasint" json:"node"`
	Name   string `cbor:"2,keyasint" json:"name"`
	Class  string `cbor:"3,keyasint" json:"class"` // wanted, eligible, full, second choice, not eligible
	Reason string `cbor:"4,keyasint,omitempty" json:"reason,omitempty"`
	Holds  int    `cbor:"5,keyasint" json:"holds"` // duties it has, this one apart
	Weight uint64 `cbor:"6,keyasint" json:"weight"`
	Holder bool   `cbor:"7,keyasint,omitempty" json:"holder,omitempty"`
}

// Voters is raft's configuration, as the leader has it.
type Voters struct {
	Leader  string   `cbor:"1,keyasint" json:"leader"`
	Term    uint64   `cbor:"2,keyasint" json:"term"`
	Index   uint64   `cbor:"3,keyasint" json:"index"`
	Servers []Server `cbor:"4,keyasint" json:"servers"`
	Want    string   `cbor:"5,keyasint,omitempty" json:"want,omitempty"` // the next change, or what it waits for
	Owing   []string `cbor:"6,keyasint,omitempty" json:"owing,omitempty"`
	Drained []Drain  `cbor:"7,keyasint,omitempty" json:"drained,omitempty"`
}

// Server is a member of raft's configuration.
type Server struct {
	Node   string `cbor:"1,keyasint" json:"node"`
	RaftID string `cbor:"2,keyasint" json:"raft_id"`
	Voter  bool   `cbor:"3,keyasint" json:"voter"` // false: it catches up
	Behind uint64 `cbor:"4,keyasint,omitempty" json:"behind,omitempty"`
}

// Drain is a node that is to hold nothing.
type Drain struct {
	Node   string `cbor:"1,keyasint" json:"node"`
	By     string `cbor:"2,keyasint" json:"by"`
	Reason string `cbor:"3,keyasint" json:"reason"`
	At     int64  `cbor:"4,keyasint" json:"at_ms"`
	Holds  int    `cbor:"5,keyasint" json:"holds"` // duties it still has
}
