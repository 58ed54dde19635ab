package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"hostmesh/hostdb"
)

// fakeKeys has one key.
type fakeKeys struct{}

func (fakeKeys) DNSKeys() []DNSKey { return []DNSKey{{Name: "xfer", Algorithm: "hmac-sha256"}} }

func (fakeKeys) AddDNSKey(_ context.Context, _ Identity, name string, c DNSKeyChange, _ string) (DNSKeyMade, error) {
	if name == "xfer" && !c.Replace {
		return DNSKeyMade{}, fmt.Errorf("there is a TSIG key xfer: %w", hostdb.ErrExists)
	}
	return DNSKeyMade{Name: name, Algorithm: "hmac-sha256", Secret: "c2VjcmV0", Acks: 1}, nil
}

func (fakeKeys) RemoveDNSKey(_ context.Context, _ Identity, name, _ string) (DNSKeyWritten, error) {
	if name != "xfer" {
		return DNSKeyWritten{}, fmt.Errorf("there is no TSIG key %s: %w", name, hostdb.ErrNotFound)
	}
	return DNSKeyWritten{Name: name, Acks: 1}, nil
}

// fakeDesk knows one zone.
type fakeDesk struct{}

func (fakeDesk) DNSProblems(zone string) (DNSCheck, error) {
	if zone != "" && zone != "dc1.example.com" {
		return DNSCheck{}, ErrNotFound
	}
	return DNSCheck{Version: "v1", Zones: 1, Problems: []DNSProblem{{Severity: SeverityWarning, Key: "hosts/a", Reason: "r"}}}, nil
}

func (fakeDesk) DNSDiff(_ context.Context, zone, from, to string) (DNSDiff, error) {
	return DNSDiff{Zone: zone, From: from, To: to}, nil
}

func (fakeDesk) DNSCompare(_ context.Context, q DNSCompareQuery) (DNSDiff, error) {
	return DNSDiff{}, fmt.Errorf("%w: %s does not answer", ErrUpstream, q.Server)
}

func (fakeDesk) DNSLookup(_ context.Context, name, typ, at string) (DNSLookup, error) {
	return DNSLookup{Name: name, Type: typ, At: at, Rcode: "NOERROR"}, nil
}

func (fakeDesk) DNSExplain(name string) (DNSExplanation, error) {
	return DNSExplanation{Name: name, Kind: "nothing"}, nil
}

func (fakeDesk) DNSImport(_ context.Context, who Identity, file []byte, opts DNSImportOptions) (DNSImportReport, error) {
	return DNSImportReport{Zone: opts.Zone, Tag: who.User, Records: len(file)}, nil
}

func TestDNSAccess(t *testing.T) {
	h := NewHandler((&fake{}).config())
	for _, c := range []struct {
		name, method, path, body, from, token string
		status                                int
		want                                  string
	}{
		{"keys, by nobody", "GET", "/api/v1/dns/keys", "", near, "", 401, "administrators"},
		{"keys, by somebody", "GET", "/api/v1/dns/keys", "", near, "bob", 403, "no administrator"},
		{"keys", "GET", "/api/v1/dns/keys", "", near, "root", 200, `"name":"xfer"`},
		{"a new key", "POST", "/api/v1/dns/keys/new", "{}", near, "root", 200, "c2VjcmV0"},
		{"a new key, in clear over the network", "POST", "/api/v1/dns/keys/new", "{}", far, "root", 403, "in clear"},
		{"a key by somebody", "POST", "/api/v1/dns/keys/new", "{}", near, "bob", 403, "no administrator"},
		{"a key that is there", "POST", "/api/v1/dns/keys/xfer", "{}", near, "root", 409, "there is a TSIG key"},
		{"another algorithm", "POST", "/api/v1/dns/keys/new", `{"algorithm":"hmac-md5"}`, near, "root", 422, "hmac-sha256"},
		{"a secret that is too long", "POST", "/api/v1/dns/keys/new", `{"secret":"` + strings.Repeat("c2VjcmV0", 200) + `"}`, near, "root", 422, "1024"},
		{"a secret that is no text", "POST", "/api/v1/dns/keys/new", `{"secret":["c2VjcmV0"]}`, near, "root", 422, "body.secret"},
		{"a secret beside what is not known", "POST", "/api/v1/dns/keys/new", `{"secret":"c2VjcmV0","salt":1}`, near, "root", 422, "body"},
		{"a secret in what is no JSON", "POST", "/api/v1/dns/keys/new", `{"secret":"c2VjcmV0"`, near, "root", 400, "body"},
		{"removal", "DELETE", "/api/v1/dns/keys/xfer", "", near, "root", 200, `"acks":1`},
		{"removal of nothing", "DELETE", "/api/v1/dns/keys/x", "", near, "root", 404, "no TSIG key x"},
		{"problems", "GET", "/api/v1/dns/problems?zone=DC1.example.com.", "", near, "", 200, `"severity":"warning"`},
		{"problems of no zone", "GET", "/api/v1/dns/problems?zone=x", "", near, "", 404, "not found"},
		{"a difference", "GET", "/api/v1/dns/zones/x.test/diff?from=24h", "", near, "", 200, `"removed":[],"added":[]`},
		{"a difference from nothing", "GET", "/api/v1/dns/zones/x.test/diff", "", near, "", 422, "from"},
		{"another server, by somebody", "POST", "/api/v1/dns/compare", `{"zone":"x.test","server":"10.1.0.53"}`, near, "bob", 403, "no administrator"},
		{"another server", "POST", "/api/v1/dns/compare", `{"zone":"x.test","server":"10.1.0.53"}`, near, "root", 502, "10.1.0.53 does not answer"},
		{"a lookup", "GET", "/api/v1/dns/lookup?name=Web1.X.test.&type=MX&at=24h", "", near, "", 200, `"name":"web1.x.test","type":"MX"`},
		{"a lookup from elsewhere", "GET", "/api/v1/dns/lookup?name=x.test", "", far, "", 401, "nobody is logged in"},
		{"an explanation", "GET", "/api/v1/dns/explain?name=X.test.", "", near, "", 200, `"name":"x.test"`},
		{"an import", "POST", "/api/v1/dns/import?zone=X.test.", "abc", near, "bob", 200, `"zone":"x.test","tag":"bob","records":3`},
		{"an import by nobody", "POST", "/api/v1/dns/import?zone=x.test", "abc", near, "", 401, "nobody is logged in"},
		{"an import that is too large", "POST", "/api/v1/dns/import", strings.Repeat("x", maxZoneFile+1), near, "bob", 413, ""},
	} {
		r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		r.RemoteAddr = c.from
		if c.method == "POST" {
			r.Header.Set("Content-Type", "application/json")
			if strings.Contains(c.path, "/import") {
				r.Header.Set("Content-Type", zoneType)
			}
		}
		if c.token != "" {
			r.AddCookie(&http.Cookie{Name: SessionCookie, Value: c.token})
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d, want %d and %q in %.300s", c.name, w.Code, c.status, c.want, w.Body)
		}
		if c.status >= 400 && strings.Contains(w.Body.String(), "c2VjcmV0") {
			t.Errorf("%s: the secret comes back in %.300s", c.name, w.Body)
		}
	}
}
