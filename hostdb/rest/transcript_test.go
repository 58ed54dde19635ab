package rest

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/rest/resttest"
)

// step is a request and what must come back. Steps stand on those before them.
type step struct {
	method, target string
	form           string // PUT: value; POST: newname; "-" for none at all
	status         string // status line
	code           string // of CallTrace
	body           string
}

const (
	created = "201 Object created"
	deleted = "200 Object deleted"
	found   = "200 OK"
)

func (s *site) run(steps []step) {
	s.t.Helper()
	for _, x := range steps {
		var r response
		switch x.method {
		case "GET", "HEAD":
			r = s.do(x.method, x.target, "")
		case "PUT":
			r = s.do(x.method, x.target, s.as("value", x.form))
		case "POST":
			if x.form == "-" {
				r = s.do(x.method, x.target, s.as())
			} else {
				r = s.do(x.method, x.target, s.as("newname", x.form))
			}
		case "DELETE":
			r = s.do(x.method, x.target+"?log=because&session="+s.token, "")
		default:
			r = s.do(x.method, x.target, s.as())
		}
		name := x.method + " " + x.target + " " + x.form
		code, _, _ := strings.Cut(r.Header.Get("CallTrace"), ":")
		if !strings.HasPrefix(r.Status, x.status) || code != x.code || r.body != x.body {
			s.t.Errorf("%s\n got %s, code %q, body %q\nwant %s, code %q, body %q", name, r.Status, code, r.body, x.status, x.code, x.body)
		}
		s.wellFormed(name, r)
	}
}

var revision = regexp.MustCompile(`^[0-9a-f.]+$`)

// wellFormed checks what every answer must have.
func (s *site) wellFormed(name string, r response) {
	s.t.Helper()
	trace := r.Header.Get("CallTrace")
	if (r.StatusCode >= 400) != (trace != "") || trace != r.Header.Get("Error") {
		s.t.Errorf("%s: %s has CallTrace %q and Error %q", name, r.Status, trace, r.Header.Get("Error"))
	}
	if trace != "" {
		code, message, _ := strings.Cut(trace, ": ")
		if !strings.HasPrefix(r.Status, code[:3]) || r.Status[4:] != message || r.body != "" {
			s.t.Errorf("%s: status %q, CallTrace %q, body %q", name, r.Status, trace, r.body)
		}
	}
	if r.Header.Get("Hostmesh-Version") == "" {
		s.t.Errorf("%s: no Hostmesh-Version", name)
	}
	if rev, ok := r.Header["Hostmesh-Revision"]; ok && !revision.MatchString(rev[0]) {
		s.t.Errorf("%s: Hostmesh-Revision %q", name, rev)
	}
}

// TestTranscript plays what clients ask and must be answered; integration plays the same against a mesh.
func TestTranscript(t *testing.T) {
	s := newSiteOf(t, resttest.Users)
	for id, text := range resttest.Perms {
		acl, err := hostdb.ParseACL([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		ns, _, _ := strings.Cut(id, "/")
		s.update(func(tx *hostdb.Tx) error { return tx.SetPerms(ns, hostdb.DefaultKey, acl) })
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resttest.Run(t, resttest.Mesh{
		Node:     func(int) (string, *http.Client) { return "http://" + s.addr, client },
		ReadOnly: s.readOnly,
	})
}

// What is too large for a transcript that people read.
func TestTooLarge(t *testing.T) {
	s := newSite(t)
	s.run([]step{
		{"PUT", "/v1/hosts/web9", "a: " + strings.Repeat("x", 1<<20), "413 ", "4130", ""},
		{"PUT", "/v1/hosts/web9", "Bad: really\n", `400 Bad: "really" is no good`, "4000", ""},
		{"GET", "/v1/hosts/web9", "", "404 ", "4041", ""},
	})
}
