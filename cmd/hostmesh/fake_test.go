package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"hostmesh/hostdb"
	"hostmesh/node/api"
)

// fakeAgent answers as an agent does in situations that a real one is not easily brought into.
type fakeAgent struct {
	status api.Status
	report api.ImportReport
	err    error // of the import
	panics bool  // the import breaks off
	who    api.Identity
}

func (f *fakeAgent) Status() api.Status { return f.status }

func (f *fakeAgent) DNSTop() api.DNSTop {
	return api.DNSTop{Queries: []api.DNSQueryCount{{Zone: "dc1.example.com", Type: "A", Rcode: "NOERROR", Queries: 70}, {Type: "MX", Rcode: "REFUSED", Queries: 2}},
		Askers: []api.DNSAsker{{Addr: "10.1.0.9", Queries: 72}}}
}

func (f *fakeAgent) Zones() []api.Zone {
	return []api.Zone{{Name: "dc1.example.com", Serial: 7, Records: 3}, {Name: "1.10.in-addr.arpa", Serial: 12, Records: 2}}
}

func (f *fakeAgent) WriteZone(w io.Writer, name string) error {
	if name != "dc1.example.com" {
		return api.ErrNotFound
	}
	_, err := io.WriteString(w, "$ORIGIN dc1.example.com.\n")
	return err
}

func (f *fakeAgent) Import(_ context.Context, _ api.Identity, tar io.Reader, _ api.ImportOptions, _ func(api.ImportProgress)) (api.ImportReport, error) {
	if _, err := io.Copy(io.Discard, tar); err != nil {
		return api.ImportReport{}, err
	}
	if f.panics {
		panic(http.ErrAbortHandler)
	}
	return f.report, f.err
}

// serve runs the fake behind a socket.
func (f *fakeAgent) serve(t *testing.T) (socket string) {
	t.Helper()
	return serveAPI(t, api.Config{
		Status: f, Zones: f, DNSQueries: f, Importer: f,
		Identify: func(*http.Request) (api.Identity, bool, error) { return f.who, f.who.User != "", nil },
	})
}

// hostmesh runs the program in this process.
func hostmesh(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, nil, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestDNS(t *testing.T) {
	socket := (&fakeAgent{}).serve(t)
	if code, out, errs := hostmesh(t, "--socket", socket, "dns", "zone", "DC1.example.com."); code != exitDone || out != "$ORIGIN dc1.example.com.\n" || errs != "" {
		t.Errorf("zone: %d %q %q", code, out, errs)
	}
	want := "ZONE               SERIAL  RECORDS\ndc1.example.com    7       3\n1.10.in-addr.arpa  12      2\n"
	if code, out, errs := hostmesh(t, "--socket", socket, "dns", "zones"); code != exitDone || out != want || errs != "" {
		t.Errorf("zones: %d %q %q", code, out, errs)
	}
	if code, out, errs := hostmesh(t, "--socket", socket, "dns", "zone", "example.org"); code != exitFailed || out != "" || !strings.Contains(errs, `"example.org"`) {
		t.Errorf("unknown zone: %d %q %q", code, out, errs)
	}
}

func TestStatusExitCode(t *testing.T) {
	well := sampleStatus()
	well.Mesh = api.MeshStatus{ID: "m", Members: 1, Alive: 1}
	well.Daemons, well.Listeners = nil, nil
	noted := well
	noted.Node.Observe = true
	for _, c := range []struct {
		name string
		s    api.Status
		want int
	}{{"well", well, exitDone}, {"a note", noted, exitDone}, {"wrong", sampleStatus(), exitFailed}} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := hostmesh(t, "--socket", (&fakeAgent{status: c.s}).serve(t), "status")
			if code != c.want || !strings.HasPrefix(out, c.s.Node.Name+": ") || errs != "" {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.want, out, errs)
			}
		})
	}
}

// TestImportOutcomes: whatever happens, it is said whether something was written.
func TestImportOutcomes(t *testing.T) {
	alice := api.Identity{User: "alice"}
	bad := []api.ImportProblem{{File: "tags/.members/web", Line: 2, Text: "nobody is no host", Fatal: true}}
	for _, c := range []struct {
		name  string
		agent fakeAgent
		code  int
		want  []string
	}{
		{"all went in", fakeAgent{who: alice, report: api.ImportReport{Complete: true, Operations: 3, Acks: 2, LeftAlone: 1}}, exitDone,
			[]string{"3 changes, held by 2 boxes", "1 key that only the host database has stays"}},
		{"what the agent finds", fakeAgent{who: alice, report: api.ImportReport{Problems: bad}, err: errors.New("bad")}, exitFailed,
			[]string{"tags/.members/web:2: nobody is no host", "1 problem: nothing was imported"}},
		{"no permission", fakeAgent{who: alice, err: fmt.Errorf("tags/web: %w", hostdb.ErrDenied)}, exitFailed,
			[]string{"nothing was imported: tags/web: permission denied", "perms"}},
		{"half way", fakeAgent{who: alice, report: api.ImportReport{Operations: 1, Missing: []string{"tags/web", "tags/web/members"}}, err: hostdb.ErrStorageFull}, exitFailed,
			[]string{"missing: tags/web\n", "stopped half way: storage is full; 2 items are not there", "Import again"}},
		{"broken off", fakeAgent{who: alice, panics: true}, exitFailed, []string{"what was written is not known. Import again"}},
		{"nobody", fakeAgent{}, exitFailed, []string{"nobody is logged in", "--token-file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := hostmesh(t, "--socket", c.agent.serve(t), "db", "import", inventory(t))
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(out+errs, want) {
					t.Errorf("%q is missing in:\n%s%s", want, out, errs)
				}
			}
		})
	}
}

// serveAPI runs what cfg has of the HTTP interface behind a socket; for an administrator, unless cfg says who asks.
func serveAPI(t *testing.T, cfg api.Config) (socket string) {
	t.Helper()
	socket = filepath.Join(shortTempDir(t), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Identify == nil {
		cfg.Identify = func(*http.Request) (api.Identity, bool, error) {
			return api.Identity{User: "root", Admin: true}, true, nil
		}
	}
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: api.NewHandler(cfg)}}
	srv.Start()
	t.Cleanup(srv.Close)
	return socket
}
