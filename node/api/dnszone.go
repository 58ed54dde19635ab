package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// DNSDesk answers what people ask about zones beyond their content. Names are in lower case and without final dot, but for
// those in records. Errors wrap ErrNotFound for zones that are not there, and hostdb's sentinels.
type DNSDesk interface {
	// DNSProblems is what cannot be served as it was written, of one zone or, with "", of all.
	DNSProblems(zone string) (DNSCheck, error)
	// DNSDiff compares a zone in two states: revisions or times; "" for to is now.
	DNSDiff(ctx context.Context, zone, from, to string) (DNSDiff, error)
	// DNSCompare compares a zone with what another server has of it.
	DNSCompare(ctx context.Context, q DNSCompareQuery) (DNSDiff, error)
	// DNSLookup is what a name is answered with, now or, with at, as of a revision or time.
	DNSLookup(ctx context.Context, name, typ, at string) (DNSLookup, error)
	// DNSExplain is why a name is answered as it is.
	DNSExplain(name string) (DNSExplanation, error)
	// DNSImport makes hosts and a tag of a zone file.
	DNSImport(ctx context.Context, who Identity, file []byte, opts DNSImportOptions) (DNSImportReport, error)
}

// DNSProblem is something that stands in HostDB and is not, or not quite, in DNS.
type DNSProblem struct {
	Zone     string `json:"zone,omitempty" doc:"Without the final dot; absent when it concerns none in particular"`
	Severity string `json:"severity" enum:"error,warning" doc:"error: it is not answered, or leads nowhere. warning: all is answered"`
	Key      string `json:"key" doc:"What to look at: hosts/x or tags/y"`
	Name     string `json:"name,omitempty" doc:"The DNS name"`
	Reason   string `json:"reason"`
}

// DNSCheck is the answer of GET /api/v1/dns/problems.
type DNSCheck struct {
	Version  string       `json:"version" doc:"The state of HostDB that was looked at"`
	Zones    int          `json:"zones" doc:"How many were looked at"`
	Problems []DNSProblem `json:"problems" nullable:"false" doc:"By zone, then by key"`
}

// Failed reports whether there is an error among the problems.
func (c DNSCheck) Failed() bool {
	for _, p := range c.Problems {
		if p.Severity == SeverityError {
			return true
		}
	}
	return false
}

// DNSDiff is how two contents of a zone differ. Records are as in a zone file. The SOA's serial, refresh, retry and expire do
// not count: hostmesh makes them.
type DNSDiff struct {
	Zone     string   `json:"zone"`
	From     string   `json:"from" doc:"The first state: a revision or time as it was asked for, or the other server"`
	To       string   `json:"to" doc:"The second one"`
	Removed  []string `json:"removed" nullable:"false" doc:"Records of the first alone"`
	Added    []string `json:"added" nullable:"false" doc:"Records of the second alone"`
	TTLs     []string `json:"ttls,omitempty" doc:"Records of both with another time to live: as in the first, and the second's after a semicolon. With another server only"`
	LeftOut  int      `json:"left_out,omitempty" doc:"Records that were not compared: DNSSEC's, which are made anew"`
	Settled  *bool    `json:"settled,omitempty" doc:"False when writes of before that moment may still arrive; absent for the present, or when it is not known"`
	Compared int      `json:"compared" doc:"Records of the second state"`
}

// Same reports whether there is no difference.
func (d DNSDiff) Same() bool { return len(d.Removed)+len(d.Added)+len(d.TTLs) == 0 }

// DNSCompareQuery is what POST /api/v1/dns/compare is sent.
type DNSCompareQuery struct {
	Zone   string `json:"zone" minLength:"1" maxLength:"255" example:"dc1.example.com"`
	Server string `json:"server" minLength:"1" maxLength:"255" doc:"Address or name of the other server, with a port where it is not 53" example:"10.1.0.53"`
	Key    string `json:"key,omitempty" maxLength:"127" doc:"TSIG key of the mesh to sign the transfer with"`
}

