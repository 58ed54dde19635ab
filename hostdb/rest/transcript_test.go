package rest

import (
	"regexp"
	"strings"
	"testing"
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

func TestTranscript(t *testing.T) {
	s := newSite(t)
	s.run([]step{
		// namespaces
		{"GET", "/v1", "", found, "", "hosts\nlocked\ntags"},
		{"GET", "/v1/", "", found, "", "hosts\nlocked\ntags"},
		{"GET", "/v27//", "", found, "", "hosts\nlocked\ntags"},
		{"GET", "//v1", "", found, "", "hosts\nlocked\ntags"},
		{"GET", "/v1/hosts", "", found, "", ""},
		{"GET", "/v1/tags", "", found, "", "all"},
		{"GET", "/v1/nope", "", "404 ", "4041", ""},
		{"GET", "/", "", "404 ", "4041", ""},
		{"GET", "/v", "", "404 ", "4041", ""},
		{"GET", "/v1x/hosts", "", "404 ", "4041", ""},
		{"PUT", "/v1", "x", "405 ", "4051", ""},
		{"POST", "/v1", "x", "405 ", "4051", ""},
		{"DELETE", "/v1", "", "405 ", "4051", ""},
		{"PUT", "/v1/tags", "x", "405 ", "4051", ""},
		{"POST", "/v1/tags", "x", "405 ", "4051", ""},
		{"DELETE", "/v1/tags", "", "405 ", "4051", ""},
		{"PATCH", "/v1/tags", "", "405 ", "4050", ""},
		{"OPTIONS", "/v1/tags", "", "405 ", "4050", ""},

		// keys
		{"GET", "/v1/hosts/web1", "", "404 Resource hosts/web1 does not exist", "4041", ""},
		{"HEAD", "/v1/hosts/web1", "", "404 Resource hosts/web1 does not exist", "4041", ""},
		{"PUT", "/v1/hosts/web1", "Network: {IP: 010.0.0.1, cname: [www, shop]}\nMAC: 00:11:22:33:44:55\nOwner: yes # who else\nV: 1.10\n", created, "", ""},
		{"GET", "/v1/hosts/web1", "", found, "", "MAC: 00:11:22:33:44:55\nNetwork:\n  IP: 010.0.0.1\n  cname:\n    - www\n    - shop\nOwner: yes\nV: 1.10\n"},
		{"HEAD", "/v1/hosts/web1", "", found, "", ""},
		{"GET", "/v1//hosts/web1//", "", found, "", "MAC: 00:11:22:33:44:55\nNetwork:\n  IP: 010.0.0.1\n  cname:\n    - www\n    - shop\nOwner: yes\nV: 1.10\n"},
		{"GET", "/v1/hosts/%77eb1/Owner", "", found, "", "yes\n"},
		{"PUT", "/v1/hosts/web2", "a: 1\r\nb: 2\r\n", created, "", ""},
		{"GET", "/v1/hosts/web2", "", found, "", "a: 1\nb: 2\n"},
		{"PUT", "/v1/hosts/web3", "", created, "", ""},
		{"GET", "/v1/hosts/web3", "", found, "", "null\n"},
		{"GET", "/v1/hosts", "", found, "", "web1\nweb2\nweb3"},
		{"GET", "/v1/hosts?search=[12]$", "", found, "", "web1\nweb2"},
		{"GET", "/v1/hosts?search=nothing", "", found, "", ""},
		{"GET", "/v1/hosts/web1?search=^M", "", found, "", "MAC: 00:11:22:33:44:55"},
		{"GET", "/v1/hosts?search=(", "", "400 Bad search", "4000", ""},
		{"GET", "/v1/hosts?search=(%3F=x)", "", "400 Bad search", "4000", ""},
		{"PUT", "/v1/hosts/web9", "a: [", "400 ", "4000", ""},
		{"PUT", "/v1/hosts/web9", "a: 1\n---\nb: 2\n", "400 ", "4000", ""},
		{"PUT", "/v1/hosts/web9", "Bad: really\n", `400 Bad: "really" is no good`, "4000", ""},
		{"PUT", "/v1/hosts/web9", "a: " + strings.Repeat("x", 1<<20), "413 ", "4130", ""},
		{"GET", "/v1/hosts/web9", "", "404 ", "4041", ""},

		// names
		{"GET", "/v1/hosts/..", "", "400 ", "4000", ""},
		{"GET", "/v1/../hosts", "", "400 ", "4000", ""},
		{"GET", "/v1/.system", "", "400 ", "4000", ""},
		{"PUT", "/v1/.system/users", "a: 1", "400 ", "4000", ""},
		{"GET", "/v1/hosts/web%2F1", "", "400 ", "4000", ""},
		{"GET", "/v1/hosts/web%0A1", "", "400 ", "4000", ""},
		{"GET", "/v1/hosts/%FF", "", "400 ", "4000", ""},
		{"GET", "/v1/hosts/.perms", "", "400 ", "4000", ""},
		{"GET", "/v1/hosts/@x", "", "400 ", "4000", ""},
		{"GET", "/v1/hosts//web1/V", "", "400 ", "4000", ""},
		{"DELETE", "/v1/tags//members", "", "400 ", "4000", ""},
		{"GET", "/v1/hosts/web1//V", "", "400 ", "4000", ""},
		{"PUT", "/v1/hosts/" + strings.Repeat("x", 254), "", "400 ", "4000", ""},

		// paths
		{"GET", "/v1/hosts/web1/Network/IP", "", found, "", "010.0.0.1\n"},
		{"GET", "/v1/hosts/web1/Network", "", found, "", "IP: 010.0.0.1\ncname:\n  - www\n  - shop\n"},
		{"GET", "/v1/hosts/web1/Network/Nope", "", "404 ", "4041", ""},
		{"GET", "/v1/hosts/web1/Network/cname/www", "", "404 ", "4041", ""},
		{"GET", "/v1/hosts/web3/a", "", "500 ", "5001", ""},
		{"GET", "/v1/hosts/nope/a", "", "404 ", "4041", ""},
		{"PUT", "/v1/hosts/web1/Network/IP", "10.0.0.2", created, "", ""},
		{"PUT", "/v1/hosts/web1/Ports/53%2Fudp", "53", "404 ", "4042", ""},
		{"PUT", "/v1/hosts/web1/Ports", "{}", created, "", ""},
		{"PUT", "/v1/hosts/web1/Ports/53%2Fudp", "53", created, "", ""},
		{"GET", "/v1/hosts/web1/Ports", "", found, "", "53/udp: 53\n"},
		{"PUT", "/v1/hosts/nope/a", "1", "404 ", "4042", ""},
		{"PUT", "/v1/hosts/web1/No/IP", "1", "404 ", "4042", ""},
		{"PUT", "/v1/hosts/web1/V/deeper", "1", "500 ", "5001", ""},
		{"PUT", "/v1/hosts/web1/V", "[", "400 ", "4000", ""},
		{"PUT", "/v1/hosts/web1/No/IP", "[", "404 ", "4042", ""}, // existence before content
		{"PUT", "/v1/hosts/web1/Network/cname/api", "[ignored", created, "", ""},
		{"POST", "/v1/hosts/web1/Network/cname/www", "web", created, "", ""},
		{"DELETE", "/v1/hosts/web1/Network/cname/shop", "", deleted, "", ""},
		{"DELETE", "/v1/hosts/web1/Network/cname/shop", "", "404 ", "4041", ""},
		{"POST", "/v1/hosts/web1/Network/cname/shop", "x", "404 ", "4041", ""},
		{"GET", "/v1/hosts/web1/Network/cname", "", found, "", "- web\n- api\n"},
		{"POST", "/v1/hosts/web1/Network/IP", "Address", created, "", ""},
		{"POST", "/v1/hosts/web1/Network/IP", "Address", "404 ", "4041", ""},
		{"POST", "/v1/hosts/web1/Network/Address", "cname", "400 ", "4002", ""},
		{"POST", "/v1/hosts/web1/Network/Address", "", "400 ", "4002", ""},
		{"POST", "/v1/hosts/nope/a", "b", "404 ", "4042", ""},
		{"DELETE", "/v1/hosts/web1/Network/Address", "", deleted, "", ""},
		{"DELETE", "/v1/hosts/web1/Network/Address", "", "404 ", "4041", ""},
		{"DELETE", "/v1/hosts/nope/a", "", "404 ", "4042", ""},
		{"DELETE", "/v1/hosts/web1/V/deeper", "", "500 ", "5001", ""},
		{"GET", "/v1/hosts/web1/Network", "", found, "", "cname:\n  - web\n  - api\n"},

		// members
		{"PUT", "/v1/tags/web", "", created, "", ""},
		{"PUT", "/v1/tags/shop", "Owner: shop\n", created, "", ""},
		{"GET", "/v1/tags/web/members", "", found, "", ""},
		{"GET", "/v1/tags/nope/members", "", "404 ", "4041", ""},
		{"GET", "/v1/tags/nope/members?raw=true", "", "404 ", "4041", ""},
		{"PUT", "/v1/tags/web/members", "# frontends\r\nweb2  \nweb1\n\n# end\n", created, "", ""},
		{"GET", "/v1/tags/web/members", "", found, "", "web1\nweb2"},
		{"GET", "/v1/tags/web/members?raw=true", "", found, "", "# frontends\nweb2\nweb1\n\n# end"},
		{"GET", "/v1/tags/web/members?raw=1&search=web", "", found, "", "web2\nweb1"},
		{"GET", "/v1/tags/web/members?raw=0", "", found, "", "web1\nweb2"},
		{"GET", "/v1/tags/web/members?raw=", "", found, "", "web1\nweb2"},
		{"PUT", "/v1/tags/web/members", "web1\nnope\n", "404 ", "4041", ""},
		{"PUT", "/v1/tags/web/members", "web1\n@nope\n", "404 ", "4041", ""},
		{"PUT", "/v1/tags/web/members", "web1\n../x\n", "400 ", "4000", ""},
		{"PUT", "/v1/tags/nope/members", "../x\n", "404 ", "4041", ""},
		{"GET", "/v1/tags/web/members", "", found, "", "web1\nweb2"},
		{"POST", "/v1/tags/web/members", "x", "405 ", "4051", ""},
		{"DELETE", "/v1/tags/web/members", "", "405 ", "4051", ""},
		{"GET", "/v1/tags/web/members/web1", "", found, "", "web1"},
		{"GET", "/v1/tags/web/members/web3", "", "404 ", "4041", ""},
		{"PUT", "/v1/tags/web/members/web3", "", created, "", ""},
		{"PUT", "/v1/tags/web/members/web3", "", created, "", ""},
		{"PUT", "/v1/tags/web/members/nope", "", "404 ", "4041", ""},
		{"PUT", "/v1/tags/nope/members/web1", "", "404 ", "4041", ""},
		{"DELETE", "/v1/tags/nope/members/web1", "", "404 ", "4041", ""},
		{"DELETE", "/v1/tags/web/members/web2", "", deleted, "", ""},
		{"DELETE", "/v1/tags/web/members/web2", "", deleted, "", ""},
		{"POST", "/v1/tags/web/members/web1", "web2", created, "", ""},
		{"POST", "/v1/tags/web/members/web1", "web2", "404 ", "4041", ""},
		{"POST", "/v1/tags/web/members/web2", "web3", "400 ", "4002", ""},
		{"POST", "/v1/tags/web/members/web2", "nope", "404 ", "4041", ""},
		{"POST", "/v1/tags/web/members/web2", "", "400 ", "4002", ""},
		{"GET", "/v1/tags/web/members", "", found, "", "web2\nweb3"},
		{"PUT", "/v1/tags/shop/members/@web", "", created, "", ""},
		{"GET", "/v1/tags/shop/members/@web", "", found, "", "@web"},
		{"GET", "/v1/tags/shop/members/web2", "", "404 ", "4041", ""},
		{"GET", "/v1/tags/shop/members", "", found, "", "web2\nweb3"},
		{"GET", "/v1/tags/shop/members?raw=true", "", found, "", "@web"},
		{"PUT", "/v1/tags/web/members/@shop", "", "400 ", "4000", ""},
		{"PUT", "/v1/tags/web/members/@web", "", "400 ", "4000", ""},
		{"GET", "/v1/tags/web/members/a/b", "", "400 ", "4000", ""},

		// the tag all
		{"GET", "/v1/tags", "", found, "", "all\nshop\nweb"},
		{"GET", "/v1/tags/all", "", found, "", "null\n"},
		{"GET", "/v1/tags/all/members", "", found, "", "web1\nweb2\nweb3"},
		{"GET", "/v1/tags/all/members?raw=true", "", found, "", "web1\nweb2\nweb3"},
		{"GET", "/v1/tags/all/members/web1", "", found, "", "web1"},
		{"GET", "/v1/tags/all/members/nope", "", "404 ", "4041", ""},
		{"PUT", "/v1/tags/all/members/web1", "", "405 ", "4051", ""},
		{"PUT", "/v1/tags/all/members", "web1", "405 ", "4051", ""},

		// parents and derived
		{"GET", "/v1/hosts/web2?meta=parents&from=tags", "", found, "", "all\nshop\nweb"},
		{"GET", "/v1/hosts/web2?meta=parent&from=tags", "", found, "", "all\nshop\nweb"},
		{"GET", "/v1/hosts/web2?meta=parents&from=tags&search=^s", "", found, "", "shop"},
		{"GET", "/v1/hosts/web2?meta=derived&from=tags", "", found, "", "all: null\nshop:\n  Owner: shop\nweb: null\n"},
		{"GET", "/v1/hosts/nope?meta=parents&from=tags", "", found, "", ""},
		{"GET", "/v1/hosts/nope?meta=derived&from=tags", "", found, "", "{}\n"},
		{"GET", "/v1/hosts/web2?meta=parents", "", "400 ", "4001", ""},
		{"GET", "/v1/hosts?meta=parents&from=tags", "", "400 ", "4001", ""},
		{"GET", "/v1/tags/web?meta=parents&from=tags", "", "405 ", "4051", ""},
		{"GET", "/v1/tags/web?meta=derived&from=tags", "", "405 ", "4051", ""},
		{"GET", "/v1/hosts/web2?meta=parents&from=nope", "", "404 ", "4041", ""},
		{"GET", "/v1/hosts/web2?meta=parents&from=.system", "", "400 ", "4000", ""},
		{"GET", "/v1/hosts/web2?meta=other", "", "400 ", "4000", ""},

		// foreach
		{"GET", "/v1/hosts/x/a?foreach=hosts", "", found, "", "web1: null\nweb2: 1\nweb3: null\n"},
		{"GET", "/v1/hosts/*?foreach=tags/web/members", "", found, "", "web2:\n  a: 1\n  b: 2\nweb3: null\n"},
		{"GET", "/v1/tags/*/members?foreach=tags", "", found, "", "all: web1 web2 web3\nshop: web2 web3\nweb: web2 web3\n"},
		{"GET", "/v1/hosts/x/a?foreach=tags/nope/members", "", "404 ", "4041", ""},
		{"GET", "/v1/hosts/x/a?foreach=nope", "", "404 ", "4041", ""},
		{"GET", "/v1/nope/x/a?foreach=hosts", "", "404 ", "4041", ""},
		{"GET", "/v1/hosts/x/a?foreach=tags/web", "", "400 ", "4000", ""},
		{"GET", "/v1/hosts/x/a?foreach=.system", "", "400 ", "4000", ""},
		{"GET", "/v1?foreach=hosts", "", "400 ", "4000", ""},

		// perms
		{"GET", "/v1/tags/web/perms", "", found, "", ""},
		{"GET", "/v1/tags/nope/perms", "", "404 ", "4041", ""},
		{"GET", "/v1/tags/.default/perms", "", found, "", "bob:\n  data/DNS: RW\nops:\n  data: RW\n  members: RW\n  perms: RW\n"},
		{"GET", "/v1/locked/.default/perms", "", "404 ", "4041", ""},
		{"GET", "/v1/tags/.default", "", "400 ", "4000", ""},
		{"PUT", "/v1/tags/.default", "a: 1", "400 ", "4000", ""},
		{"PUT", "/v1/tags/web/perms", "{alice: {data: RO, members: RW, perms: RW}}", created, "", ""},
		{"GET", "/v1/tags/web/perms", "", found, "", "alice:\n  data: RO\n  members: RW\n  perms: RW\n"},
		{"PUT", "/v1/tags/web/perms", "[alice]", "400 ", "4000", ""},
		{"PUT", "/v1/tags/web/perms", "{alice: {data: rw}}", "400 ", "4000", ""},
		{"PUT", "/v1/tags/nope/perms", "{}", "404 ", "4042", ""},
		{"POST", "/v1/tags/web/perms", "x", "405 ", "4051", ""},
		{"DELETE", "/v1/tags/web/perms", "", "405 ", "4051", ""},
		{"GET", "/v1/tags/web/perms/alice", "", "404 ", "4041", ""},
		{"PUT", "/v1/tags/web", "a: 1", "403 ", "4033", ""},
		{"PUT", "/v1/tags/web", "a: [", "403 ", "4033", ""},   // permission before content
		{"PUT", "/v1/locked/nope/a", "1", "403 ", "4033", ""}, // permission before existence
		{"DELETE", "/v1/locked/nope", "", "403 ", "4033", ""},
		{"PUT", "/v1/nope/x", "1", "403 ", "4033", ""},
		{"DELETE", "/v1/nope/x", "", "403 ", "4033", ""},
		{"PUT", "/v1/tags/web/perms", "", created, "", ""},
		{"GET", "/v1/tags/web/perms", "", found, "", ""},

		// renames and deletes of keys
		{"POST", "/v1/hosts/web2", "-", "400 ", "4001", ""},
		{"POST", "/v1/hosts/web2", "", "400 ", "4002", ""},
		{"POST", "/v1/hosts/web2", "web3", "400 ", "4002", ""},
		{"POST", "/v1/hosts/web2", "../tags/x", "400 ", "4000", ""},
		{"POST", "/v1/hosts/nope", "new", "404 ", "4042", ""},
		{"POST", "/v1/hosts/web2", "www2", created, "", ""},
		{"GET", "/v1/hosts/www2", "", found, "", "a: 1\nb: 2\n"},
		{"GET", "/v1/hosts/web2", "", "404 ", "4041", ""},
		{"GET", "/v1/tags/web/members", "", found, "", "web3\nwww2"},
		{"POST", "/v1/tags/web", "www", created, "", ""},
		{"GET", "/v1/tags/shop/members?raw=true", "", found, "", "@www"},
		{"DELETE", "/v1/hosts/web3", "", deleted, "", ""},
		{"DELETE", "/v1/hosts/web3", "", "404 ", "4042", ""},
		{"GET", "/v1/tags/shop/members", "", found, "", "www2"},
		{"DELETE", "/v1/tags/www", "", deleted, "", ""},
		{"GET", "/v1/tags/shop/members?raw=true", "", found, "", ""},
	})
}
