package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb"
)

var (
	// ErrNoDuties is returned by Duties while nobody can answer: the datacenter has no lease group, no leader of it answers, or this
	// node takes no part. The text says which, and what to do.
	ErrNoDuties = errors.New("duties are not available")
	// ErrDutyConflict is returned by Duties when what there is stands against it: a node that is not eligible, a group that exists, a
	// majority that lives.
	ErrDutyConflict = errors.New("it stands against the duties as they are")
)

// Duties are the duties of this node's datacenter, and the group that grants them. Nodes are named by id or host name. All but Found and
// Recover ask the group's leader, wherever it is. Errors wrap ErrNotFound for a duty or node that is not there, ErrAmbiguous for a
// name that several nodes have, ErrNoDuties, ErrDutyConflict, and hostdb.ErrInvalid. Callers have checked that who changes something is
// an administrator.
type Duties interface {
	// Duties lists them, by name.
	Duties(ctx context.Context) (DutyList, error)
	// ExplainDuty tells who could hold a duty and why who holds it does.
	ExplainDuty(ctx context.Context, duty string) (DutyExplanation, error)
	// MoveDuty hands a duty to a node, and waits until it is there. When ctx ends before, it goes on for some minutes.
	MoveDuty(ctx context.Context, who Identity, duty, node string) (Duty, error)
	// Voters tells who grants duties.
	Voters(ctx context.Context) (DutyVoters, error)
	// FoundDuties founds the group of this node's datacenter, here.
	FoundDuties(ctx context.Context, who Identity, how FoundDuties) (DutyGroup, error)
	// RecoverDuties begins a new generation of the group from what this node has.
	RecoverDuties(ctx context.Context, who Identity, force bool) (DutyGroup, error)
	// ExcuseNode says that a node will not bring in what it owned.
	ExcuseNode(ctx context.Context, who Identity, node string) (NodeName, error)
	// DrainNode has a node hand over what it holds and get nothing more; the answer tells what it holds now.
	DrainNode(ctx context.Context, who Identity, node, reason string) (DrainedNode, error)
	// UndrainNode ends that.
	UndrainNode(ctx context.Context, who Identity, node string) (NodeName, error)
}

// NodeName is a node, for programs and for people.
type NodeName struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty" doc:"Host name; absent when the answering node does not know it"`
}

// DutyGroup is the nodes of one datacenter, which grant its duties.
type DutyGroup struct {
	ID         string `json:"id"`
	Generation uint64 `json:"generation" doc:"1, and one more with each recovery"`
	Datacenter string `json:"datacenter"`
	Home       bool   `json:"home" doc:"True for the one group that also grants the duties of the whole mesh"`
}

// Duty is one exclusive job.
type Duty struct {
	Duty       string     `json:"duty"`
	Node       string     `json:"node,omitempty" doc:"Id of the holder; absent when nobody holds it"`
	Name       string     `json:"name,omitempty" doc:"Its host name"`
	Fence      uint64     `json:"fence" doc:"Fencing number: grows with every grant"`
	Since      *time.Time `json:"since,omitempty" doc:"When it was granted, or became free"`
	Why        string     `json:"why,omitempty" doc:"Why this holder was chosen"`
	Last       string     `json:"last,omitempty" doc:"Id of the holder before"`
	LastName   string     `json:"last_name,omitempty"`
	Candidates int        `json:"candidates" doc:"Nodes that would take it, the holder included"`
	HandOver   string     `json:"hand_over,omitempty" doc:"Why it is being handed over; absent when it is not"`
	HandOverMS int64      `json:"hand_over_ms,omitempty" doc:"For how long"`
	To         string     `json:"to,omitempty" doc:"Id of the node it goes to"`
	ToName     string     `json:"to_name,omitempty"`
}

// DutyList is the answer of GET /api/v1/duties.
type DutyList struct {
	Group      DutyGroup `json:"group"`
	Leader     string    `json:"leader,omitempty" doc:"Id of the node that leads the group"`
	LeaderName string    `json:"leader_name,omitempty"`
	Duties     []Duty    `json:"duties" nullable:"false"`
}

// DutyExplanation tells why a duty is where it is.
type DutyExplanation struct {
	Duty       Duty       `json:"duty"`
	Leader     string     `json:"leader"`
	LeaderName string     `json:"leader_name,omitempty"`
	Nodes      []DutyRank `json:"nodes" nullable:"false" doc:"Nodes that said something of it; the first would get it now"`
	Silent     int        `json:"silent" doc:"Live nodes of the datacenter that neither offer themselves nor say why not"`
}

