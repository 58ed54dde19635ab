package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

var (
	// ErrNodeAlive is returned by Nodes for a live member that is not to be removed by force.
	ErrNodeAlive = errors.New("node is alive")
	// ErrAmbiguous is returned by Nodes for a name that several nodes have.
	ErrAmbiguous = errors.New("several nodes have the name")
)

// Nodes removes members of the mesh for good.
type Nodes interface {
	// RemoveNode removes a node, named by its id or name, and has the whole mesh remember it. The caller has checked that who is an
	// administrator. Errors wrap ErrNotFound for a name that nobody has, ErrNodeAlive for a live member without Force, ErrAmbiguous
	// where several nodes have the name, and hostdb's sentinels. Removing again changes nothing.
	RemoveNode(ctx context.Context, who Identity, node string, how RemoveNode) (NodeRemoved, error)
	// RemovedNodes are those that were removed, sorted by name.
	RemovedNodes() []RemovedNode
}

// RemoveNode is what POST /api/v1/nodes/{node}/remove is sent.
type RemoveNode struct {
	Reason string `json:"reason,omitempty" maxLength:"1024" doc:"Why, for those who read the history"`
	Force  bool   `json:"force,omitempty" doc:"Remove it although it is alive; it is cut off at once"`
}

// NodeRemoved tells what became of a removal.
type NodeRemoved struct {
	ID       string `json:"id"`
	Name     string `json:"name,omitempty"`
	Revision string `json:"revision,omitempty" doc:"Of the operation that has the mesh remember it; absent when it was removed before"`
	Acks     int    `json:"acks" doc:"Boxes that hold it, this one included"`
}

// RemovedNode is a node that is not let in again.
type RemovedNode struct {
	ID     string     `json:"id"`
	Name   string     `json:"name,omitempty"`
	At     *time.Time `json:"at,omitempty"`
	By     string     `json:"by,omitempty"`
	Reason string     `json:"reason,omitempty"`
}

// RemovedNodesBody is the answer of GET /api/v1/nodes/removed.
type RemovedNodesBody struct {
	Nodes []RemovedNode `json:"nodes" nullable:"false"`
}

func registerNodes(a huma.API, n Nodes) {
	huma.Register(a, huma.Operation{
		OperationID: "list-removed-nodes", Method: http.MethodGet, Path: "/api/v1/nodes/removed",
		Summary: "Nodes that were removed", Tags: []string{"mesh"},
		Description: "Their ids are not let in again, by any member.",
	}, func(context.Context, *struct{}) (*bodyOf[RemovedNodesBody], error) {
		list := n.RemovedNodes()
		if list == nil {
			list = []RemovedNode{}
		}
		return &bodyOf[RemovedNodesBody]{RemovedNodesBody{list}}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "remove-node", Method: http.MethodPost, Path: "/api/v1/nodes/{node}/remove",
		Summary: "Remove a node for good", Tags: []string{"mesh"}, Security: writeSecurity,
		Description: "Only an administrator may. The node's id is fenced for ever, on every member, also on those that are away now. The mesh key is not " +
			"revoked: whoever has it can join as a new node. A member that is alive is refused without force.",
	}, func(ctx context.Context, in *struct {
		Node string `path:"node" maxLength:"253" doc:"Id or name of the node" example:"box12.dc1.example.com"`
		Body RemoveNode
	}) (*bodyOf[NodeRemoved], error) {
		if err := onlyAdmin(ctx, "remove a node"); err != nil {
			return nil, err
		}
		in.Body.Reason = strings.TrimSpace(in.Body.Reason)
		out, err := n.RemoveNode(ctx, identityOf(ctx), in.Node, in.Body)
		switch {
		case errors.Is(err, ErrNodeAlive), errors.Is(err, ErrAmbiguous):
			return nil, problem(http.StatusConflict, err.Error())
		case err != nil:
			return nil, problemOf(err)
		}
		return &bodyOf[NodeRemoved]{out}, nil
	})
}

// RemoveNode removes a node for good. It takes an administrator.
func (c *Client) RemoveNode(ctx context.Context, node string, how RemoveNode) (NodeRemoved, error) {
	var out NodeRemoved
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/nodes/"+url.PathEscape(node)+"/remove", how, &out)
	return out, err
}

// RemovedNodes asks which nodes were removed.
func (c *Client) RemovedNodes(ctx context.Context) ([]RemovedNode, error) {
	var out RemovedNodesBody
	err := c.getJSON(ctx, "/api/v1/nodes/removed", &out)
	return out.Nodes, err
}
