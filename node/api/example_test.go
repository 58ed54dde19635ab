package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
	"hostmesh/node/api"
)

// agent is an agent to try the client on, and a client of it.
func agent() (c *api.Client, stop func()) {
	memory := hostdbtest.NewMemory()
	store, err := hostdb.Open(hostdb.Config{OpenStorage: func() (hostdb.Storage, error) { return memory, nil }, NodeID: "box1"})
	if err != nil {
		log.Fatal(err)
	}
	watchers := api.NewWatchers(api.WatchConfig{Feed: store})
	srv := httptest.NewServer(api.NewHandler(api.Config{Objects: store, Watchers: watchers, Identify: func(*http.Request) (api.Identity, bool, error) {
		return api.Identity{User: "alice", Admin: true}, true, nil
	}}))
	if c, err = api.NewClient(api.ClientConfig{Server: srv.URL}); err != nil {
		log.Fatal(err)
	}
	return c, func() {
		_ = watchers.Close()
		_ = c.Close()
		srv.Close()
		_ = store.Close()
	}
}

// A read, a change and a write that fails when somebody else was faster.
func ExampleClient_PutObject() {
	c, stop := agent()
	defer stop()
	ctx := context.Background()
	if _, err := c.PutObject(ctx, "hosts", "web1", map[string]any{"Status": "active"}, api.WriteOptions{Log: "a new server", Create: true}); err != nil {
		log.Fatal(err)
	}
	host, err := c.Object(ctx, "hosts", "web1", api.ObjectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	// Somebody else writes meanwhile.
	if _, err := c.PatchObject(ctx, "hosts", "web1", map[string]any{"Rack": 12}, api.WriteOptions{Log: "moved"}); err != nil {
		log.Fatal(err)
	}
	_, err = c.PutObject(ctx, "hosts", "web1", map[string]any{"Status": "retired"}, api.WriteOptions{Log: "old", IfMatch: host.ETag})
	fmt.Println(errors.Is(err, api.ErrChanged))
	host, err = c.Object(ctx, "hosts", "web1", api.ObjectOptions{})
	fmt.Println(string(host.Data), err)
	// Output:
	// true
	// {"Rack":12,"Status":"active"} <nil>
}

// Several changes as one, if things are as they were seen.
func ExampleClient_Txn() {
	c, stop := agent()
	defer stop()
	missing := false
	done, err := c.Txn(context.Background(), api.Txn{
		Log:      "a new server and its tag",
		Compares: []api.Compare{{ID: "hosts/web1", Exists: &missing}},
		Effects: []api.Effect{
			{Op: "put", ID: "hosts/web1", Value: json.RawMessage(`{"Status": "active"}`)},
			{Op: "put", ID: "tags/web", Value: json.RawMessage(`{}`)},
			{Op: "add_member", ID: "tags/web/members/web1"},
		},
	}, 0)
	if err != nil {
		log.Fatal(err)
	}
	for _, change := range done.Changes {
		fmt.Println(change.Kind, change.ID, change.What)
	}
	// Output:
	// create hosts/web1 data
	// set hosts/web1 data
	// create tags/web data
	// set tags/web data
	// set tags/web members
}

// What there is, and then all that happens, without a gap between the two.
func ExampleClient_Watch() {
	c, stop := agent()
	defer stop()
	ctx := context.Background()
	page, err := c.Keys(ctx, "hosts", api.ListOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(page.Keys), "hosts")
	if _, err := c.PutObject(ctx, "hosts", "web1", nil, api.WriteOptions{Log: "a new server"}); err != nil {
		log.Fatal(err)
	}
	for e, err := range c.Watch(ctx, api.WatchOptions{From: page.Cursor, NS: "hosts"}) {
		if err != nil {
			log.Fatal(err) // it is of no use to go on: everything else was tried again
		}
		fmt.Println(e.Kind, e.User, e.Log)
		if e.Kind == api.EventSynced {
			break
		}
	}
	// Output:
	// 0 hosts
	// revision alice a new server
	// synced
}
