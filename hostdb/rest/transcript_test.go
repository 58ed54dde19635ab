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

// TestTranscript plays what clients ask and must be answered, at one node and with every request at another than the one
// before. integration plays the same against agents.
func TestTranscript(t *testing.T) {
	for name, count := range map[string]int{"one node": 1, "three nodes": 3} {
		t.Run(name, func(t *testing.T) {
			var nodes []*site
			for range count {
				nodes = append(nodes, newSiteOf(t, resttest.Users))
			}
			equal := func() { makeEqual(t, nodes) }
			for id, text := range resttest.Perms {
				acl, err := hostdb.ParseACL([]byte(text))
				if err != nil {
					t.Fatal(err)
				}
				ns, _, _ := strings.Cut(id, "/")
				nodes[0].update(func(tx *hostdb.Tx) error { return tx.SetPerms(ns, hostdb.DefaultKey, acl) })
			}
			equal()
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			resttest.Run(t, resttest.Mesh{
				Node:      func(i int) (string, *http.Client) { return "http://" + nodes[i%count].addr, client },
				WaitEqual: equal,
				ReadOnly: func(on bool, why string) {
					nodes[0].readOnly(on, why)
					equal()
				},
			})
		})
	}
}

// makeEqual gives every node the operations that any node holds, as replication does.
func makeEqual(t *testing.T, nodes []*site) {
	t.Helper()
	for _, from := range nodes {
		for _, to := range nodes {
			for origin, seq := range from.store.View().Vector() {
				for held := to.store.View().Seq(origin); held < seq; held = to.store.View().Seq(origin) {
					raws, err := from.store.Operations(origin, held, 1<<20)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := to.store.Apply(t.Context(), raws); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
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

// What is no path of HostDB is 4041 here; an agent has other things at some of them, so no transcript says so.
func TestNoPathOfHostDB(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/", "/v", "/v1x/hosts", "/w1"} {
		s.run([]step{{"GET", path, "", "404 ", "4041", ""}})
	}
}
