package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Membership tells who is in the mesh, as this node knows it.
type Membership interface {
	// Members are all known members, whatever their state, sorted by name. The caller owns the slice.
	Members() []Member
}

// Member is one node of the mesh, as the answering node knows it.
type Member struct {
	ID         string    `json:"id" doc:"Permanent node id: 32 hexadecimal digits"`
	Name       string    `json:"name" doc:"Host name: its key in HostDB's hosts"`
	Addr       string    `json:"addr" doc:"IP address at which the others reach it"`
	GossipPort uint16    `json:"gossip_port" doc:"Port of the gossip, TCP and UDP"`
	StreamPort uint16    `json:"stream_port" doc:"Port of the peer streams, TCP"`
	Datacenter string    `json:"datacenter,omitempty" doc:"Datacenter it says it is in"`
	Rack       string    `json:"rack,omitempty" doc:"Rack it says it is in"`
	Protocol   int       `json:"protocol" doc:"Version of the mesh protocol it speaks; 0 = unknown"`
	State      string    `json:"state" enum:"alive,failed,left,unknown" doc:"What the answering node thinks of it: failed stopped answering, left said goodbye, unknown was not heard of since the answering node started"`
	Since      time.Time `json:"since" doc:"When the answering node saw it enter this state"`
	Self       bool      `json:"self,omitempty" doc:"True for the answering node"`
	RTTMillis  float64   `json:"rtt_ms,omitempty" doc:"Estimated round trip from the answering node in milliseconds; 0 = unknown"`
}

// MembersBody is the answer of GET /api/v1/members.
type MembersBody struct {
	Members []Member `json:"members" nullable:"false"`
}

func registerMembers(a huma.API, m Membership) {
	huma.Register(a, huma.Operation{
		OperationID: "list-members", Method: http.MethodGet, Path: "/api/v1/members",
		Summary: "Members of the mesh", Tags: []string{"mesh"},
		Description: "All members this node knows of, whatever their state. Each node has its own opinion: ask another one when in doubt.",
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[MembersBody], error) {
		list := m.Members()
		if list == nil {
			list = []Member{}
		}
		return &bodyOf[MembersBody]{Body: MembersBody{Members: list}}, nil
	})
}

// Members asks for the members of the mesh, as the node that answers knows them.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	var out MembersBody
	err := c.getJSON(ctx, "/api/v1/members", &out)
	return out.Members, err
}
