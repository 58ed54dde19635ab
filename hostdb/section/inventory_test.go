package section

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/hostdb/hostdbtest"
)

var inventory = filepath.Join("..", "..", "examples", "inventory")

// documents are the documents of one namespace of the example.
func documents(t testing.TB, ns string) map[string]hostdb.Document {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(inventory, ns))
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]hostdb.Document{}
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(inventory, ns, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		docs[e.Name()] = parse(t, string(text))
	}
	return docs
}

// write makes a view of documents and of member lists by tag.
func write(t testing.TB, hosts, tags map[string]hostdb.Document, members map[string][]string) hostdb.View {
	t.Helper()
	store, err := hostdb.Open(hostdb.Config{NodeID: "test", OpenStorage: func() (hostdb.Storage, error) { return hostdbtest.NewMemory(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	_, err = store.Update(context.Background(), hostdb.Request{User: "test", Log: "test"}, func(tx *hostdb.Tx) error {
		for key, doc := range hosts {
			if err := tx.Put(hostdb.Hosts, key, doc); err != nil {
				return err
			}
		}
		for key, doc := range tags {
			if err := tx.Put(hostdb.Tags, key, doc); err != nil {
				return err
			}
		}
		for tag, names := range members {
			for _, name := range names {
				if err := tx.AddMember(hostdb.Tags, tag, name); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return store.View()
}

func loadInventory(t testing.TB) hostdb.View {
	t.Helper()
	tags := documents(t, hostdb.Tags)
	members := map[string][]string{}
	for tag := range tags {
		raw, err := os.ReadFile(filepath.Join(inventory, hostdb.Tags, ".members", tag))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		list, err := hostdb.ParseMembers(string(raw))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if m.Name != "" {
				members[tag] = append(members[tag], m.Name)
			}
		}
	}
	return write(t, documents(t, hostdb.Hosts), tags, members)
}

func TestInventoryIsClean(t *testing.T) {
	for _, ns := range []string{hostdb.Hosts, hostdb.Tags} {
		docs := documents(t, ns)
		if len(docs) < 100 {
			t.Errorf("only %d documents in %s", len(docs), ns)
		}
		for key, doc := range docs {
			warnings, err := Validator{}.Validate(ns, key, hostdb.Document{}, doc)
			if err != nil || len(warnings) > 0 {
				t.Errorf("%v %v", err, warnings)
			}
		}
	}
}

func TestInventoryCombines(t *testing.T) {
	v := loadInventory(t)
	for host := range v.Keys(hostdb.Hosts) {
		r := Effective(v, host)
		for _, d := range r.Disagreements {
			t.Errorf("%s: %s: %s and %v disagree", host, d.Path, d.Used.ID, d.Other)
		}
		if StatusOf(v.Data(hostdb.Hosts, host)) == Retired {
			continue
		}
		tag, problems := r.Sections()
		for _, p := range problems {
			t.Errorf("%s: %s", host, p)
		}
		if tag.Puppet == nil || tag.Logs == nil || tag.Monitoring == nil {
			t.Errorf("%s gets nothing from tags/all", host)
		}
	}

	r := Effective(v, "web1.dc1.example.com")
	tag, _ := r.Sections()
	if tag.Puppet.Environment != "production" || tag.Monitoring.Prometheus.Labels["team"] != "shipping" || tag.Monitoring.Prometheus.Port != 9113 {
		t.Errorf("web1: %+v", tag)
	}
	if from, ok := r.Origin(hostdb.PathOf("Monitoring", "Prometheus", "Port")); !ok || from.ID != "tags/web" || from.Rank != Inherited || from.Priority != 20 {
		t.Errorf("the port of web1 comes from %+v", from)
	}
	if r.Document.At("LB").Exists() || r.Document.At("DNS").Exists() || r.Document.Text("Network", "IP") != "10.1.8.11" {
		t.Errorf("web1:\n%s", r.Document.YAML())
	}
	if tag.Puppet.Classes["nginx"].Text("workers") != "4" || !tag.Puppet.Classes["base"].Exists() {
		t.Errorf("classes of web1: %v", tag.Puppet.Classes)
	}
}

func BenchmarkHostOf(b *testing.B) {
	doc := documents(b, hostdb.Hosts)["web1.dc1.example.com"]
	b.ReportAllocs()
	for b.Loop() {
		HostOf(doc)
	}
}

func BenchmarkNetworkOf(b *testing.B) {
	doc := documents(b, hostdb.Hosts)["web1.dc1.example.com"]
	b.ReportAllocs()
	for b.Loop() {
		NetworkOf(doc)
	}
}

func BenchmarkDNSOf(b *testing.B) {
	doc := documents(b, hostdb.Tags)["dc1"]
	b.ReportAllocs()
	for b.Loop() {
		DNSOf(doc)
	}
}

func BenchmarkEffective(b *testing.B) {
	v := loadInventory(b)
	b.ReportAllocs()
	for b.Loop() {
		Effective(v, "web1.dc1.example.com")
	}
}