// DutyRank is how one node stands for a duty.
type DutyRank struct {
	Node   string `json:"node"`
	Name   string `json:"name,omitempty"`
	Class  string `json:"class" doc:"wanted, eligible, full, second choice or not eligible: the best come first"`
	Reason string `json:"reason,omitempty"`
	Holds  int    `json:"holds" doc:"Duties it has, this one apart"`
	Holder bool   `json:"holder,omitempty"`
}

// DutyVoters is who grants duties.
type DutyVoters struct {
	Group      DutyGroup     `json:"group"`
	Leader     string        `json:"leader"`
	LeaderName string        `json:"leader_name,omitempty"`
	Term       uint64        `json:"term"`
	Index      uint64        `json:"index" doc:"Newest entry of the log"`
	Voters     []DutyVoter   `json:"voters" nullable:"false"`
	Next       string        `json:"next,omitempty" doc:"What is about to change; absent when nothing is"`
	Owing      []NodeName    `json:"owing,omitempty" doc:"Nodes that have not brought in what they own since the group was founded or recovered: until then it makes no names and grants"`
	Drained    []DrainedNode `json:"drained,omitempty"`
}

// DutyVoter is one node of those.
type DutyVoter struct {
	Node   string `json:"node"`
	Name   string `json:"name,omitempty"`
	Voter  bool   `json:"voter" doc:"False while it catches up"`
	Behind uint64 `json:"behind,omitempty" doc:"Entries that it lacks, while it catches up"`
	State  string `json:"state,omitempty" doc:"What the answering node thinks of it: alive, failed, left or unknown; absent when it is no member"`
}

// DrainedNode is a node that is to hold nothing.
type DrainedNode struct {
	Node   string     `json:"node"`
	Name   string     `json:"name,omitempty"`
	By     string     `json:"by"`
	Reason string     `json:"reason"`
	At     *time.Time `json:"at,omitempty"`
	Holds  int        `json:"holds" doc:"Duties it still has"`
	// Databases are for people.
	Databases []string `json:"databases,omitempty" doc:"Database clusters whose primary was on it: whether it has handed over, or what to do, one line each"`
}

// MoveDuty is what POST /api/v1/duties/move is sent.
type MoveDuty struct {
	Duty string `json:"duty" minLength:"1" maxLength:"253"`
	Node string `json:"node" minLength:"1" maxLength:"253" doc:"Id or name"`
}

// FoundDuties is what POST /api/v1/duties/found is sent.
type FoundDuties struct {
	Home  bool `json:"home,omitempty" doc:"The mesh has no home group, and this is to be it"`
	Force bool `json:"force,omitempty" doc:"Found it although members of the datacenter cannot be asked whether they know a group"`
}

// RecoverDuties is what POST /api/v1/duties/recover is sent.
type RecoverDuties struct {
	Force bool `json:"force,omitempty" doc:"Recover here although another voter has more, or a majority answers"`
}

// NodeBody names a node.
type NodeBody struct {
	Node string `json:"node" minLength:"1" maxLength:"253" doc:"Id or name"`
}

// DrainNode is what POST /api/v1/nodes/{node}/drain is sent.
type DrainNode struct {
	Reason string `json:"reason" maxLength:"1024" doc:"Why, for those who look at the duties"`
}

// Times of requests that ask the leader. It answers within milliseconds; when there is none, people are not kept waiting.
const (
	dutyReadTime  = 5 * time.Second
	dutyWriteTime = 15 * time.Second // an election, and a disk that is slow
	dutyMoveTime  = time.Minute      // the holder stops in order
)

// dutyProblem is what a client hears of an error.
func dutyProblem(err error) *huma.ErrorModel {
	switch {
	case errors.Is(err, ErrDutyConflict), errors.Is(err, ErrAmbiguous):
		return problem(http.StatusConflict, err.Error())
	case errors.Is(err, ErrNoDuties):
		return problem(http.StatusServiceUnavailable, err.Error())
	}
	return problemOf(err)
}

