package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// StatusReporter tells how this node is.
type StatusReporter interface {
	// Status is the present state. It is called for each request, and must not wait for anything remote.
	// Problems may hold what only the reporter can know; the handler adds those that Diagnose finds.
	Status() Status
}

// Status is how one node is: what an operator reads first.
type Status struct {
	Time       time.Time         `json:"time" doc:"When the answer was made, by the node's clock"`
	Node       NodeStatus        `json:"node"`
	Mesh       MeshStatus        `json:"mesh"`
	HostDB     HostDBStatus      `json:"hostdb"`
	Duties     DutiesStatus      `json:"duties"`
	Daemons    []DaemonStatus    `json:"daemons" nullable:"false" doc:"The parts of the agent that make this box match HostDB, sorted by name"`
	Hypervisor *HypervisorStatus `json:"hypervisor,omitempty" doc:"What runs virtual machines on this box; absent when none is configured or it was not asked yet"`
	Listeners  []ListenerStatus  `json:"listeners" nullable:"false" doc:"What the agent listens on"`
	Problems   []Problem         `json:"problems" nullable:"false" doc:"What is wrong, worst first; empty when all is well"`
}

// NodeStatus is the agent itself.
type NodeStatus struct {
	ID         string    `json:"id" doc:"Permanent node id: 32 hexadecimal digits"`
	Name       string    `json:"name" doc:"Host name: its key in HostDB's hosts"`
	Addr       string    `json:"addr" doc:"IP address at which the others reach it"`
	Datacenter string    `json:"datacenter,omitempty"`
	Rack       string    `json:"rack,omitempty"`
	Started    time.Time `json:"started" doc:"When the agent began to serve"`
	Build      Build     `json:"build"`
	Observe    bool      `json:"observe,omitempty" doc:"True when the agent only shows what it would do (--observe)"`
	Dev        bool      `json:"dev,omitempty" doc:"True for a throw-away agent (--dev)"`
	DataDir    string    `json:"data_dir"`
	DiskFree   int64     `json:"disk_free_bytes" doc:"Free bytes on the data directory's file system; negative = not known"`
	DiskFloor  int64     `json:"disk_floor_bytes" doc:"Below this many free bytes writes are refused"`
}

// MeshStatus is the mesh, as this node sees it.
type MeshStatus struct {
	ID            string `json:"id" doc:"The mesh's id; empty while a joiner does not know it"`
	Members       int    `json:"members" doc:"Known, whatever their state"`
	Alive         int    `json:"alive" doc:"Answering, this node included"`
	Failed        int    `json:"failed" doc:"Stopped answering"`
	Left          int    `json:"left" doc:"Said goodbye: stopped in order"`
	Unknown       int    `json:"unknown" doc:"Not heard of since this node started"`
	Health        int    `json:"health" doc:"0 = well; higher = this node itself is slow or cut off"`
	MassSuspicion bool   `json:"mass_suspicion,omitempty" doc:"So many members failed at once that this node, or a switch, is the likelier cause"`
	RefusedKey    uint64 `json:"refused_key" doc:"Times a peer with another mesh key was turned away"`
	RefusedMesh   uint64 `json:"refused_mesh" doc:"Times a peer of another mesh was turned away"`
	IDConflicts   uint64 `json:"id_conflicts" doc:"Times one node id was claimed from two addresses: a data directory was copied"`
	ConflictAddrs string `json:"conflict_addrs,omitempty" doc:"The two addresses of the last such claim"`

	Reports ReportsStatus `json:"reports"`
}

// ReportsStatus is how this node stands with what the members report of themselves.
type ReportsStatus struct {
	Nodes      int     `json:"nodes" doc:"Members whose reports are here, this node included"`
	LagMS      int64   `json:"lag_ms" doc:"Milliseconds since this node was last found, by comparing with another member, to have all news; some seconds as a rule"`
	SentPerSec float64 `json:"sent_bytes_per_second" doc:"Over about the last minute"`
	Refused    uint64  `json:"refused" doc:"Messages and changes that broke the rules, since the start"`
}

// HostDBStatus is this node's replica of the host database.
type HostDBStatus struct {
	Version     string            `json:"version" doc:"Names the state: equal versions hold the same operations"`
	Applied     uint64            `json:"applied" doc:"Operations in this replica's apply log"`
	Hosts       int               `json:"hosts"`
	Tags        int               `json:"tags"`
	Failure     string            `json:"failure,omitempty" doc:"Why writes are refused at the moment; empty when they are not"`
	ReadOnly    *ReadOnly         `json:"read_only,omitempty" doc:"Why the whole mesh refuses writes; absent while it does not"`
	ClockLeadMS int64             `json:"clock_lead_ms" doc:"How far stamps run ahead of the wall clock, in milliseconds"`
	HeldAside   uint64            `json:"held_aside" doc:"Operations of others refused for a stamp too far ahead, since the start"`
	Forks       uint64            `json:"forks" doc:"Operations whose predecessor is not the one held here, since the start; anything but 0 needs a person"`
	Unfolded    uint64            `json:"unfolded" doc:"Operations of a newer format that are kept and forwarded but not understood by this build"`
	Peers       []ReplicaStatus   `json:"peers" nullable:"false" doc:"The other replicas, as far as this node heard of them, sorted by name"`
	Replication ReplicationStatus `json:"replication"`
}

