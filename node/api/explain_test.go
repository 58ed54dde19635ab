package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// explainStore has a host with three tags, two of which disagree.
func explainStore(t *testing.T) *hostdb.Store {
	t.Helper()
	s, err := hostdb.Open(hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Update(t.Context(), hostdb.Request{User: "alice", Log: "test"}, func(tx *hostdb.Tx) error {
		for _, x := range [][3]string{
			{hostdb.Hosts, "web1.dc1.example.com", "{Network: {IP: 10.1.8.11, cname: www.dc1.example.com}, Physical Location: {U Number: 04}}"},
			{hostdb.Hosts, "db 1%", "{}"},
			{hostdb.Tags, "web", "{Priority: 20, Monitoring: {Prometheus: {Port: 9113}}, Puppet: {Environment: production, Parameters: {list: [a, b], map: {x: 1}}}}"},
			{hostdb.Tags, "shop", "{Priority: 20, Puppet: {Environment: testing, Parameters: {map: text}}, Backup: {Paths: [/etc]}}"},
			{hostdb.Tags, "all", "{Monitoring: {Prometheus: {Port: 9100}}, Puppet: {Parameters: {list: [a, b]}}}"},
		} {
			doc, err := hostdb.ParseDocument([]byte(x[2]))
			if err != nil {
				return err
			}
			if err := tx.Put(x[0], x[1], doc); err != nil {
				return err
			}
		}
		return errors.Join(tx.AddMember(hostdb.Tags, "web", "web1.dc1.example.com"), tx.AddMember(hostdb.Tags, "shop", "web1.dc1.example.com"))
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func explainClient(t *testing.T) (*Client, http.Handler) {
	t.Helper()
	cfg := (&fake{}).config()
	cfg.Explainer = explainStore(t)
	h := NewHandler(cfg)
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := NewClient(ClientConfig{Server: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, h
}

func TestExplain(t *testing.T) {
	c, _ := explainClient(t)
	e, err := c.Explain(t.Context(), "web1.dc1.example.com", "")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, s := range e.Sources {
		fmt.Fprintln(&got, s.ID, s.Rank, s.Priority)
	}
	for _, s := range e.Settings {
		fmt.Fprintln(&got, s.Path, "=", string(s.Value), "|", strings.ReplaceAll(s.YAML, "\n", " "), "from", s.From.ID)
		for _, l := range s.Overridden {
			fmt.Fprintln(&got, "  not", l.Path, "=", string(l.Value), "from", l.From.ID, l.Equal)
		}
	}
	for _, d := range e.Disagreements {
		fmt.Fprintln(&got, "disagreement", d.Path, d.Used.ID, d.Other[0].ID)
	}
	for _, p := range e.Problems {
		fmt.Fprintln(&got, p.Severity, p.Path, p.Text)
	}
	want := `hosts/web1.dc1.example.com host 0
tags/shop direct 20
tags/web direct 20
tags/all inherited 0
Backup/Paths = ["/etc"] | - /etc from tags/shop
Monitoring/Prometheus/Port = 9113 | 9113 from tags/web
  not Monitoring/Prometheus/Port = 9100 from tags/all false
Network/IP = "10.1.8.11" | 10.1.8.11 from hosts/web1.dc1.example.com
Network/cname = "www.dc1.example.com" | www.dc1.example.com from hosts/web1.dc1.example.com
Physical Location/U Number = "04" | 04 from hosts/web1.dc1.example.com
Puppet/Environment = "testing" | testing from tags/shop
  not Puppet/Environment = "production" from tags/web true
Puppet/Parameters/list = ["a","b"] | - a - b from tags/web
Puppet/Parameters/map = "text" | text from tags/shop
  not Puppet/Parameters/map/x = 1 from tags/web true
disagreement Puppet/Environment tags/shop tags/web
disagreement Puppet/Parameters/map tags/shop tags/web
error Backup/Repository is missing; expected a name of letters, digits, dots, dashes and underscores such as shop
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	part, err := c.Explain(t.Context(), "web1.dc1.example.com", "Puppet/Parameters/map/x")
	if err != nil || len(part.Settings) != 1 || part.Settings[0].Path != "Puppet/Parameters/map" || len(part.Disagreements) != 0 || len(part.Problems) != 0 {
		t.Errorf("of a path that lost: %+v %v", part, err)
	}
	if part, err = c.Explain(t.Context(), "web1.dc1.example.com", "/Puppet/"); err != nil || len(part.Settings) != 3 || len(part.Disagreements) != 2 {
		t.Errorf("of a part: %+v %v", part, err)
	}
	if _, err := c.Explain(t.Context(), "db 1%", ""); err != nil {
		t.Errorf("of a host with a strange name: %v", err)
	}
}

func TestExplainErrors(t *testing.T) {
	c, _ := explainClient(t)
	for _, x := range []struct{ host, path, want string }{
		{"web1", "", `there is no host "web1"; did you mean web1.dc1.example.com?`},
		{"www.dc1.example.com", "", "did you mean web1.dc1.example.com?"},
		{"wbe1.dc1.example.com", "", "did you mean web1.dc1.example.com?"},
		{"nobody", "", `there is no host "nobody"`},
		{"web1.dc1.example.com", "Pupet", "neither the host web1.dc1.example.com nor any of its tags says anything at Pupet"},
	} {
		_, err := c.Explain(t.Context(), x.host, x.path)
		if !errors.Is(err, ErrNotFound) || !strings.HasSuffix(err.Error(), x.want) {
			t.Errorf("%s %s: %v, want %s", x.host, x.path, err, x.want)
		}
		if x.path == "" {
			if _, err := c.Effective(t.Context(), x.host, "yaml"); !errors.Is(err, ErrNotFound) || !strings.HasSuffix(err.Error(), x.want) {
				t.Errorf("effective %s: %v, want %s", x.host, err, x.want)
			}
		}
	}
}

func TestEffectiveForms(t *testing.T) {
	_, h := explainClient(t)
	const asYAML, asJSON = "  U Number: 04\n", `"U Number":"04"`
	for _, x := range []struct{ query, accept, kind, want string }{
		{"", "", "application/json", asJSON},
		{"", "*/*", "application/json", asJSON},
		{"", "application/yaml", yamlType, asYAML},
		{"", "text/yaml;q=0.9, application/json;q=0.5", yamlType, asYAML},
		{"", "application/json, application/yaml", "application/json", asJSON},
		{"?as=yaml", "application/json", yamlType, asYAML},
		{"?as=json", "application/yaml", "application/json", asJSON},
	} {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/effective/web1.dc1.example.com"+x.query, nil)
		r.RemoteAddr = near
		if x.accept != "" {
			r.Header.Set("Accept", x.accept)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != x.kind || !strings.Contains(w.Body.String(), x.want) {
			t.Errorf("%q, Accept %q: %d %s\n%s", x.query, x.accept, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
	}
	if w := get(h, http.MethodGet, "/api/v1/effective/web1.dc1.example.com?as=xml", near, ""); w.Code != http.StatusUnprocessableEntity {
		t.Errorf("as=xml: %d", w.Code)
	}
	if w := get(h, http.MethodGet, "/api/v1/explain/web1.dc1.example.com", far, ""); w.Code != http.StatusUnauthorized {
		t.Errorf("from elsewhere without a session: %d", w.Code)
	}
}

// fakeDoctor keeps what it was asked.
type fakeDoctor struct {
	asked  DoctorOptions
	report DoctorReport
	err    error
}

func (f *fakeDoctor) Examine(_ context.Context, opts DoctorOptions) (DoctorReport, error) {
	f.asked = opts
	return f.report, f.err
}

func TestDoctor(t *testing.T) {
	f := &fakeDoctor{report: DoctorReport{Version: "v1", Complete: true, Errors: 1, Checks: []DoctorCheck{{Name: "names", Errors: 1}},
		Findings: []DoctorFinding{{Check: "names", Severity: SeverityError, ID: "hosts/a", Message: "m", Remedy: "r", Related: []string{"hosts/b"}}}}}
	cfg := (&fake{}).config()
	cfg.Doctor = f
	srv := httptest.NewServer(NewHandler(cfg))
	defer srv.Close()
	c, err := NewClient(ClientConfig{Server: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	opts := DoctorOptions{Only: []string{"names", "macs"}, Skip: []string{"node"}, Host: "a b&c", Limit: 7}
	r, err := c.Doctor(t.Context(), opts)
	f.report.Node = []Problem{} // lists are never null
	if diff := cmp.Diff(f.report, r); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if diff := cmp.Diff(opts, f.asked); diff != "" {
		t.Errorf("asked, -want +got:\n%s", diff)
	}
	f.err = fmt.Errorf("%w: no such check: %q", hostdb.ErrInvalid, "macz")
	var refused *Error
	if _, err := c.Doctor(t.Context(), opts); !errors.As(err, &refused) || refused.Status != http.StatusBadRequest || !strings.Contains(refused.Message, "macz") {
		t.Errorf("%v", err)
	}
}

func TestDoctorFailed(t *testing.T) {
	node := func(severity string) []Problem { return []Problem{{Severity: severity}} }
	for _, x := range []struct {
		name           string
		r              DoctorReport
		failed, strict bool
	}{
		{"well", DoctorReport{Complete: true}, false, false},
		{"an error", DoctorReport{Complete: true, Errors: 1}, true, true},
		{"a warning", DoctorReport{Complete: true, Warnings: 1}, false, true},
		{"not complete", DoctorReport{}, true, true},
		{"a sick node", DoctorReport{Complete: true, Node: node(SeverityError)}, true, true},
		{"a note of the node", DoctorReport{Complete: true, Node: node(SeverityNotice)}, false, false},
	} {
		if got, strict := x.r.Failed(false), x.r.Failed(true); got != x.failed || strict != x.strict {
			t.Errorf("%s: %v, strict %v", x.name, got, strict)
		}
	}
}