// dutyOperation registers an operation whose answer is asked for within a time.
func dutyOperation[In, Out any](a huma.API, op huma.Operation, limit time.Duration, f func(ctx context.Context, in *In) (Out, error)) {
	op.Tags = []string{"duties"}
	if op.Method != http.MethodGet {
		op.Security = writeSecurity
	}
	huma.Register(a, op, func(ctx context.Context, in *In) (*bodyOf[Out], error) {
		if op.Method != http.MethodGet {
			if err := onlyAdmin(ctx, "change who holds duties"); err != nil {
				return nil, err
			}
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		out, err := f(ctx, in)
		if err != nil {
			return nil, dutyProblem(err)
		}
		return &bodyOf[Out]{out}, nil
	})
}

func registerDuties(a huma.API, d Duties) {
	dutyOperation(a, huma.Operation{
		OperationID: "list-duties", Method: http.MethodGet, Path: "/api/v1/duties", Summary: "Who holds which duty",
		Description: "The duties of this node's datacenter, as the leader of its group knows them: every node gives the same answer.",
	}, dutyReadTime, func(ctx context.Context, _ *struct{}) (DutyList, error) {
		out, err := d.Duties(ctx)
		if out.Duties == nil {
			out.Duties = []Duty{}
		}
		return out, err
	})
	dutyOperation(a, huma.Operation{
		OperationID: "explain-duty", Method: http.MethodGet, Path: "/api/v1/duties/explain", Summary: "Why a duty is where it is",
		Description: "Who could hold it, who could not and why, and why who holds it does.",
	}, dutyReadTime, func(ctx context.Context, in *struct {
		Duty string `query:"duty" required:"true" minLength:"1" maxLength:"253" doc:"Its name, such as vip/10.1.0.53" example:"mirror"`
	}) (DutyExplanation, error) {
		out, err := d.ExplainDuty(ctx, in.Duty)
		if out.Nodes == nil {
			out.Nodes = []DutyRank{}
		}
		return out, err
	})
	dutyOperation(a, huma.Operation{
		OperationID: "move-duty", Method: http.MethodPost, Path: "/api/v1/duties/move", Summary: "Hand a duty to a node",
		Description: "Waits until the node holds it. It stays there as long as the node is fit, and may go elsewhere after that. Administrators only.",
	}, dutyMoveTime, func(ctx context.Context, in *struct{ Body MoveDuty }) (Duty, error) {
		return d.MoveDuty(ctx, identityOf(ctx), in.Body.Duty, in.Body.Node)
	})
	dutyOperation(a, huma.Operation{
		OperationID: "list-voters", Method: http.MethodGet, Path: "/api/v1/duties/voters", Summary: "Who grants duties",
		Description: "The voters of the datacenter's group, what is about to change, and which nodes are drained.",
	}, dutyReadTime, func(ctx context.Context, _ *struct{}) (DutyVoters, error) {
		out, err := d.Voters(ctx)
		if out.Voters == nil {
			out.Voters = []DutyVoter{}
		}
		return out, err
	})
	dutyOperation(a, huma.Operation{
		OperationID: "found-duties", Method: http.MethodPost, Path: "/api/v1/duties/found", Summary: "Found the group of a datacenter",
		Description: "Once in each datacenter but the first, on any of its nodes: the node that is asked becomes the first voter. Refused while a member of " +
			"the datacenter knows a group. Administrators only.",
	}, dutyWriteTime, func(ctx context.Context, in *struct{ Body FoundDuties }) (DutyGroup, error) {
		return d.FoundDuties(ctx, identityOf(ctx), in.Body)
	})
	dutyOperation(a, huma.Operation{
		OperationID: "recover-duties", Method: http.MethodPost, Path: "/api/v1/duties/recover", Summary: "Begin a new generation of the group",
		Description: "For a majority of voters that is lost for good. The node that is asked becomes the only voter, with what it has of the log; messages of the " +
			"former generation are refused. Refused while a majority answers, or another voter has more. Administrators only.",
	}, dutyWriteTime, func(ctx context.Context, in *struct{ Body RecoverDuties }) (DutyGroup, error) {
		return d.RecoverDuties(ctx, identityOf(ctx), in.Body.Force)
	})
	dutyOperation(a, huma.Operation{
		OperationID: "excuse-node", Method: http.MethodPost, Path: "/api/v1/duties/excuse", Summary: "Do not wait for what a node owned",
		Description: "After a recovery names and grants are made again when every node has brought in its own. A node that is gone is excused; what it owned may " +
			"be given to others then. Administrators only.",
	}, dutyWriteTime, func(ctx context.Context, in *struct{ Body NodeBody }) (NodeName, error) {
		return d.ExcuseNode(ctx, identityOf(ctx), in.Body.Node)
	})
	dutyOperation(a, huma.Operation{
		OperationID: "drain-node", Method: http.MethodPost, Path: "/api/v1/nodes/{node}/drain", Summary: "Take all duties off a node",
		Description: "The node hands over what it holds, and gets nothing until it is undrained. The answer comes at once: see the duties for how far it is. " +
			"The primary of a database cluster on it hands over, too, where Failover is auto: that is waited for. Administrators only.",
	}, dutyWriteTime, func(ctx context.Context, in *struct {
		Node string `path:"node" maxLength:"253" doc:"Id or name of the node" example:"box12.dc1.example.com"`
		Body DrainNode
	}) (DrainedNode, error) {
		reason := strings.TrimSpace(in.Body.Reason)
		if reason == "" {
			return DrainedNode{}, fmt.Errorf("%w: reason is blank: say why, for those who wonder where the duties went", hostdb.ErrInvalid)
		}
		return d.DrainNode(ctx, identityOf(ctx), in.Node, reason)
	})
	dutyOperation(a, huma.Operation{
		OperationID: "undrain-node", Method: http.MethodPost, Path: "/api/v1/nodes/{node}/undrain", Summary: "Let a node hold duties again",
		Description: "Administrators only.",
	}, dutyWriteTime, func(ctx context.Context, in *struct {
		Node string `path:"node" maxLength:"253" doc:"Id or name of the node" example:"box12.dc1.example.com"`
	}) (NodeName, error) {
		return d.UndrainNode(ctx, identityOf(ctx), in.Node)
	})
}

// Duties asks who holds which duty.
func (c *Client) Duties(ctx context.Context) (DutyList, error) {
	var out DutyList
	err := c.getJSON(ctx, "/api/v1/duties", &out)
	return out, err
}

// ExplainDuty asks why a duty is where it is.
func (c *Client) ExplainDuty(ctx context.Context, duty string) (DutyExplanation, error) {
	var out DutyExplanation
	body, err := c.get(ctx, "/api/v1/duties/explain", url.Values{"duty": {duty}})
	if err == nil {
		err = c.decode(body, &out)
	}
	return out, err
}

// MoveDuty hands a duty to a node, and waits until it is there. It takes an administrator, as all that follow.
func (c *Client) MoveDuty(ctx context.Context, duty, node string) (Duty, error) {
	var out Duty
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/duties/move", MoveDuty{Duty: duty, Node: node}, &out)
	return out, err
}

// DutyVoters asks who grants duties.
func (c *Client) DutyVoters(ctx context.Context) (DutyVoters, error) {
	var out DutyVoters
	err := c.getJSON(ctx, "/api/v1/duties/voters", &out)
	return out, err
}

// FoundDuties founds the group of a node's datacenter.
func (c *Client) FoundDuties(ctx context.Context, how FoundDuties) (DutyGroup, error) {
	var out DutyGroup
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/duties/found", how, &out)
	return out, err
}

// RecoverDuties begins a new generation of the group on a node.
func (c *Client) RecoverDuties(ctx context.Context, force bool) (DutyGroup, error) {
	var out DutyGroup
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/duties/recover", RecoverDuties{Force: force}, &out)
	return out, err
}

// ExcuseNode says that a node will not bring in what it owned.
func (c *Client) ExcuseNode(ctx context.Context, node string) (NodeName, error) {
	var out NodeName
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/duties/excuse", NodeBody{Node: node}, &out)
	return out, err
}

// DrainNode takes all duties off a node. It does not wait for that.
func (c *Client) DrainNode(ctx context.Context, node, reason string) (DrainedNode, error) {
	var out DrainedNode
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/nodes/"+url.PathEscape(node)+"/drain", DrainNode{Reason: reason}, &out)
	return out, err
}

// UndrainNode lets a node hold duties again.
func (c *Client) UndrainNode(ctx context.Context, node string) (NodeName, error) {
	var out NodeName
	err := c.postJSON(ctx, "/api/v1/nodes/"+url.PathEscape(node)+"/undrain", nil, &out)
	return out, err
}
