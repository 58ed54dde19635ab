package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// DNSQueries tells what this node is asked by DNS.
type DNSQueries interface {
	// DNSTop is counted since the agent started.
	DNSTop() DNSTop
}

// DNSTop is what this node was asked by DNS since it started, and by whom.
type DNSTop struct {
	Queries []DNSQueryCount `json:"queries" nullable:"false" doc:"Most first"`
	Askers  []DNSAsker      `json:"askers" nullable:"false" doc:"Who asked most, about; most first, of at most some hundred that are remembered"`
}

// DNSQueryCount is how often something was asked and answered so.
type DNSQueryCount struct {
	Zone    string `json:"zone" doc:"Without the final dot; empty when the name is in no zone of ours"`
	Type    string `json:"type" doc:"A, AAAA, ...; other stands for types without a name" example:"A"`
	Rcode   string `json:"rcode" doc:"NOERROR, NXDOMAIN, ..." example:"NOERROR"`
	Queries uint64 `json:"queries"`
}

// DNSAsker is an address that asks.
type DNSAsker struct {
	Addr    string `json:"addr" doc:"IP address"`
	Queries uint64 `json:"queries" doc:"About how many questions it asked"`
	Error   uint64 `json:"error" doc:"By how many that may be too high"`
}

func registerDNSTop(a huma.API, q DNSQueries) {
	huma.Register(a, huma.Operation{
		OperationID: "dns-top", Method: http.MethodGet, Path: "/api/v1/dns/top",
		Summary: "What this node is asked by DNS, and by whom", Tags: []string{"dns"},
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[DNSTop], error) {
		return &bodyOf[DNSTop]{Body: q.DNSTop()}, nil
	})
}

// DNSTop asks a node what it is asked by DNS.
func (c *Client) DNSTop(ctx context.Context) (DNSTop, error) {
	var out DNSTop
	err := c.getJSON(ctx, "/api/v1/dns/top", &out)
	return out, err
}
