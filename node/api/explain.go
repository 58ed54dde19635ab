package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
)

// Explainer gives the replica out of which hosts are explained. A hostdb.Store is one.
type Explainer interface {
	View() hostdb.View
}

// Explanation is what a host gets from its own document and all its tags, and where each value comes from.
type Explanation struct {
	Host          string                `json:"host"`
	Version       string                `json:"version" doc:"The state of HostDB that it is of"`
	Sources       []ExplainedSource     `json:"sources" nullable:"false" doc:"The host and its tags, the strongest first"`
	Settings      []ExplainedSetting    `json:"settings" nullable:"false" doc:"Sorted by path"`
	Disagreements []ExplainedDispute    `json:"disagreements" nullable:"false" doc:"Places where sources of equal rank and priority say different things"`
	Problems      []ExplainedDeficiency `json:"problems" nullable:"false" doc:"What cannot be read of all this together, such as a Backup for which no tag names a repository"`
}

// ExplainedSource is a document that has a say.
type ExplainedSource struct {
	ID       string `json:"id" doc:"hosts/KEY or tags/KEY"`
	Rank     string `json:"rank" enum:"host,direct,inherited" doc:"host: the host itself. direct: a tag that lists it. inherited: a tag that reaches it through another, and the tag all. A nearer one beats all further ones"`
	Priority int    `json:"priority" doc:"Decides between tags of one rank: the higher wins, then the name that is first in the alphabet"`
}

// ExplainedSetting is one value that the host gets.
type ExplainedSetting struct {
	Path       string           `json:"path"`
	Value      json.RawMessage  `json:"value" doc:"Scalars that JSON has no spelling for (0755, 2024-01-01) are strings"`
	YAML       string           `json:"yaml" doc:"The value in its writer's spelling, as canonical YAML"`
	From       ExplainedSource  `json:"from"`
	Overridden []ExplainedLoser `json:"overridden,omitempty" doc:"What weaker sources say instead, the strongest first. A source that says the same is not among them"`
}

// ExplainedLoser is what a weaker source says.
type ExplainedLoser struct {
	Path  string          `json:"path" doc:"That of the setting; or above or below it, where one is a mapping and the other is not"`
	Value json.RawMessage `json:"value"`
	YAML  string          `json:"yaml"`
	From  ExplainedSource `json:"from"`
	Equal bool            `json:"equal,omitempty" doc:"True when it is as strong as the winner, and only their names decided"`
}

// ExplainedDispute is a place where sources of equal strength say different things.
type ExplainedDispute struct {
	Path  string            `json:"path"`
	Used  ExplainedSource   `json:"used"`
	Other []ExplainedSource `json:"other" nullable:"false"`
}

// ExplainedDeficiency is what is wrong with the combination.
type ExplainedDeficiency struct {
	Path     string `json:"path"`
	Text     string `json:"text"`
	Severity string `json:"severity" enum:"error,warning"`
}

// yamlType is the media type of YAML (RFC 9512).
const yamlType = "application/yaml"

func registerExplain(a huma.API, x Explainer) {
	type input struct {
		Host string `path:"host" maxLength:"253" doc:"Key of the host" example:"web1.dc1.example.com"`
		Path string `query:"path" maxLength:"4096" doc:"Only what stands there or below, with slashes" example:"Monitoring/Prometheus"`
	}
	huma.Register(a, huma.Operation{
		OperationID: "explain-host", Method: http.MethodGet, Path: "/api/v1/explain/{host}",
		Summary: "Where each value of a host comes from", Tags: []string{"hostdb"},
		Description: "What the host's own document and all its tags say together, with the source of each value and what it won over.",
	}, func(ctx context.Context, in *input) (*bodyOf[Explanation], error) {
		view := x.View()
		if err := needHost(view, in.Host); err != nil {
			return nil, problemOf(err)
		}
		out, err := explanation(view, in.Host, strings.Trim(in.Path, "/"))
		if err != nil {
			return nil, problemOf(err)
		}
		return &bodyOf[Explanation]{Body: out}, nil
	})
	registerEffective(a, x)
}