// DNSLookup is the answer of GET /api/v1/dns/lookup. Records are as in a zone file.
type DNSLookup struct {
	Name          string    `json:"name" doc:"Without the final dot"`
	Type          string    `json:"type"`
	Zone          string    `json:"zone,omitempty" doc:"The zone it lies in; absent when none is served here"`
	Rcode         string    `json:"rcode" example:"NOERROR"`
	Authoritative bool      `json:"authoritative" doc:"False for a delegation to other servers"`
	Answer        []string  `json:"answer" nullable:"false"`
	Authority     []string  `json:"authority" nullable:"false"`
	Additional    []string  `json:"additional" nullable:"false"`
	At            string    `json:"at,omitempty" doc:"The moment that was asked for; absent for now"`
	Version       string    `json:"version,omitempty" doc:"The state of HostDB that the present answer comes from"`
	Changed       *Revision `json:"changed,omitempty" doc:"The newest revision until then that wrote something of which the answer is made. Absent when this node holds none, and for names of the mesh itself"`
	Settled       *bool     `json:"settled,omitempty" doc:"False when writes of before that moment may still arrive; absent for the present, or when it is not known"`
}

// DNSExplanation is the answer of GET /api/v1/dns/explain.
type DNSExplanation struct {
	Name    string      `json:"name" doc:"Without the final dot"`
	Zone    string      `json:"zone,omitempty" doc:"The zone it lies in; absent when none is served here"`
	Kind    string      `json:"kind" enum:"live,records,wildcard,delegated,empty,nothing,not-ours" doc:"live: the members of a tag that are up. records: by hand or of hosts. empty: only names below it are there"`
	At      string      `json:"at" doc:"The wildcard or delegation that answers; the name itself otherwise"`
	Tag     string      `json:"tag,omitempty" doc:"Of a live name"`
	All     bool        `json:"all,omitempty" doc:"True when nobody would be left, so that all with an address are answered"`
	Frozen  bool        `json:"frozen,omitempty" doc:"True while too many members failed at once: who is left out stays as it was"`
	Members []DNSMember `json:"members,omitempty" doc:"Of a live name: the tag's members, by key"`
	Records []DNSRecord `json:"records,omitempty" doc:"Of other names"`
}

// DNSMember is why a member of a tag is answered, or is not.
type DNSMember struct {
	Host      string   `json:"host"`
	Addresses []string `json:"addresses" nullable:"false"`
	In        bool     `json:"in" doc:"It is answered"`
	Why       string   `json:"why"`
}

// DNSRecord is who put a record there.
type DNSRecord struct {
	Record   string `json:"record" doc:"As in a zone file"`
	Key      string `json:"key" doc:"hosts/x, tags/y or mesh"`
	Answered bool   `json:"answered" doc:"False when something else stands before it"`
}

// DNSImportOptions say what to make of a zone file.
type DNSImportOptions struct {
	Zone   string // "" is that of the file's SOA
	Tag    string // "" is the zone's name
	DryRun bool
	Log    string
}

// DNSImportReport is what became of a zone file.
type DNSImportReport struct {
	Zone     string   `json:"zone"`
	Tag      string   `json:"tag" doc:"The tag that makes the zone now"`
	Records  int      `json:"records" doc:"Records of the file, without the SOA"`
	Hosts    []string `json:"hosts" nullable:"false" doc:"Hosts that were made"`
	Known    []string `json:"known" nullable:"false" doc:"Hosts that were there with the same addresses, and are members of the tag now"`
	Names    int      `json:"names" doc:"Names whose records stand in the tag's section"`
	Problems []string `json:"problems" nullable:"false" doc:"What was not taken, or not quite, and why"`
	DryRun   bool     `json:"dry_run,omitempty" doc:"Nothing was written"`
	Revision string   `json:"revision,omitempty" doc:"Absent when nothing was written"`
	Acks     int      `json:"acks,omitempty" doc:"Boxes that hold the write, this one included"`
}

func zoneName(text string) string { return strings.ToLower(strings.TrimSuffix(text, ".")) }

// maxZoneFile bounds a zone file, in bytes: a quarter of a million records fit in it.
const maxZoneFile = 16 << 20

