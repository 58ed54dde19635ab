package lease

// What crosses between nodes. Numbers are a format: add, never change. Each name carries the version of its messages.
const (
	callAsk     = "lease.ask.1"     // anybody -> leader
	callWhere   = "lease.where.1"   // anybody -> anybody: which group, who leads it
	callServe   = "lease.serve.1"   // leader -> node: take part in raft, or stop it
	callConfirm = "lease.confirm.1" // leader -> voter: which term is it
	callPoke    = "lease.poke.1"    // leader -> node: renew now
)

// Group names a group at one time.
type Group struct {
	ID         string `cbor:"1,keyasint" json:"id"`         // 32 hex digits, made when it was founded
	Generation uint64 `cbor:"2,keyasint" json:"generation"` // 1, and one more with each recovery
	Datacenter string `cbor:"3,keyasint" json:"datacenter"` //
	Home       bool   `cbor:"4,keyasint" json:"home"`       // it holds the duties of the whole mesh
	// Branch tells two recoveries apart that made the same generation, on two sides of a cut; 0 when it was founded.
	Branch uint32 `cbor:"5,keyasint,omitempty" json:"branch,omitempty"`
}

// epoch is generation and branch as messages carry them.
func (g Group) epoch() uint64 { return g.Generation<<32 | uint64(g.Branch) }

// asking is what a node wants of the leader; one of the fields beside Group is set.
type asking struct {
	Group   string     `cbor:"1,keyasint"`
	Epoch   uint64     `cbor:"2,keyasint"`
	Renew   *renewing  `cbor:"3,keyasint,omitempty"`
	Op      []byte     `cbor:"4,keyasint,omitempty"` // put, delete, add, drain, undrain, excuse, claim
	Release *releasing `cbor:"5,keyasint,omitempty"`
	Get     *getting   `cbor:"6,keyasint,omitempty"`
	List    bool       `cbor:"7,keyasint,omitempty"` // all duties
	Explain string     `cbor:"8,keyasint,omitempty"`
	Move    *moving    `cbor:"9,keyasint,omitempty"`
	Config  bool       `cbor:"10,keyasint,omitempty"` // voters
}

// renewing keeps a session alive, and says what its node would do.
type renewing struct {
	Session string  `cbor:"1,keyasint"`
	Name    string  `cbor:"2,keyasint"` // of the node, for people
	Number  uint64  `cbor:"3,keyasint"` // of Offers; the leader asks for them when it has another
	Offers  []offer `cbor:"4,keyasint,omitempty"`
	Full    bool    `cbor:"5,keyasint,omitempty"` // Offers are there, be they none
	Hurry   bool    `cbor:"6,keyasint,omitempty"` // something changed: do not wait for others
	Unfit   string  `cbor:"7,keyasint,omitempty"` // why the node cannot be a voter
	Idle    bool    `cbor:"8,keyasint,omitempty"` // it wants no duty and renews rarely
	// Over are former sessions of the node whose deadlines had passed when this was sent: it holds nothing by them, and takes no answer to
	// them any more. Builds before this field say nothing of theirs, and ignore those of others.
	Over []string `cbor:"9,keyasint,omitempty"`
	// Apart is why another node should lead. Builds before this field lead wherever they are.
	Apart string `cbor:"10,keyasint,omitempty"`
}

type offer struct {
	Duty    string `cbor:"1,keyasint"`
	Refusal string `cbor:"2,keyasint,omitempty"`
	Avoid   string `cbor:"3,keyasint,omitempty"`
}

type releasing struct {
	Session string  `cbor:"1,keyasint"`
	Ends    []endOp `cbor:"2,keyasint"`
	Over    bool    `cbor:"3,keyasint,omitempty"` // the session ends: all its duties
}