func registerEffective(a huma.API, x Explainer) {
	type input struct {
		Host   string `path:"host" maxLength:"253" doc:"Key of the host" example:"web1.dc1.example.com"`
		As     string `query:"as" enum:"json,yaml" doc:"The form of the answer; absent = what Accept asks for, else json"`
		Accept string `header:"Accept"`
	}
	type output struct {
		ContentType string `header:"Content-Type"`
		Vary        string `header:"Vary"`
		Body        []byte
	}
	huma.Register(a, huma.Operation{
		OperationID: "get-effective", Method: http.MethodGet, Path: "/api/v1/effective/{host}",
		Summary: "What a host gets from itself and all its tags", Tags: []string{"hostdb"},
		Description: "One document: the host's facts, and the sections of its tags that configure members, combined. In YAML, values keep their writer's spelling.",
		Responses: map[string]*huma.Response{"200": {
			Description: "The document",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{}}, yamlType: {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, func(ctx context.Context, in *input) (*output, error) {
		view := x.View()
		if err := needHost(view, in.Host); err != nil {
			return nil, problemOf(err)
		}
		doc := section.Effective(view, in.Host).Document
		if in.As == "yaml" || in.As == "" && wantsYAML(in.Accept) {
			return &output{ContentType: yamlType, Vary: "Accept", Body: []byte(doc.YAML())}, nil
		}
		text, err := jsonOf(doc)
		if err != nil {
			return nil, problemOf(err)
		}
		return &output{ContentType: "application/json", Vary: "Accept", Body: append(text, '\n')}, nil
	})
}

// wantsYAML reports whether an Accept names YAML before JSON and before anything.
func wantsYAML(accept string) bool {
	for kind := range strings.SplitSeq(accept, ",") {
		kind, _, _ = strings.Cut(kind, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case yamlType, "application/x-yaml", "text/yaml", "text/x-yaml":
			return true
		case "application/json", "*/*", "application/*":
			return false
		}
	}
	return false
}

func needHost(view hostdb.View, host string) error {
	if view.Exists(hostdb.Hosts, host) {
		return nil
	}
	return UnknownHost(view, host)
}

// UnknownHost is the error for a host that does not exist. It wraps hostdb.ErrNotFound, and names the host that was
// probably meant.
func UnknownHost(view hostdb.View, host string) error {
	near := nearestHost(view, host)
	if near != "" {
		near = "; did you mean " + near + "?"
	}
	return fmt.Errorf("%w: there is no host %q%s", hostdb.ErrNotFound, host, near)
}

// nearestHost is the host that was probably meant by a name: the one that claims it, the only one of which it is the first
// label, or one that is spelled nearly so.
func nearestHost(view hostdb.View, name string) string {
	if hosts := view.HostsByName(name); len(hosts) > 0 {
		return hosts[0]
	}
	var known, first []string
	for key := range view.Keys(hostdb.Hosts) {
		if strings.HasPrefix(strings.ToLower(key), strings.ToLower(name)+".") {
			first = append(first, key)
		}
		known = append(known, key)
	}
	if len(first) == 1 {
		return first[0]
	}
	if near := section.Nearest(name, known); near != "" {
		return near
	}
	if len(first) > 1 && len(first) <= 4 {
		return strings.Join(first, " or ")
	}
	return ""
}

// explanation is that of a host that exists; below a path it is an error that nothing stands there.
func explanation(view hostdb.View, host, path string) (Explanation, error) {
	e := section.Explain(view, host)
	out := Explanation{Host: host, Version: view.Version().String(), Sources: []ExplainedSource{}, Settings: []ExplainedSetting{},
		Disagreements: []ExplainedDispute{}, Problems: []ExplainedDeficiency{}}
	inside := func(p string) bool { return path == "" || p == path || strings.HasPrefix(p, path+"/") }
	for _, s := range e.Sources {
		out.Sources = append(out.Sources, sourceOf(s))
	}
	for _, s := range e.Settings {
		at := s.Path.String()
		if !inside(at) && !slices.ContainsFunc(s.Overridden, func(l section.Loser) bool { return inside(l.Path.String()) }) {
			continue
		}
		x := ExplainedSetting{Path: at, From: sourceOf(s.From)}
		var err error
		if x.Value, x.YAML, err = valueOf(s.Value); err != nil {
			return Explanation{}, err
		}
		for _, l := range s.Overridden {
			y := ExplainedLoser{Path: l.Path.String(), From: sourceOf(l.From), Equal: l.Equal}
			if y.Value, y.YAML, err = valueOf(l.Value); err != nil {
				return Explanation{}, err
			}
			x.Overridden = append(x.Overridden, y)
		}
		out.Settings = append(out.Settings, x)
	}
	for _, d := range e.Disagreements {
		if !inside(d.Path.String()) {
			continue
		}
		x := ExplainedDispute{Path: d.Path.String(), Used: sourceOf(d.Used), Other: []ExplainedSource{}}
		for _, o := range d.Other {
			x.Other = append(x.Other, sourceOf(o))
		}
		out.Disagreements = append(out.Disagreements, x)
	}
	_, problems := e.Sections()
	for _, p := range problems {
		if inside(p.Path.String()) {
			out.Problems = append(out.Problems, ExplainedDeficiency{Path: p.Path.String(), Text: p.Reason, Severity: p.Severity.String()})
		}
	}
	if path != "" && len(out.Settings) == 0 {
		return Explanation{}, fmt.Errorf("%w: neither the host %s nor any of its tags says anything at %s", hostdb.ErrNotFound, host, path)
	}
	return out, nil
}

func sourceOf(s section.Source) ExplainedSource {
	return ExplainedSource{ID: s.ID, Rank: s.Rank.String(), Priority: s.Priority}
}

func valueOf(v hostdb.Value) (asJSON json.RawMessage, asYAML string, err error) {
	doc := hostdb.NewDocument(hostdb.Leaf{Value: v})
	asJSON, err = jsonOf(doc)
	return asJSON, strings.TrimSuffix(doc.YAML(), "\n"), err
}

// Explain asks a node where each value of a host comes from; path narrows it, empty = all. Errors match ErrNotFound when
// there is no such host, or nothing at the path.
func (c *Client) Explain(ctx context.Context, host, path string) (Explanation, error) {
	q := url.Values{}
	if path != "" {
		q.Set("path", path)
	}
	var out Explanation
	body, err := c.get(ctx, "/api/v1/explain/"+url.PathEscape(host), q)
	if err == nil {
		err = c.decode(body, &out)
	}
	return out, err
}

// Effective asks a node for what a host gets from itself and all its tags, as JSON or as YAML (as).
func (c *Client) Effective(ctx context.Context, host, as string) ([]byte, error) {
	return c.get(ctx, "/api/v1/effective/"+url.PathEscape(host), url.Values{"as": {as}})
}