func registerDNSDesk(a huma.API, d DNSDesk) {
	huma.Register(a, huma.Operation{
		OperationID: "check-dns", Method: http.MethodGet, Path: "/api/v1/dns/problems",
		Summary: "What cannot be served as it was written", Tags: []string{"dns"},
	}, func(_ context.Context, in *struct {
		Zone string `query:"zone" maxLength:"255" doc:"Only of this zone"`
	}) (*bodyOf[DNSCheck], error) {
		out, err := d.DNSProblems(zoneName(in.Zone))
		if err != nil {
			return nil, problemOf(err)
		}
		if out.Problems == nil {
			out.Problems = []DNSProblem{}
		}
		return &bodyOf[DNSCheck]{Body: out}, nil
	})
	filled := func(out DNSDiff, err error) (*bodyOf[DNSDiff], error) {
		if err != nil {
			return nil, historyProblem(err)
		}
		if out.Removed == nil {
			out.Removed = []string{}
		}
		if out.Added == nil {
			out.Added = []string{}
		}
		return &bodyOf[DNSDiff]{Body: out}, nil
	}
	huma.Register(a, huma.Operation{
		OperationID: "diff-zone", Method: http.MethodGet, Path: "/api/v1/dns/zones/{zone}/diff",
		Summary: "How a zone differs between two states", Tags: []string{"dns"},
		Description: "Both are compiled anew from HostDB's history, one request at a time.",
	}, func(ctx context.Context, in *struct {
		Zone string `path:"zone" maxLength:"255" doc:"Name of the zone" example:"dc1.example.com"`
		From string `query:"from" required:"true" maxLength:"64" doc:"A revision or a time"`
		To   string `query:"to" maxLength:"64" doc:"A revision or a time; empty = now"`
	}) (*bodyOf[DNSDiff], error) {
		return filled(d.DNSDiff(ctx, zoneName(in.Zone), in.From, in.To))
	})
	huma.Register(a, huma.Operation{
		OperationID: "lookup-dns", Method: http.MethodGet, Path: "/api/v1/dns/lookup",
		Summary: "What a name is answered with, or was", Tags: []string{"dns"},
		Description: "A past answer is compiled anew from HostDB's history, one request at a time. What the mesh knew then is not known any more: of the past, live names have all members that were not retired.",
	}, func(ctx context.Context, in *struct {
		Name string `query:"name" required:"true" maxLength:"255" example:"web1.dc1.example.com"`
		Type string `query:"type" maxLength:"16" default:"A" doc:"Type of record"`
		At   string `query:"at" maxLength:"64" doc:"A revision or a time; empty = now"`
	}) (*bodyOf[DNSLookup], error) {
		out, err := d.DNSLookup(ctx, zoneName(in.Name), in.Type, in.At)
		if err != nil {
			return nil, historyProblem(err)
		}
		for _, list := range []*[]string{&out.Answer, &out.Authority, &out.Additional} {
			if *list == nil {
				*list = []string{}
			}
		}
		return &bodyOf[DNSLookup]{Body: out}, nil
	})
	huma.Register(a, huma.Operation{
		OperationID: "explain-dns", Method: http.MethodGet, Path: "/api/v1/dns/explain",
		Summary: "Why a name is answered as it is", Tags: []string{"dns"},
		Description: "Of a live name, why each member is in or out, as this node sees it. Of others, which key put each record there.",
	}, func(_ context.Context, in *struct {
		Name string `query:"name" required:"true" maxLength:"255" example:"web.tag.mesh.internal"`
	}) (*bodyOf[DNSExplanation], error) {
		out, err := d.DNSExplain(zoneName(in.Name))
		if err != nil {
			return nil, problemOf(err)
		}
		return &bodyOf[DNSExplanation]{Body: out}, nil
	})
	admin := func(ctx context.Context) error {
		if who := identityOf(ctx); !who.Admin {
			return problem(http.StatusForbidden, fmt.Sprintf("%s is no administrator: only one may have the agent ask another server", who.User))
		}
		return nil
	}
	huma.Register(a, huma.Operation{
		OperationID: "compare-zone", Method: http.MethodPost, Path: "/api/v1/dns/compare",
		Summary: "How a zone differs from what another server has", Tags: []string{"dns"}, Security: writeSecurity,
		Description: "The agent transfers the zone from the other server (AXFR). Only an administrator may.",
	}, func(ctx context.Context, in *struct{ Body DNSCompareQuery }) (*bodyOf[DNSDiff], error) {
		if err := admin(ctx); err != nil {
			return nil, err
		}
		in.Body.Zone = zoneName(in.Body.Zone)
		return filled(d.DNSCompare(ctx, in.Body))
	})
	huma.Register(a, huma.Operation{
		OperationID: "import-zone", Method: http.MethodPost, Path: "/api/v1/dns/import",
		Summary: "Make hosts and a tag of a zone file", Tags: []string{"dns"}, Security: writeSecurity,
		Description:  "The body is a zone file (RFC 1035, with $ORIGIN, $TTL and $GENERATE, without $INCLUDE). All is one revision. What cannot be taken is listed, and the rest is taken.",
		MaxBodyBytes: maxZoneFile,
	}, func(ctx context.Context, in *struct {
		Zone    string `query:"zone" maxLength:"255" doc:"Name of the zone; by default that of the SOA"`
		Tag     string `query:"tag" maxLength:"253" doc:"The tag to make; by default it is called as the zone"`
		DryRun  bool   `query:"dry_run" doc:"Only tell what would be done"`
		Log     string `query:"log" maxLength:"4096" doc:"Why, for those who read the history"`
		RawBody []byte `contentType:"text/dns"`
	}) (*bodyOf[DNSImportReport], error) {
		out, err := d.DNSImport(ctx, identityOf(ctx), in.RawBody, DNSImportOptions{Zone: zoneName(in.Zone), Tag: in.Tag, DryRun: in.DryRun, Log: in.Log})
		if err != nil {
			return nil, problemOf(err)
		}
		for _, list := range []*[]string{&out.Hosts, &out.Known, &out.Problems} {
			if *list == nil {
				*list = []string{}
			}
		}
		return &bodyOf[DNSImportReport]{Body: out}, nil
	})
}

