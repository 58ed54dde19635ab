package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

// queried is a handler over three hosts, one of them retired.
func queried(t *testing.T) http.Handler {
	t.Helper()
	s, err := hostdb.Open(hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	_, err = s.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, func(tx *hostdb.Tx) error {
		for key, text := range map[string]string{"a": "{Network: {IP: 10.1.0.1}, Status: active}", "b": "{Status: retired}", "c": "{Network: {IP: 10.1.0.3}}"} {
			doc, err := hostdb.ParseDocument([]byte(text))
			if err != nil {
				return err
			}
			if err := tx.Put(hostdb.Hosts, key, doc); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return NewHandler(Config{Query: s, Identify: identify})
}

func TestQuery(t *testing.T) {
	h := queried(t)
	for _, c := range []struct{ query, media, body, matched, more string }{
		{"", "application/json", "[\n  {\"name\": \"a\", \"address\": \"10.1.0.1\", \"Status\": \"active\"},\n  {\"name\": \"b\", \"address\": null, \"Status\": \"retired\"},\n  {\"name\": \"c\", \"address\": \"10.1.0.3\", \"Status\": null}\n]\n", "3", "false"},
		{"where=has(Network)&select=name&as=csv&limit=1", "text/csv; charset=utf-8; header=present", "name\na\n", "2", "true"},
		{"where=has(Network)&select=name&as=csv&limit=1&after=a", "text/csv; charset=utf-8; header=present", "name\nc\n", "1", "false"},
		{"where=Status=='retired'&as=table", "text/plain; charset=utf-8", "NAME  ADDRESS  STATUS\nb     -        retired\n", "1", "false"},
		{"select=name&sort=-name&limit=1&as=yaml", "application/yaml", "- name: c\n", "3", "true"},
		{"count=true", "application/json", "{\"count\":3}\n", "3", "false"},
		{"in=tags&where=hosts==2&select=name,hosts", "application/json", "[\n  {\"name\": \"all\", \"hosts\": 2}\n]\n", "1", "false"},
	} {
		w := get(h, "GET", "/api/v1/query?"+c.query, near, "")
		if w.Code != 200 || w.Body.String() != c.body || w.Header().Get("Content-Type") != c.media ||
			w.Header().Get(HeaderMatched) != c.matched || w.Header().Get(HeaderMore) != c.more {
			t.Errorf("%s: %d %v\n%s", c.query, w.Code, w.Header(), w.Body)
		}
	}
	w := get(h, "GET", "/api/v1/query?where="+url.QueryEscape(`"x" in tags or "y" in tags`), near, "")
	if list := w.Header().Values(HeaderWarning); len(list) != 2 || !strings.Contains(list[0], `no tag "x"`) {
		t.Errorf("warnings %q", list)
	}
	if w := get(h, "GET", "/api/v1/query", far, ""); w.Code != 401 {
		t.Errorf("from elsewhere: %d", w.Code)
	}
}

func TestQueryRefused(t *testing.T) {
	h := queried(t)
	for _, c := range []struct {
		query    string
		status   int
		location string
		says     string
	}{
		{"where=" + url.QueryEscape(`name == "a" and Netwrk.IP == nil`), 400, "query.where:1:17", "did you mean Network?"},
		{"select=" + url.QueryEscape(`name,x=nope(1)`), 400, "query.select:1:8", "no function nope"},
		{"as=xml", 400, "", "table, csv, json, yaml"},
		{"limit=1000000", 400, "", "100000"},
		{"limit=-1", 400, "", "1 to"},
		{"sort=nmae", 400, "", "no such column"},
		{"in=.system", 404, "", "no namespace"},
		{"in=nothing", 404, "", "no namespace"},
	} {
		w := get(h, "GET", "/api/v1/query?"+c.query, near, "")
		var p huma.ErrorModel
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != c.status || !strings.Contains(problemText(&p), c.says) {
			t.Errorf("%s: %d %s", c.query, w.Code, w.Body)
			continue
		}
		if c.location != "" && (len(p.Errors) != 1 || p.Errors[0].Location != c.location || !strings.HasSuffix(p.Errors[0].Value.(string), "^")) {
			t.Errorf("%s: %s", c.query, w.Body)
		}
	}
}

func TestQueryClient(t *testing.T) {
	srv := httptest.NewServer(queried(t))
	defer srv.Close()
	c, err := NewClient(ClientConfig{Server: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.Query(t.Context(), Query{Where: `has(Network)`, Select: "name", As: "csv", In: "hosts", Sort: "-name", Limit: 1})
	if err != nil || string(got.Body) != "name\nc\n" || got.Matched != 2 || !got.More {
		t.Errorf("%+v %s %v", got, got.Body, err)
	}
	if got, err := c.Query(t.Context(), Query{Count: true, After: "a", As: "table"}); err != nil || string(got.Body) != "2\n" {
		t.Errorf("%s %v", got.Body, err)
	}
	var refused *Error
	if _, err := c.Query(t.Context(), Query{Where: "has("}); !errors.As(err, &refused) || refused.Status != 400 || !strings.Contains(err.Error(), "query.where:1:") {
		t.Errorf("%v", err)
	}
}
