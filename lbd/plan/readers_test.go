package plan

import (
	"strings"
	"testing"

	"hostmesh/mesh"
	"hostmesh/mesh/report"
)

// TestReaders follows ReadVIP of a database: replicas that read get readers, and the primary while there is none.
func TestReaders(t *testing.T) {
	w := newWorld(t)
	defer w.store.Close()
	docs := web(3)
	docs["tags/web"] = "MySQL: {VIP: 10.1.0.50, ReadVIP: 10.1.0.51, Credentials: shop, Port: 3307}"
	w.write(docs)
	servers := map[string]report.MySQL{}
	w.edit = func(v mesh.View) mesh.View {
		for host, my := range servers {
			node, _ := v.ByName(host)
			v = v.WithReport(report.Report{Node: node.ID, Boot: 1, N: 1, MySQL: map[string]report.MySQL{"web": my}})
		}
		return v
	}
	expect := func(want string) *Service {
		t.Helper()
		r := w.plan()
		if states(r, "web") != want {
			t.Fatalf("%s, want %s\n%s", states(r, "web"), want, show(r))
		}
		s, _ := r.Service("web")
		return s
	}
	if s := expect("1i 2i 3i"); s.VIP.String() != "10.1.0.51" || len(s.Ports) != 1 || s.Ports[0].Port != 3307 || s.Ports[0].To != 3307 || s.Check.Type != "mysql" { // nobody has said anything yet
		t.Fatalf("%+v", s)
	}
	for i := range 3 {
		w.members[name(i+1)] = mesh.StateAlive
	}
	servers[name(1)] = report.MySQL{Process: "running", Role: "primary", Reads: true}
	servers[name(2)] = report.MySQL{Process: "running", Role: "replica", Reads: true}
	servers[name(3)] = report.MySQL{Process: "running", Role: "replica", Reason: "9 s behind"}
	s := expect("1o 2i 3o")
	if s.Backends[0].Cause != Primary || s.Backends[2].Cause != Behind || !strings.Contains(s.Backends[2].Why, "9 s behind") {
		t.Fatalf("%+v", s.Backends)
	}
	servers[name(2)] = report.MySQL{Process: "died", Role: ""}
	expect("1i 2o 3o") // the primary is all there is
	servers[name(3)] = report.MySQL{Process: "running", Role: "replica", Reads: true}
	expect("1o 2o 3i")
	w.write(map[string]string{hostID(3): "{Network: {IP: 10.1.8.3}, Status: maintenance}"})
	if s := expect("1i 2o 3d"); s.Backends[0].Cause != "" { // what is taken out by hand is nobody to rely on
		t.Fatalf("%+v", s.Backends)
	}
	// A section LB beside it has the tag.
	w.write(map[string]string{"tags/web": "{LB: {VIP: 10.1.0.52, Ports: {80/tcp: 80}}, MySQL: {VIP: 10.1.0.50, ReadVIP: 10.1.0.51, Credentials: shop}}"})
	if r := w.plan(); len(r.Problems) == 0 || r.Problems[0].Name != NoReaders || r.Services[0].VIP.String() != "10.1.0.52" {
		t.Fatalf("%s", show(r))
	}
	// An address of MySQL is nobody else's.
	w.write(map[string]string{"tags/web": "MySQL: {VIP: 10.1.0.50, ReadVIP: 10.1.9.9, Credentials: shop}", "tags/other": "LB: {VIP: 10.1.0.50, Ports: {80/tcp: 80}}"})
	if r := w.plan(); !strings.Contains(show(r), "vip-taken tags/other: LB/VIP 10.1.0.50") || !strings.Contains(show(r), "vip-outside-vips tags/web: MySQL/ReadVIP 10.1.9.9") {
		t.Fatalf("%s", show(r))
	}
	w.write(map[string]string{"tags/web": "MySQL: {VIP: 10.1.0.50, Credentials: shop}"})
	if r := w.plan(); len(r.Services) != 0 {
		t.Fatalf("no ReadVIP, and %s", show(r))
	}
}