type getting struct {
	Key    string `cbor:"1,keyasint"`
	Prefix bool   `cbor:"2,keyasint,omitempty"` // all records whose keys begin with Key
	After  uint64 `cbor:"3,keyasint,omitempty"` // only what changed after this index
	WaitMS int    `cbor:"4,keyasint,omitempty"` // wait so long for a change
	Settle bool   `cbor:"5,keyasint,omitempty"` // what was proposed before must be folded
}

type moving struct {
	Duty string `cbor:"1,keyasint"`
	Node string `cbor:"2,keyasint"`
}

// answer is what the leader says.
type answer struct {
	Group   Group        `cbor:"1,keyasint"`
	Leader  string       `cbor:"2,keyasint,omitempty"` // node; another one's id means: ask that
	Code    string       `cbor:"3,keyasint,omitempty"` // of an error; codeNotLeader and codeOtherGroup are not the request's fault
	Text    string       `cbor:"4,keyasint,omitempty"`
	AsOf    uint64       `cbor:"5,keyasint,omitempty"` // index of the state that Held is of
	Held    []heldDuty   `cbor:"6,keyasint,omitempty"`
	Want    bool         `cbor:"7,keyasint,omitempty"` // send Offers in full
	Expired bool         `cbor:"8,keyasint,omitempty"` // the session is over
	Voters  []string     `cbor:"9,keyasint,omitempty"` // nodes, hints of whom to ask next time
	Version uint64       `cbor:"10,keyasint,omitempty"`
	Records []recordWire `cbor:"11,keyasint,omitempty"`
	Deleted []string     `cbor:"12,keyasint,omitempty"`
	Anew    bool         `cbor:"13,keyasint,omitempty"` // Records are all there are, not what changed
	Duties  []Status     `cbor:"14,keyasint,omitempty"`
	Explain *Explanation `cbor:"15,keyasint,omitempty"`
	Config  *Voters      `cbor:"16,keyasint,omitempty"`
}

const (
	codeNotLeader  = "not_leader"
	codeOtherGroup = "other_group"
)

// heldDuty is a duty of the session that asked.
type heldDuty struct {
	Duty  string `cbor:"1,keyasint"`
	Fence uint64 `cbor:"2,keyasint"`
	Since int64  `cbor:"3,keyasint"`
	Over  string `cbor:"4,keyasint,omitempty"` // hand it over: why
	To    string `cbor:"5,keyasint,omitempty"` // to this node
}

type recordWire struct {
	Key     string `cbor:"1,keyasint"`
	Value   []byte `cbor:"2,keyasint"`
	Version uint64 `cbor:"3,keyasint"`
}

// whereabouts is what a node knows of the group of its datacenter.
type whereabouts struct {
	Known    bool     `cbor:"1,keyasint"`
	Group    Group    `cbor:"2,keyasint"`
	Leader   string   `cbor:"3,keyasint,omitempty"`
	Voters   []string `cbor:"4,keyasint,omitempty"`
	Serving  bool     `cbor:"5,keyasint,omitempty"` // it takes part in raft
	Last     uint64   `cbor:"6,keyasint,omitempty"` // index of its log's end
	LastTerm uint64   `cbor:"7,keyasint,omitempty"`
	Home     *Group   `cbor:"8,keyasint,omitempty"` // the home group, when it knows one
	Pending  bool     `cbor:"9,keyasint,omitempty"` // it is about to found the group
	RaftID   string   `cbor:"10,keyasint,omitempty"`
}

// serving tells a node to take part in raft, or to stop.
type serving struct {
	Group Group  `cbor:"1,keyasint"`
	Stop  string `cbor:"2,keyasint,omitempty"` // the raft id that is no longer part of it; "" = take part
}

type served struct {
	RaftID  string `cbor:"1,keyasint"`
	Version int    `cbor:"2,keyasint"` // of the log format that it can fold
}

type confirming struct {
	Group string `cbor:"1,keyasint"`
	Epoch uint64 `cbor:"2,keyasint"`
}

type confirmed struct {
	Term   uint64 `cbor:"1,keyasint"`
	RaftID string `cbor:"2,keyasint"`
}
