package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hostmesh/hostdb"
	"hostmesh/mesh"
)

func TestHistoryPolicy(t *testing.T) {
	for _, test := range []struct {
		cfg  HistoryConfig
		want hostdb.Policy
		err  string
	}{
		{HistoryConfig{}, hostdb.Policy{}, ""},
		{HistoryConfig{Keep: "400d"}, hostdb.Policy{Age: 400 * 24 * time.Hour}, ""},
		{HistoryConfig{Keep: "720h", AtLeast: "100000"}, hostdb.Policy{Age: 720 * time.Hour, Count: 100000}, ""},
		{HistoryConfig{AtLeast: "5"}, hostdb.Policy{Count: 5}, ""},
		{HistoryConfig{Keep: "23h"}, hostdb.Policy{}, "at least a day"},
		{HistoryConfig{Keep: "a while"}, hostdb.Policy{}, "such as 400d"},
		{HistoryConfig{Keep: "-3d"}, hostdb.Policy{}, "such as 400d"},
		{HistoryConfig{AtLeast: "0"}, hostdb.Policy{}, "such as 100000"},
		{HistoryConfig{AtLeast: "all"}, hostdb.Policy{}, "such as 100000"},
	} {
		got, err := test.cfg.policy()
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%+v: %v, expected %q", test.cfg, err, test.err)
		}
		if err == nil && got != test.want {
			t.Errorf("%+v: %+v, expected %+v", test.cfg, got, test.want)
		}
	}
}

func TestRetentionNamesWhomItWaitsFor(t *testing.T) {
	members := []mesh.Member{{ID: "a", Name: "box1", State: mesh.StateAlive}}
	if got := blocking(mesh.NewView("a", members)); got != "" {
		t.Errorf("waits for %q though everybody is there", got)
	}
	for i := range 7 {
		members = append(members, mesh.Member{ID: fmt.Sprint(i), Name: fmt.Sprintf("away%d", i), State: mesh.StateFailed})
	}
	got := blocking(mesh.NewView("a", members))
	if !strings.Contains(got, "away0, away1, away2, away3, away4 and 2 more") || strings.Contains(got, "box1") {
		t.Errorf("waits for %q", got)
	}
}

// A box that was restored from a backup and knows no other member drops nothing of what others wrote, until they were removed.
func TestRetentionAloneAmongOthersRuns(t *testing.T) {
	p, other := openPast(t, "a"), openPast(t, "b")
	p.write("alice", "one", put("hosts/web1", "{CPU: 2}"))
	if got := unseen(p.store.View(), "a"); got != "" {
		t.Errorf("its own runs are said to be of %q", got)
	}
	other.write("bob", "two", put("hosts/web2", "{CPU: 2}"))
	ops, err := other.store.Operations(other.store.Origin(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.store.Apply(t.Context(), ops); err != nil {
		t.Fatal(err)
	}
	if got := unseen(p.store.View(), "a"); got != "b" {
		t.Errorf("a run of b is said to be of %q", got)
	}
	_, err = p.store.Update(t.Context(), hostdb.Request{}, func(tx *hostdb.Tx) error {
		doc, err := hostdb.ParseDocument([]byte("{b: {name: box2}}"))
		if err != nil {
			return err
		}
		return tx.Put(hostdb.System, removedKey, doc)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := unseen(p.store.View(), "a"); got != "" {
		t.Errorf("a run of a node that was removed is said to be of %q", got)
	}
}

// Evidence is kept for its owner alone, in a bounded number of documents of which the first stay.
func TestEvidence(t *testing.T) {
	d := &dataDir{path: t.TempDir()}
	for i := range keptEvidence {
		if err := d.keepEvidence(fmt.Sprintf("%03d.json", i), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.keepEvidence("one-more.json", []byte("{}")); err == nil || !strings.Contains(err.Error(), "move them away") {
		t.Errorf("one document too many: %v", err)
	}
	if err := d.keepEvidence("000.json", []byte("{1}")); err != nil {
		t.Errorf("a document that is there already: %v", err)
	}
	if err := d.keepEvidence("../outside.json", []byte("{}")); err == nil {
		t.Error("a name that leads outside is taken once the folder is full")
	}
	if _, err := os.Stat(filepath.Join(d.path, "outside.json")); err == nil {
		t.Error("a name led outside of the folder")
	}
	info, err := os.Stat(filepath.Join(d.path, evidenceName, "000.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others can read it: %v, %v", info, err)
	}
}