// ReplicaStatus compares another node's replica with this node's.
type ReplicaStatus struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Heard   time.Time `json:"heard" doc:"When its version was last heard; zero = never"`
	Missing uint64    `json:"missing" doc:"Operations it lacks that are held here"`
	Ahead   uint64    `json:"ahead" doc:"Operations it holds that are missing here"`
	// Differs is the alarm of replication: same operations, other state.
	Differs bool `json:"differs,omitempty" doc:"True when both hold the same operations but their digests differ"`
	// Error is left empty for members that do not answer: that is told once, with the members.
	Error string `json:"error,omitempty" doc:"Why the last exchange with this live member failed; empty when it did not"`
}

// DaemonStatus is one daemon's progress.
type DaemonStatus struct {
	Name       string    `json:"name"`
	Version    string    `json:"version,omitempty" doc:"HostDB version it last reconciled; empty before the first time"`
	Reconciled time.Time `json:"reconciled" doc:"When it last finished without an error; zero = never"`
	LagMS      int64     `json:"lag_ms" doc:"For how long it has been behind this node's replica, in milliseconds; 0 = up to date"`
	Failures   int       `json:"failures" doc:"Runs that failed in a row; 0 = the last one succeeded"`
	Error      string    `json:"error,omitempty" doc:"Why the last run failed; empty when it did not"`
	Stuck      bool      `json:"stuck,omitempty" doc:"True when its present run takes longer than the watchdog allows"`
	Note       string    `json:"note,omitempty" doc:"What it does on this node, for people; empty when there is nothing to be said"`
	Idle       string    `json:"idle,omitempty" doc:"Why it has nothing to do on this node, such as that another holds its duty; empty when it works"`
}

// HypervisorStatus is what the box's hypervisor says of itself.
type HypervisorStatus struct {
	URI        string `json:"uri"`
	Driver     string `json:"driver,omitempty" doc:"QEMU, TEST, ..."`
	Version    string `json:"version,omitempty"`
	Library    string `json:"library,omitempty" doc:"Version of libvirt's client library on this box"`
	KVM        bool   `json:"kvm" doc:"True when the processor runs guests by itself"`
	DomainType string `json:"domain_type,omitempty" doc:"The type new machines get"`
	Error      string `json:"error,omitempty" doc:"Why it cannot be used; empty when it can"`
}

// ListenerStatus is one thing the agent listens on.
type ListenerStatus struct {
	Name  string `json:"name" doc:"socket, http, https, dns, gossip or streams"`
	Addr  string `json:"addr" doc:"Address and port, or path"`
	Error string `json:"error,omitempty" doc:"Why it does not serve; empty when it does"`
}

// Severities of a Problem.
const (
	SeverityError  = "error"  // something does not work: a person should look now
	SeverityNotice = "notice" // worth knowing; nothing is broken
)

// Problem is one thing that is wrong, in words.
type Problem struct {
	Severity string `json:"severity" enum:"error,notice"`
	Subject  string `json:"subject" doc:"What it is about: a member, a daemon, a listener, hostdb, disk or clock"`
	Text     string `json:"text" doc:"What is wrong"`
	Remedy   string `json:"remedy,omitempty" doc:"What to do about it"`
}

func registerStatus(a huma.API, r StatusReporter) {
	huma.Register(a, huma.Operation{
		OperationID: "get-status", Method: http.MethodGet, Path: "/api/v1/status",
		Summary: "How this node is", Tags: []string{"node"},
		Description: "The agent, its replica of the host database, its daemons and what it listens on, with everything that is wrong in words.",
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[Status], error) {
		s := r.Status()
		s.Problems = sortProblems(append(s.Problems, Diagnose(s)...))
		s.fillEmpty()
		return &bodyOf[Status]{Body: s}, nil
	})
}

// fillEmpty makes lists that are nil empty, so that a client in any language can loop over them.
func (s *Status) fillEmpty() {
	if s.Daemons == nil {
		s.Daemons = []DaemonStatus{}
	}
	if s.Listeners == nil {
		s.Listeners = []ListenerStatus{}
	}
	if s.HostDB.Peers == nil {
		s.HostDB.Peers = []ReplicaStatus{}
	}
	if s.Duties.Holding == nil {
		s.Duties.Holding = []HeldDuty{}
	}
	if s.Problems == nil {
		s.Problems = []Problem{}
	}
}

// Status asks a node how it is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var out Status
	err := c.getJSON(ctx, "/api/v1/status", &out)
	return out, err
}
