package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Zones gives out the DNS zones this node serves.
type Zones interface {
	// Zones are sorted by name.
	Zones() []Zone
	// WriteZone writes a zone as a master file (RFC 1035 section 5). name is in lower case and has no final dot.
	// It returns an error that wraps ErrNotFound, before it writes, when there is no such zone.
	WriteZone(w io.Writer, name string) error
}

// Zone is one DNS zone.
type Zone struct {
	Name    string `json:"name" doc:"Without the final dot"`
	Serial  uint32 `json:"serial" doc:"Serial of its SOA"`
	Records int    `json:"records" doc:"Number of resource records"`
	Live    bool   `json:"live,omitempty" doc:"True when its names follow which members are alive; such a zone is not transferable"`
}

// ZonesBody is the answer of GET /api/v1/dns/zones.
type ZonesBody struct {
	Zones []Zone `json:"zones" nullable:"false"`
}

// zoneType is the media type of master files (RFC 4027).
const zoneType = "text/dns"

func registerZones(a huma.API, z Zones) {
	huma.Register(a, huma.Operation{
		OperationID: "list-zones", Method: http.MethodGet, Path: "/api/v1/dns/zones",
		Summary: "DNS zones this node serves", Tags: []string{"dns"},
	}, func(ctx context.Context, _ *struct{}) (*bodyOf[ZonesBody], error) {
		list := z.Zones()
		if list == nil {
			list = []Zone{}
		}
		return &bodyOf[ZonesBody]{Body: ZonesBody{Zones: list}}, nil
	})

	type input struct {
		Zone string `path:"zone" maxLength:"255" doc:"Name of the zone; case and a final dot do not matter" example:"dc1.example.com"`
	}
	type output struct {
		ContentType string `header:"Content-Type"`
		Body        []byte
	}
	huma.Register(a, huma.Operation{
		OperationID: "get-zone", Method: http.MethodGet, Path: "/api/v1/dns/zones/{zone}",
		Summary: "A zone as a master file", Tags: []string{"dns"},
		Responses: map[string]*huma.Response{"200": {
			Description: "The zone in the format of RFC 1035, section 5",
			Content:     map[string]*huma.MediaType{zoneType: {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, func(ctx context.Context, in *input) (*output, error) {
		var b bytes.Buffer
		if err := z.WriteZone(&b, strings.ToLower(strings.TrimSuffix(in.Zone, "."))); err != nil {
			return nil, problemOf(fmt.Errorf("zone %q: %w", in.Zone, err))
		}
		return &output{ContentType: zoneType, Body: b.Bytes()}, nil
	})
}

// Zones asks a node which DNS zones it serves.
func (c *Client) Zones(ctx context.Context) ([]Zone, error) {
	var out ZonesBody
	err := c.getJSON(ctx, "/api/v1/dns/zones", &out)
	return out.Zones, err
}

// WriteZone asks a node for a zone and writes its master file to w.
func (c *Client) WriteZone(ctx context.Context, w io.Writer, zone string) error {
	body, err := c.get(ctx, "/api/v1/dns/zones/"+url.PathEscape(zone), nil)
	if err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}
