package rest

import (
	"net/http"
	"testing"
)

// A browser sends the cookie with what pages of a neighbouring name or port ask for: those write nothing. Programs say
// nothing of where they come from, and a token that is a parameter was not added by a browser.
func TestCookieOfAForeignPage(t *testing.T) {
	s := newSite(t)
	cookie := "Cookie: HostDB=" + s.token
	for _, c := range []struct {
		name, form string
		header     []string
		status     int
	}{
		{"a program", "value=1&log=x", []string{cookie}, http.StatusCreated},
		{"its own page", "value=2&log=x", []string{cookie, "Sec-Fetch-Site: same-origin", "Origin: http://x"}, http.StatusCreated},
		{"a neighbour's page", "value=3&log=x", []string{cookie, "Sec-Fetch-Site: same-site", "Origin: http://y.x"}, http.StatusForbidden},
		{"a page of another port, in an old browser", "value=4&log=x", []string{cookie, "Origin: http://x:8080"}, http.StatusForbidden},
		{"another site's page", "value=5&log=x", []string{cookie, "Sec-Fetch-Site: cross-site"}, http.StatusForbidden},
		{"another site's page that knows a token", s.as("value", "6"), []string{"Sec-Fetch-Site: cross-site"}, http.StatusCreated},
		{"another site's page of somebody who is not logged in", "value=7&log=x", []string{"Sec-Fetch-Site: cross-site"}, http.StatusUnauthorized},
	} {
		if r := s.do("PUT", "/v1/hosts/web1", c.form, c.header...); r.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", c.name, r.Status, c.status)
		}
	}
	if r := s.do("GET", "/v1/hosts/web1", "", cookie, "Sec-Fetch-Site: same-site"); r.StatusCode != http.StatusOK {
		t.Errorf("a link from a neighbour's page: %s", r.Status)
	}
}
