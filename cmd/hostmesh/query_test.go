package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/node/api"
)

func TestQuery(t *testing.T) {
	store, err := hostdb.Open(hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	_, err = store.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, func(tx *hostdb.Tx) error {
		for _, key := range []string{"a", "b"} {
			doc, err := hostdb.ParseDocument([]byte("{Network: {IP: 10.1.0.1}, Protected: maybe}"))
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
	socket := filepath.Join(shortTempDir(t), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: api.NewHandler(api.Config{
		Query: store, Identify: func(*http.Request) (api.Identity, bool, error) { return api.Identity{}, false, nil },
	})}}
	srv.Start()
	t.Cleanup(srv.Close)

	for _, c := range []struct {
		args []string
		code int
		out  string
		errs string
	}{
		{[]string{`name == "a"`}, exitDone, "NAME  ADDRESS   STATUS\na     10.1.0.1  -\n", ""},
		{nil, exitDone, "NAME  ADDRESS   STATUS\na     10.1.0.1  -\nb     10.1.0.1  -\n", ""},
		{[]string{"--select", "name", "-o", "csv", "--sort=-name", "--limit", "1"}, exitDone, "name\nb\n", "hostmesh: 2 are found, not all are shown: see --limit\n"},
		{[]string{"true", "--count"}, exitDone, "2\n", ""},
		{[]string{"hosts > 0", "--in", "tags", "--select", "name", "-o", "yaml"}, exitDone, "- name: all\n", ""},
		{[]string{"Protected", "--count"}, exitDone, "0\n", "for 2 in hosts the value is neither true nor false"},
		{[]string{"Netwrk.IP == nil"}, exitUsage, "", "did you mean Network?"},
		{[]string{"has(Network) and nope(1)"}, exitUsage, "", "  has(Network) and nope(1)\n                   ^\n"},
		{[]string{"--select", "name,x=nope(1)"}, exitUsage, "", "  name,x=nope(1)\n         ^\n"},
		{[]string{"true", "--in", ".system"}, exitFailed, "", "no namespace"},
		{[]string{"true", "-o", "xml"}, exitUsage, "", "table, csv, json, yaml"},
		{[]string{"true", "--limit", "0"}, exitUsage, "", "100000"},
	} {
		code, out, errs := hostmesh(t, append([]string{"--socket", socket, "query"}, c.args...)...)
		if code != c.code || out != c.out || (c.errs == "") != (errs == "") || !strings.Contains(errs, c.errs) {
			t.Errorf("%q: %d\n%s%s", c.args, code, out, errs)
		}
	}
}