// DNSProblems asks what cannot be served as it was written, of one zone or, with "", of all.
func (c *Client) DNSProblems(ctx context.Context, zone string) (DNSCheck, error) {
	query := url.Values{}
	setUnlessEmpty(query, "zone", zone)
	var out DNSCheck
	err := c.queryJSON(ctx, "/api/v1/dns/problems", query, &out)
	return out, err
}

// DNSDiff asks how a zone differs between two revisions or times; "" for to is now.
func (c *Client) DNSDiff(ctx context.Context, zone, from, to string) (DNSDiff, error) {
	query := url.Values{"from": {from}}
	setUnlessEmpty(query, "to", to)
	var out DNSDiff
	err := c.queryJSON(ctx, "/api/v1/dns/zones/"+url.PathEscape(zone)+"/diff", query, &out)
	return out, err
}

// DNSLookup asks what a name is answered with; at is a revision or time, "" for now.
func (c *Client) DNSLookup(ctx context.Context, name, typ, at string) (DNSLookup, error) {
	query := url.Values{"name": {name}}
	setUnlessEmpty(query, "type", typ)
	setUnlessEmpty(query, "at", at)
	var out DNSLookup
	err := c.queryJSON(ctx, "/api/v1/dns/lookup", query, &out)
	return out, err
}

// DNSExplain asks why a name is answered as it is.
func (c *Client) DNSExplain(ctx context.Context, name string) (DNSExplanation, error) {
	var out DNSExplanation
	err := c.queryJSON(ctx, "/api/v1/dns/explain", url.Values{"name": {name}}, &out)
	return out, err
}

// DNSCompare asks how a zone differs from what another server has of it. It takes an administrator.
func (c *Client) DNSCompare(ctx context.Context, q DNSCompareQuery) (DNSDiff, error) {
	var out DNSDiff
	err := c.writeJSON(ctx, http.MethodPost, "/api/v1/dns/compare", q, &out)
	return out, err
}

// DNSImport has hosts and a tag made of a zone file.
func (c *Client) DNSImport(ctx context.Context, file []byte, opts DNSImportOptions) (DNSImportReport, error) {
	query := url.Values{}
	setUnlessEmpty(query, "zone", opts.Zone)
	setUnlessEmpty(query, "tag", opts.Tag)
	setUnlessEmpty(query, "log", opts.Log)
	if opts.DryRun {
		query.Set("dry_run", "true")
	}
	var out DNSImportReport
	body, _, err := c.roundTrip(ctx, http.MethodPost, "/api/v1/dns/import", query, zoneType, strings.NewReader(string(file)))
	if err != nil {
		return out, err
	}
	return out, c.decode(body, &out)
}
