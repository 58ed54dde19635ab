package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Doctor finds what is wrong, in HostDB and with this node.
type Doctor interface {
	// Examine looks at this node's replica and at the node. It may take seconds, and ends with ctx: the report is then
	// not complete. Errors wrap hostdb's sentinels: ErrInvalid for the name of a check that does not exist, ErrNotFound
	// for a host that is not there and that nothing names.
	Examine(ctx context.Context, opts DoctorOptions) (DoctorReport, error)
}

// NodeCheck is the name under which what is wrong with the node itself is chosen or left out.
const NodeCheck = "node"

// DoctorOptions narrow an examination. The zero value is all of it.
type DoctorOptions struct {
	Only  []string // names of checks to run, NodeCheck among them. Empty = all.
	Skip  []string // names of checks not to run
	Host  string   // only what concerns this host, and nothing of the node. Empty = everything.
	Limit int      // most findings of each check in the answer. 0 = all.
}

// DoctorReport is what an examination found.
type DoctorReport struct {
	Version  string          `json:"version" doc:"The state of HostDB that was looked at: at the same version every node finds the same"`
	Complete bool            `json:"complete" doc:"False when there was no time for all of it: what is told is true, and more may be wrong"`
	Errors   int             `json:"errors" doc:"Findings of that severity in HostDB, those beyond the limit included"`
	Warnings int             `json:"warnings" doc:"As errors"`
	Checks   []DoctorCheck   `json:"checks" nullable:"false" doc:"What was looked for"`
	Findings []DoctorFinding `json:"findings" nullable:"false" doc:"What is wrong with HostDB: by check, then errors first, then by id"`
	Node     []Problem       `json:"node" nullable:"false" doc:"What is wrong with this node, as in its status; another node has other problems"`
}

// Failed reports whether something is wrong that a person should look at now: an error in HostDB or of the node, with
// strict also a warning, or an examination that did not come to its end.
func (r DoctorReport) Failed(strict bool) bool {
	for _, p := range r.Node {
		if p.Severity == SeverityError {
			return true
		}
	}
	return r.Errors > 0 || strict && r.Warnings > 0 || !r.Complete
}

// DoctorCheck is one kind of examination.
type DoctorCheck struct {
	Name     string `json:"name"`
	Doc      string `json:"doc" doc:"What it looks for"`
	Errors   int    `json:"errors" doc:"How many it found, those beyond the limit included"`
	Warnings int    `json:"warnings"`
}

// SeverityWarning is for what is probably not as meant. SeverityError is the other severity of a finding.
const SeverityWarning = "warning"

// DoctorFinding is one thing that is wrong with HostDB.
type DoctorFinding struct {
	Check    string   `json:"check"`
	Severity string   `json:"severity" enum:"error,warning" doc:"error: cannot be done as it is written. warning: probably not as meant"`
	ID       string   `json:"id" doc:"Where to look first: hosts/x, tags/y, tags/y/members, tags/y/perms, or hostdb for the whole"`
	Path     string   `json:"path,omitempty" doc:"Leads into the data; or the member, or the user"`
	Message  string   `json:"message"`
	Remedy   string   `json:"remedy"`
	Related  []string `json:"related,omitempty" doc:"Other keys that have a part in it, sorted, hosts last; at most 20"`
	More     int      `json:"more,omitempty" doc:"How many related keys were left out"`
}

func registerDoctor(a huma.API, d Doctor) {
	type input struct {
		Check []string `query:"check" maxItems:"100" doc:"Only these checks, divided by commas; node is what is wrong with the node" example:"[\"names\"]"`
		Skip  []string `query:"skip" maxItems:"100" doc:"All but these checks"`
		Host  string   `query:"host" maxLength:"253" doc:"Only what concerns this host"`
		Limit int      `query:"limit" minimum:"0" doc:"At most so many findings of each check; 0 = all"`
	}
	huma.Register(a, huma.Operation{
		OperationID: "examine", Method: http.MethodGet, Path: "/api/v1/doctor",
		Summary: "What is wrong", Tags: []string{"node"},
		Description: "Looks at all of HostDB for what is wrong across keys (members that are not there, addresses that two hosts claim, tags that disagree) " +
			"and in each (sections that cannot be read), and adds what is wrong with the node that answers. It changes nothing.",
	}, func(ctx context.Context, in *input) (*bodyOf[DoctorReport], error) {
		r, err := d.Examine(ctx, DoctorOptions{Only: in.Check, Skip: in.Skip, Host: in.Host, Limit: in.Limit})
		if err != nil {
			return nil, problemOf(err)
		}
		if r.Checks == nil {
			r.Checks = []DoctorCheck{}
		}
		if r.Findings == nil {
			r.Findings = []DoctorFinding{}
		}
		if r.Node == nil {
			r.Node = []Problem{}
		}
		return &bodyOf[DoctorReport]{Body: r}, nil
	})
}

// Doctor asks a node what is wrong.
func (c *Client) Doctor(ctx context.Context, opts DoctorOptions) (DoctorReport, error) {
	q := url.Values{}
	for name, value := range map[string]string{"check": strings.Join(opts.Only, ","), "skip": strings.Join(opts.Skip, ","), "host": opts.Host} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if opts.Limit > 0 {
		q.Set("limit", strconv.Itoa(opts.Limit))
	}
	var out DoctorReport
	body, err := c.get(ctx, "/api/v1/doctor", q)
	if err == nil {
		err = c.decode(body, &out)
	}
	return out, err
}
