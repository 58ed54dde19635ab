package node

import (
	"context"
	"errors"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/node/api"
)

// examinerOf looks at two hosts that claim one address, on a node that has no mesh.
func examinerOf(t *testing.T) *examiner {
	t.Helper()
	s, err := hostdb.Open(hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	doc, err := hostdb.ParseDocument([]byte("Network: {IP: 10.1.0.1}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(t.Context(), hostdb.Request{User: "alice", Log: "test"}, func(tx *hostdb.Tx) error {
		return errors.Join(tx.Put(hostdb.Hosts, "web1.example.com", doc), tx.Put(hostdb.Hosts, "web2.example.com", doc))
	}); err != nil {
		t.Fatal(err)
	}
	status := func() api.Status {
		return api.Status{Problems: []api.Problem{{Severity: api.SeverityNotice, Subject: "dns", Text: "a note"}}}
	}
	return &examiner{view: s.View, status: status, domain: "mesh.internal", turn: make(chan struct{}, 1)}
}

func TestDoctor(t *testing.T) {
	x := examinerOf(t)
	for _, c := range []struct {
		name             string
		opts             api.DoctorOptions
		failures, checks int // checks: 0 for all
		node             bool
	}{
		{"all", api.DoctorOptions{}, 1, 0, true},
		{"without the node", api.DoctorOptions{Skip: []string{"node"}}, 1, 0, false},
		{"the node alone", api.DoctorOptions{Only: []string{"node"}}, 0, -1, true},
		{"one check", api.DoctorOptions{Only: []string{"addresses"}}, 1, 1, false},
		{"one check and the node", api.DoctorOptions{Only: []string{"addresses", "node"}}, 1, 1, true},
		{"a host", api.DoctorOptions{Host: "web2.example.com"}, 1, 0, false},
	} {
		r, err := x.Examine(t.Context(), c.opts)
		if err != nil || !r.Complete || r.Version == "" || r.Errors != c.failures || (len(r.Node) > 0) != c.node {
			t.Errorf("%s: %+v %v", c.name, r, err)
		}
		if n := len(r.Checks); c.checks > 0 && n != c.checks || c.checks < 0 && n > 0 || c.checks == 0 && n < 10 {
			t.Errorf("%s: %d checks ran", c.name, n)
		}
		for _, k := range r.Checks {
			if k.Doc == "" {
				t.Errorf("%s: %s is not explained", c.name, k.Name)
			}
		}
		if c.node && (r.Node[0].Severity != api.SeverityError || r.Node[len(r.Node)-1].Text != "a note") {
			t.Errorf("%s: of the node: %+v", c.name, r.Node)
		}
	}
}

func TestDoctorErrors(t *testing.T) {
	x := examinerOf(t)
	if _, err := x.Examine(t.Context(), api.DoctorOptions{Only: []string{"adresses"}}); !errors.Is(err, hostdb.ErrInvalid) || !strings.Contains(err.Error(), "did you mean addresses?") {
		t.Errorf("a check that is not there: %v", err)
	}
	if _, err := x.Examine(t.Context(), api.DoctorOptions{Host: "web3.example.com"}); !errors.Is(err, hostdb.ErrNotFound) || !strings.Contains(err.Error(), "did you mean web") {
		t.Errorf("a host that is not there: %v", err)
	}
	x.turn <- struct{}{} // somebody else's examination
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Examine(ctx, api.DoctorOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("while another runs: %v", err)
	}
}
