package mysqlha

import (
	"context"
	"errors"
	"testing"
)

// oneRecord is a record that is there.
type oneRecord struct {
	Records
	rec Record
}

func (o oneRecord) Load(context.Context, string) (Record, uint64, error) { return o.rec, 1, nil }

// observed is a server that says one thing.
type observed struct {
	Server
	facts Facts
	err   error
}

func (o observed) Observe(context.Context) (Facts, error) { return o.facts, o.err }

// TestConnected: a connection of a replica counts only while its agent answers, its server runs and it knows of no later change.
func TestConnected(t *testing.T) {
	waits := Facts{Semi: SemiSync{Source: true, Active: true, Clients: 2}}
	with := func(edit func(*Facts)) Facts { f := waits; edit(&f); return f }
	runs := LocalState{Process: ProcessRuns, Epoch: 4}
	for _, c := range []struct {
		name   string
		facts  Facts
		err    error
		states map[string]LocalState // a host that is not there does not answer
		n      int
		ok     bool
	}{
		{"both", waits, nil, map[string]LocalState{"db2": runs, "db3": runs}, 2, true},
		{"one agent is away", waits, nil, map[string]LocalState{"db2": runs}, 1, true},
		{"the host was cut off", waits, nil, nil, 0, true},
		{"both know of a change", waits, nil, map[string]LocalState{"db2": {Process: ProcessRuns, Epoch: 5}, "db3": {Process: ProcessRuns, Epoch: 5}}, 0, true},
		{"one died", waits, nil, map[string]LocalState{"db2": {Process: ProcessDied, Epoch: 4}, "db3": runs}, 1, true},
		{"fewer are connected", with(func(f *Facts) { f.Semi.Clients = 1 }), nil, map[string]LocalState{"db2": runs, "db3": runs}, 1, true},
		{"none is", with(func(f *Facts) { f.Semi.Clients = 0 }), nil, map[string]LocalState{"db2": runs, "db3": runs}, 0, true},
		{"it went on without them", with(func(f *Facts) { f.Semi.Active = false }), nil, map[string]LocalState{"db2": runs, "db3": runs}, 0, false},
		{"it waits for nobody", with(func(f *Facts) { f.Semi.Source = false }), nil, map[string]LocalState{"db2": runs, "db3": runs}, 0, false},
		{"it does not answer", waits, ErrUnreachable, map[string]LocalState{"db2": runs, "db3": runs}, 0, false},
	} {
		state := func(_ context.Context, host, _ string) (LocalState, error) {
			if st, ok := c.states[host]; ok {
				return st, nil
			}
			return LocalState{}, ErrSilent
		}
		// In durability available a failover goes on without those that it does not reach: one is not enough.
		rest := &Connected{
			Records: oneRecord{rec: Record{Epoch: 4, Ackers: []string{"db2", "db3"}, Durability: "available"}}, Own: observed{facts: c.facts, err: c.err},
			State: state,
		}
		if _, _, err := rest.Load(t.Context(), "shop-db"); err != nil {
			t.Fatal(err)
		}
		if n, ok := rest.Ackers(t.Context(), "shop-db"); ok != c.ok || n != map[bool]int{true: 2}[c.n == 2] {
			t.Errorf("%s, available: %d, %t", c.name, n, ok)
		}
		k := &Connected{
			Records: oneRecord{rec: Record{Epoch: 4, Ackers: []string{"db2", "db3"}, Durability: "strict"}}, Own: observed{facts: c.facts, err: c.err},
			State: state,
		}
		if n, _ := k.Ackers(t.Context(), "shop-db"); n != 0 {
			t.Errorf("%s: before a record was read there are %d", c.name, n)
		}
		if _, _, err := k.Load(t.Context(), "shop-db"); err != nil && !errors.Is(err, ErrNoRecord) {
			t.Fatal(err)
		}
		if n, ok := k.Ackers(t.Context(), "shop-db"); n != c.n || ok != c.ok {
			t.Errorf("%s: %d, %t; want %d, %t", c.name, n, ok, c.n, c.ok)
		}
	}
}
