package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"hostmesh/node/api"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func sampleStatus() api.Status {
	return api.Status{
		Time: noon,
		Node: api.NodeStatus{
			Name: "box12.dc1.example.com", Addr: "10.1.0.12", Datacenter: "dc1", Rack: "r12", Started: noon.Add(-50 * time.Hour),
			Build: api.Build{Version: "0.1.0"}, DataDir: "/var/lib/hostmesh", DiskFree: 12 << 30, DiskFloor: 256 << 20,
		},
		Mesh: api.MeshStatus{
			ID: "m", Members: 4, Alive: 2, Failed: 1, Left: 1, Reports: api.ReportsStatus{Nodes: 3, LagMS: 75_040, SentPerSec: 1800, Refused: 2},
		},
		HostDB: api.HostDBStatus{Version: "83ab0be30a505579", Hosts: 240, Tags: 1, Peers: []api.ReplicaStatus{
			{Name: "box11", Heard: noon}, {Name: "box13", Heard: noon, Missing: 7}, {Name: "box14"},
		}},
		Duties: api.DutiesStatus{
			Group: &api.DutyGroup{ID: "0123456789abcdef0123456789abcdef", Generation: 2, Datacenter: "dc1", Home: true}, Leader: strings.Repeat("b", 32), LeaderName: "box13",
			Votes: true, Holding: []api.HeldDuty{{Duty: "mirror", Fence: 7}, {Duty: "vip/10.1.0.53", Fence: 9}}, AnsweredMS: 40, ContactMS: 20,
		},
		Daemons: []api.DaemonStatus{
			{Name: "dns", Version: "83ab0be30a505579", Reconciled: noon},
			{Name: "vip", Version: "1", Reconciled: noon.Add(-time.Hour), Failures: 3, Error: "address\x1b[2J in use", LagMS: 12000},
		},
		Listeners: []api.ListenerStatus{{Name: "http", Addr: "127.0.0.1:7950"}, {Name: "dns", Addr: "10.1.0.12:53", Error: "address in use"}},
	}
}

func TestStatusText(t *testing.T) {
	well := sampleStatus()
	well.Mesh = api.MeshStatus{ID: "m", Members: 1, Alive: 1}
	well.HostDB.Peers, well.Daemons, well.Listeners = nil, well.Daemons[:1], well.Listeners[:1]
	noted := well
	noted.Node.Observe = true
	joining := well
	joining.Mesh = api.MeshStatus{}

	var all bytes.Buffer
	for _, c := range []struct {
		name string
		s    api.Status
	}{{"wrong", sampleStatus()}, {"well", well}, {"a note", noted}, {"joining", joining}} {
		c.s.Problems = api.Diagnose(c.s)
		all.WriteString("# " + c.name + "\n")
		a := app{stdout: &all, output: formTable}
		if err := a.print(c.s, func(w io.Writer) { statusText(w, c.s) }); err != nil {
			t.Fatal(err)
		}
		all.WriteString("\n")
	}
	if strings.Contains(all.String(), "\x1b") {
		t.Error("an escape sequence of an error message reaches the terminal")
	}
	golden(t, "status.txt", all.Bytes())
}

func TestMembersTable(t *testing.T) {
	list := []api.Member{
		{ID: strings.Repeat("a", 32), Name: "box1.dc1.example.com", Addr: "10.1.0.11", Datacenter: "dc1", Rack: "r1", State: "alive", Since: noon.Add(-26 * time.Hour), Self: true},
		{ID: strings.Repeat("b", 32), Name: "box2.dc1.example.com", Addr: "10.1.0.12", Datacenter: "dc1", State: "alive", Since: noon.Add(-61 * time.Minute), RTTMillis: 0.43},
		{ID: "c", Name: "box3", Addr: "2001:db8::1", State: "failed", Since: noon.Add(-90 * time.Second), RTTMillis: 1},
		{ID: "", Name: "box4", State: "unknown", Since: noon.Add(time.Hour)},
	}
	var out bytes.Buffer
	for _, form := range []string{formTable, formYAML} {
		a := app{stdout: &out, output: form}
		if err := a.print(list, func(w io.Writer) { membersTable(w, list, noon) }); err != nil {
			t.Fatal(err)
		}
		out.WriteString("\n")
	}
	golden(t, "members.txt", out.Bytes())
}

func TestYAMLKeepsTypes(t *testing.T) {
	got, err := toYAML(map[string]any{"text": "0755", "flag": "true", "number": 755, "none": []string{}, "list": []string{"a: b"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "flag: \"true\"\nlist:\n  - 'a: b'\nnone: []\nnumber: 755\ntext: \"0755\"\n"
	if string(got) != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestImportProblemsAreShownSafely(t *testing.T) {
	var out bytes.Buffer
	im := importer{app: &app{stderr: &out}}
	im.printProblems(api.ImportReport{
		Problems: []api.ImportProblem{{File: "hosts/a\x1b[2J", Line: 3, Text: "bad \x1b[2J", Fatal: true}, {File: "tags/all", Text: "ignored"}},
		More:     2, Warnings: []string{"hosts/b: odd"}, Missing: []string{"tags/c"},
	})
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("an escape sequence reaches the terminal: %q", out.String())
	}
	for _, want := range []string{":3: bad", "warning: tags/all: ignored", "2 more problems", "warning: hosts/b: odd", "missing: tags/c"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, &out)
		}
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := progress{w: &out}
	p.show("writing", 5, 10)
	p.show("writing", 6, 10) // too soon to be worth a line
	p.end()
	p.end()
	if want := "\r\x1b[Kwriting 5 of 10\r\x1b[K"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	quiet := newProgress(&out)
	out.Reset()
	quiet.show("writing", 5, 10)
	quiet.end()
	if out.Len() > 0 {
		t.Errorf("what is no terminal got %q", out.String())
	}
}
