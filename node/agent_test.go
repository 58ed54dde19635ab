package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hostmesh/hostdb"
	"hostmesh/node/api"
	"hostmesh/vmd"
)

func TestMain(m *testing.M) {
	// libvirt has one event loop a process, which never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("hostmesh/vmd/libvirt.startEvents.func1.1"))
}

// eventually is how long a test waits for what the mesh does in its own time.
const eventually = 20 * time.Second

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(eventually)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("still not after %v: %s", eventually, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// loopback gives an address of 127/8 that no other test has, so that all ports on it are free.
func loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.N(254), rand.N(256), 1+rand.N(254))
}

// testAgent is an agent that a test runs.
type testAgent struct {
	*Agent
	t      *testing.T
	ended  chan error
	client *http.Client // over the socket
}

// testConfig is an agent of a directory that a test made.
func testConfig(t *testing.T, name string) Config {
	t.Helper()
	c := DefaultConfig()
	c.Name, c.Addr, c.DataDir = name, loopback(), shortDir(t)
	c.DNS.Listen = net.JoinHostPort(c.Addr, "7953")
	c.Logger = slog.New(slog.NewTextHandler(&testLog{t: t, name: name}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	return c
}

// shortDir is a directory for a socket: t.TempDir is too long for one with a long test name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// testLog shows what an agent logs with the test that failed.
type testLog struct {
	t    *testing.T
	name string
	mu   sync.Mutex
	text bytes.Buffer
	once bool
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.once {
		l.once = true
		l.t.Cleanup(func() {
			if l.t.Failed() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.t.Logf("log of %s:\n%s", l.name, l.text.String())
			}
		})
	}
	return l.text.Write(p)
}

func runAgent(t *testing.T, cfg Config) *testAgent {
	t.Helper()
	a, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ta := &testAgent{Agent: a, t: t, ended: make(chan error, 1)}
	go func() { ta.ended <- a.Run(context.Background()) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", a.SocketPath())
	}}
	ta.client = &http.Client{Transport: tr}
	t.Cleanup(ta.stop)
	return ta
}

// stop stops it in order, once.
func (a *testAgent) stop() {
	if a.ended == nil {
		return
	}
	a.client.CloseIdleConnections()
	if err := a.Close(); err != nil {
		a.t.Errorf("close: %v", err)
	}
	if err := <-a.ended; err != nil {
		a.t.Errorf("run: %v", err)
	}
	a.ended = nil
	if err := a.Close(); err != nil {
		a.t.Errorf("close again: %v", err)
	}
}

// do makes a request over the socket, and returns status and body.
func (a *testAgent) do(method, path string, form url.Values) (int, string) {
	a.t.Helper()
	req, err := http.NewRequest(method, "http://socket"+path, strings.NewReader(form.Encode()))
	if err != nil {
		a.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return send(a.t, a.client, req)
}

func send(t *testing.T, c *http.Client, req *http.Request) (int, string) {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func (a *testAgent) put(id, value string) {
	a.t.Helper()
	if status, body := a.do("PUT", "/v1/"+id, url.Values{"value": {value}, "log": {"test"}}); status != http.StatusCreated {
		a.t.Fatalf("PUT %s: %d %s", id, status, body)
	}
}

func (a *testAgent) ready() bool {
	status, _ := a.do("GET", "/readyz", nil)
	return status == http.StatusOK
}

// has reports whether a document is there over plain HTTP, which needs no session to read.
func (a *testAgent) has(id, want string) bool {
	a.t.Helper()
	res, err := http.Get("http://" + a.Addr("http") + "/v1/" + id)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return err == nil && res.StatusCode == http.StatusOK && string(body) == want
}

// founder makes a mesh and returns the configuration of its first node.
func founder(t *testing.T) Config {
	t.Helper()
	cfg := testConfig(t, "box1")
	cfg.KeyFile = filepath.Join(cfg.DataDir, "etc", "key")
	if _, err := Init(InitConfig{DataDir: cfg.DataDir, KeyFile: cfg.KeyFile, Name: cfg.Name}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// joiner is a node that joins the mesh of another.
func joiner(t *testing.T, name string, of Config) Config {
	t.Helper()
	cfg := testConfig(t, name)
	cfg.KeyFile, cfg.Join = of.KeyFile, []string{of.Addr}
	return cfg
}

func TestThreeAgents(t *testing.T) {
	first := founder(t)
	a := runAgent(t, first)
	wait(t, "the founder is ready", a.ready)
	a.put("hosts/web1.example.com", "Network: {IP: 10.0.0.1}\n")

	second, third := joiner(t, "box2", first), joiner(t, "box3", first)
	b, c := runAgent(t, second), runAgent(t, third)
	for _, x := range []*testAgent{b, c} {
		wait(t, "the joiner has the replica", func() bool {
			return x.ready() && x.has("hosts/web1.example.com", "Network:\n  IP: 10.0.0.1\n")
		})
	}
	wait(t, "all see each other", func() bool {
		return a.Status().Mesh.Alive == 3 && b.Status().Mesh.Alive == 3 && c.Status().Mesh.Alive == 3
	})
	if a.Status().Mesh.ID == "" || a.Status().Mesh.ID != c.Status().Mesh.ID {
		t.Errorf("mesh ids %q and %q", a.Status().Mesh.ID, c.Status().Mesh.ID)
	}

	c.put("hosts/web2.example.com", "Network: {IP: 10.0.0.2}\n")
	for _, x := range []*testAgent{a, b} {
		wait(t, "the others have the write", func() bool { return x.has("hosts/web2.example.com", "Network:\n  IP: 10.0.0.2\n") })
	}
	digests := func(x *testAgent) api.Digests { return x.Digests() }
	if x, y := digests(a), digests(c); x.Version != y.Version || x.Namespaces["hosts"] != y.Namespaces["hosts"] {
		t.Errorf("digests %v and %v", x, y)
	}

	t.Run("DNS", func(t *testing.T) { checkDNS(t, a, c) })

	// One goes away; the others go on; it comes back and catches up.
	id := b.NodeID()
	b.stop()
	wait(t, "the departure is seen", func() bool { return a.Status().Mesh.Alive == 2 })
	a.put("hosts/web3.example.com", "Network: {IP: 10.0.0.3}\n")
	second.Join = nil // what it knows must be enough
	b = runAgent(t, second)
	if b.NodeID() != id {
		t.Errorf("node id %s, then %s", id, b.NodeID())
	}
	if !b.ready() && !b.has("hosts/web1.example.com", "Network:\n  IP: 10.0.0.1\n") {
		t.Error("the stale replica is not served at once")
	}
	if got := resolve(b, "web1.example.com"); got != "10.0.0.1" {
		t.Errorf("after the restart web1 is %q", got)
	}
	wait(t, "it caught up", func() bool { return b.has("hosts/web3.example.com", "Network:\n  IP: 10.0.0.3\n") })

	t.Run("HTTPS", func(t *testing.T) { checkHTTPS(t, a, c) })
	t.Run("status", func(t *testing.T) { checkStatus(t, a, c) })
}

// resolve asks an agent's DNS for a name.
func resolve(a *testAgent, name string) string {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, a.Addr("dns"))
	}}
	ctx, cancel := context.WithTimeout(context.Background(), eventually)
	defer cancel()
	addrs, err := r.LookupHost(ctx, name+".")
	if err != nil {
		return err.Error()
	}
	return strings.Join(addrs, " ")
}

// checkDNS writes at one node and asks another.
func checkDNS(t *testing.T, at, asked *testAgent) {
	at.put("tags/example", "DNS: {Zone: example.com}\n")
	at.put("tags/example/members", "web1.example.com\nweb2.example.com\n")
	wait(t, "the other node resolves it", func() bool { return resolve(asked, "web2.example.com") == "10.0.0.2" })
	if got := resolve(asked, "box1.node.mesh.internal"); got != at.Config().Addr {
		t.Errorf("box1.node.mesh.internal is %q, want %s", got, at.Config().Addr)
	}
	status, text := asked.do("GET", "/api/v1/dns/zones/example.com", nil)
	if status != http.StatusOK || !strings.Contains(text, "10.0.0.1") {
		t.Errorf("zone file: %d %s", status, text)
	}
	if status, _ := asked.do("GET", "/api/v1/dns/zones/example.org", nil); status != http.StatusNotFound {
		t.Errorf("a zone that is not there: %d", status)
	}
	status, text = asked.do("GET", "/api/v1/dns/zones", nil)
	if status != http.StatusOK || !strings.Contains(text, `"example.com"`) || !strings.Contains(text, `"mesh.internal"`) {
		t.Errorf("zones: %d %s", status, text)
	}
}

// checkHTTPS asks two nodes with one trusted certificate.
func checkHTTPS(t *testing.T, agents ...*testAgent) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(agents[0].WebCA()) {
		t.Fatal("no certificate")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	for _, a := range agents {
		if file, err := os.ReadFile(filepath.Join(a.Config().DataDir, webCAName)); err != nil || !bytes.Equal(file, agents[0].WebCA()) {
			t.Errorf("%s in the data directory: %v", webCAName, err)
		}
		req, _ := http.NewRequest("GET", "https://"+a.Addr("https")+"/v1/hosts", nil)
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.Proto != "HTTP/1.1" || res.TLS.Version < tls.VersionTLS12 || !strings.Contains(string(body), "web1.example.com") {
			t.Errorf("%s %x %q", res.Proto, res.TLS.Version, body)
		}
	}
	old := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}}
	defer old.CloseIdleConnections()
	req, _ := http.NewRequest("GET", "https://"+agents[0].Addr("https")+"/v1", nil)
	if res, err := old.RoundTrip(req); err == nil {
		res.Body.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

func checkStatus(t *testing.T, a, c *testAgent) {
	client, err := api.NewClient(api.ClientConfig{Socket: a.SocketPath()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Node.ID != a.NodeID() || s.Node.Name != "box1" || s.HostDB.Hosts != 3 || s.HostDB.Version == "" || s.Node.DiskFloor < minFree || s.Node.Started.IsZero() {
		t.Errorf("status %+v", s)
	}
	names := map[string]string{}
	for _, l := range s.Listeners {
		names[l.Name] = l.Addr
	}
	for _, want := range []string{"socket", "http", "https", "gossip", "streams", "dns"} {
		if names[want] == "" {
			t.Errorf("listener %s is missing in %v", want, names)
		}
	}
	if len(s.HostDB.Peers) == 0 {
		t.Error("no other replicas")
	}
	members, err := client.Members(t.Context())
	if err != nil || len(members) != 3 || members[0].Name != "box1" || !members[0].Self || members[2].ID != c.NodeID() {
		t.Errorf("members %+v, %v", members, err)
	}
	status, metrics := a.do("GET", "/metrics", nil)
	if status != http.StatusOK {
		t.Fatalf("metrics: %d", status)
	}
	for _, want := range []string{"hostmesh_build_info{", `hostmesh_hostdb_keys{namespace="hosts"} 3`, "hostmesh_mesh_members{", "hostmesh_daemon_lag_seconds{", "go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestSocketAndHTTP(t *testing.T) {
	cfg := testConfig(t, "box1")
	cfg.Dev, cfg.DNS.Listen = true, net.JoinHostPort(cfg.Addr, "7953")
	a := runAgent(t, cfg)
	wait(t, "ready", a.ready)
	a.put("hosts/a", "Owner: ops\n")

	st, err := os.Stat(a.SocketPath())
	if err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("socket: %v, %v", st.Mode(), err)
	}
	// Over TCP nobody is known.
	req, _ := http.NewRequest("PUT", "http://"+a.Addr("http")+"/v1/hosts/b", strings.NewReader("value=x&log=y"))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if status, _ := send(t, http.DefaultClient, req); status != http.StatusUnauthorized {
		t.Errorf("a write without a session: %d", status)
	}
	http.DefaultClient.CloseIdleConnections()
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/v1": 200, "/v9/hosts": 200, "/v1//hosts/a//": 200, "/v1/hosts//a": 400, "/v1x": 404, "/v": 404, "/vx/hosts": 404,
		"/nothing": 404, "/openapi.json": 200, "/api/v1/digest": 200, "/metrics": 200,
	} {
		res, err := a.client.Get("http://socket" + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want || res.Header.Get(api.HeaderVersion) != a.store.View().Version().String() {
			t.Errorf("%s: %d with version %q, want %d and %s", path, res.StatusCode, res.Header.Get(api.HeaderVersion), want, a.store.View().Version())
		}
	}
}

// Under --observe the agent answers, and only looks.
func TestObserve(t *testing.T) {
	cfg := testConfig(t, "box1")
	cfg.Dev, cfg.Observe, cfg.Libvirt = true, true, "test:///default"
	a := runAgent(t, cfg)
	wait(t, "ready", a.ready)
	a.put("hosts/web1.example.com", "Network: {IP: 10.0.0.1}\n")
	a.put("tags/example", "DNS: {Zone: example.com}\n")
	a.put("tags/example/members", "web1.example.com\n")
	wait(t, "DNS answers", func() bool { return resolve(a, "web1.example.com") == "10.0.0.1" })
	if s := a.Status(); !s.Node.Observe {
		t.Errorf("status does not tell: %+v", s.Node)
	}
	// The hypervisor is looked at, and nothing is made for machines or images.
	if a.virt == nil {
		t.Fatal("there is no hypervisor")
	}
	list, err := a.virt.List(t.Context())
	if err != nil || len(list) == 0 {
		t.Errorf("the domain of the test driver is not seen: %v, %v", list, err)
	}
	if names, err := a.virt.Volumes(t.Context()); err != nil || len(names) > 0 {
		t.Errorf("volumes: %v, %v", names, err)
	}
	if h, err := a.virt.Host(t.Context()); err != nil || h.DiskFree == 0 || h.DiskOwn != 0 {
		t.Errorf("host: %+v, %v", h, err)
	}
	if err := a.virt.Destroy(t.Context(), list[0].UUID); err == nil {
		t.Error("a domain was ended")
	}
	if _, err := a.virt.WriteVolume(t.Context(), "x", strings.NewReader("x"), 1); !errors.Is(err, vmd.ErrUnsupported) {
		t.Errorf("a volume is written: %v", err)
	}
	for _, path := range []string{a.cfg.VM.Dir, filepath.Join(cfg.DataDir, ledgerDir)} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was made: %v", path, err)
		}
	}
}

func TestDevKeepsItsMesh(t *testing.T) {
	cfg := testConfig(t, "dev")
	cfg.Dev = true
	a := runAgent(t, cfg)
	wait(t, "ready", a.ready)
	a.put("hosts/a", "Owner: ops\n")
	id, ca := a.Status().Mesh.ID, a.WebCA()
	a.stop()
	b := runAgent(t, cfg)
	wait(t, "ready again", b.ready)
	if !b.has("hosts/a", "Owner: ops\n") || b.Status().Mesh.ID != id || !bytes.Equal(b.WebCA(), ca) {
		t.Error("the second start is another mesh")
	}
}

func TestOpenRefuses(t *testing.T) {
	first := founder(t)
	running, err := Open(first)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	blocker, err := net.Listen("tcp", net.JoinHostPort(loopback(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Close()

	for _, c := range []struct {
		name string
		cfg  func() Config
		is   error
		want []string
	}{
		{"an empty directory", func() Config { return testConfig(t, "x") }, ErrNoMesh, []string{"hostmesh init", "--join"}},
		{"a directory in use", func() Config { return first }, ErrInUse, []string{fmt.Sprint("process ", os.Getpid()), "--data-dir"}},
		{"no key off loopback", func() Config {
			c := founderDir(t)
			c.KeyFile, c.Addr = "", "192.0.2.1"
			return c
		}, nil, []string{"--key-file", "hostmesh keygen"}},
		{"no key to join with", func() Config { c := joiner(t, "x", first); c.KeyFile = ""; return c }, nil, []string{"key_file"}},
		{"no key to join with, in dev", func() Config { c := joiner(t, "x", first); c.KeyFile, c.Dev = "", true; return c }, nil, []string{"key_file"}},
		{"HTTP port in use", func() Config { c := joiner(t, "x", first); c.HTTP = blocker.Addr().String(); return c }, nil, []string{"http", blocker.Addr().String(), "in use"}},
		{"HTTPS port in use", func() Config { c := joiner(t, "x", first); c.HTTPS = blocker.Addr().String(); return c }, nil, []string{"https", "in use"}},
		{"DNS port in use", func() Config { c := joiner(t, "x", first); c.DNS.Listen = blocker.Addr().String(); return c }, nil, []string{"dns", "in use"}},
		{"gossip port in use", func() Config {
			c := joiner(t, "x", first)
			c.Addr, c.HTTP, c.HTTPS, c.DNS.Listen = first.Addr, NoListener, NoListener, NoListener
			return c
		}, nil, []string{"addr", "in use"}},
		{"a path too long for the socket", func() Config {
			c := joiner(t, "x", first)
			c.DataDir = filepath.Join(c.DataDir, strings.Repeat("d", 100))
			return c
		}, nil, []string{"data_dir", "socket"}},
		{"a users file that is bad", func() Config {
			c := joiner(t, "x", first)
			c.Auth.UsersFile = writeText(t, filepath.Join(t.TempDir(), "users"), "alice: 3\n")
			return c
		}, nil, []string{"alice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := c.cfg()
			a, err := Open(cfg)
			if err == nil {
				a.Close()
				t.Fatal("it opens")
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %v", err, c.is)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if cfg.DataDir == first.DataDir {
				return
			}
			d, err := openDataDir(cfg.DataDir) // nothing is held
			if err != nil {
				t.Fatal(err)
			}
			d.close()
		})
	}
}

// founderDir is a founder's directory that lost its key.
func founderDir(t *testing.T) Config {
	t.Helper()
	c := founder(t)
	if err := os.Remove(c.KeyFile); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestJoinerWithoutPeer(t *testing.T) {
	first := founder(t)
	cfg := joiner(t, "box2", first) // nobody runs there
	a := runAgent(t, cfg)
	if status, why := a.do("GET", "/readyz", nil); status != http.StatusServiceUnavailable || !strings.Contains(why, "no copy of HostDB") {
		t.Errorf("readyz: %d %s", status, why)
	}
	if status, _ := a.do("GET", "/healthz", nil); status != http.StatusOK {
		t.Errorf("healthz: %d", status)
	}
	b := runAgent(t, first)
	wait(t, "the founder is ready", b.ready)
	wait(t, "the joiner found it", a.ready)
	a.stop()
	c, err := inspectDataDir(cfg.DataDir)
	if err != nil || c.Mesh.ID != b.Status().Mesh.ID || c.Mesh.Founder {
		t.Errorf("the joiner wrote down %+v, %v", c.Mesh, err)
	}
}

// A founder that lost its database is not ready before it has the others' copy: it would answer that nothing exists.
func TestFounderWithoutData(t *testing.T) {
	first := founder(t)
	now := time.Now()
	var ahead atomic.Int64 // of the founder's clock
	a := runAgent(t, first)
	wait(t, "a founder alone is ready", a.ready)
	b := runAgent(t, joiner(t, "box2", first))
	wait(t, "the joiner is ready", b.ready)
	a.put("hosts/web1", "Owner: ops")
	wait(t, "the joiner has it", func() bool { return b.has("hosts/web1", "Owner: ops\n") })
	a.stop()
	if err := os.RemoveAll(filepath.Join(first.DataDir, replicaDir)); err != nil {
		t.Fatal(err)
	}
	again := first
	again.Clock = clockFunc(func() time.Time { return now.Add(time.Duration(ahead.Load())) })
	b.stop()
	a = runAgent(t, again)
	if status, why := a.do("GET", "/readyz", nil); status != http.StatusServiceUnavailable || !strings.Contains(why, "no copy of HostDB") {
		t.Errorf("readyz of a founder that lost its database: %d %s", status, why)
	}
	ahead.Store(int64(foundersPatience))
	wait(t, "the last that is left serves what it has", a.ready)
	a.stop()

	// With a member alive it waits for that one's copy, however long it takes.
	b = runAgent(t, b.Config())
	a = runAgent(t, again)
	wait(t, "the founder is ready", a.ready)
	if !a.has("hosts/web1", "Owner: ops\n") {
		t.Error("it was ready before it had the copy")
	}
}

// What a data directory holds may be old: from its absence there nothing follows for machines before it was compared with another
// member's copy in this run, or nobody is left to compare it with.
func TestCopyOfAnEarlierRunIsCompared(t *testing.T) {
	first := founder(t)
	a := runAgent(t, first)
	wait(t, "a founder alone has all there is", func() bool { return a.ready() && a.caughtUp() })
	b := runAgent(t, joiner(t, "box2", first))
	wait(t, "the joiner is ready", b.ready)
	a.put("hosts/web1", "Owner: ops")
	wait(t, "the joiner has it", func() bool { return b.caughtUp() && b.has("hosts/web1", "Owner: ops\n") })
	b.stop()
	a.stop()
	now := time.Now()
	var ahead atomic.Int64
	again := first
	again.Clock = clockFunc(func() time.Time { return now.Add(time.Duration(ahead.Load())) })
	a = runAgent(t, again)
	wait(t, "it serves what it has", a.ready)
	if a.caughtUp() {
		t.Error("it takes a copy that was compared with nobody's for the newest")
	}
	ahead.Store(int64(foundersPatience))
	wait(t, "the last that is left", a.caughtUp)
	a.stop()
	ahead.Store(0)
	a = runAgent(t, again)
	b = runAgent(t, b.Config())
	wait(t, "it compared in this run", a.caughtUp)
}

// clockFunc is a hostdb.Clock.
type clockFunc func() time.Time

func (f clockFunc) Now() time.Time { return f() }

func TestAgentImport(t *testing.T) {
	cfg := testConfig(t, "box1")
	cfg.Dev = true
	a := runAgent(t, cfg)
	wait(t, "ready", a.ready)
	tar := tarOf(t, map[string]string{"hosts/web1": "Owner: ops\n", "tags/web": "{}\n", "tags/.members/web": "web1"})
	im := importer{a.store}
	who := api.Identity{User: "root", Admin: true}
	report, err := im.Import(t.Context(), who, bytes.NewReader(tar), api.ImportOptions{Log: "try", DryRun: true}, func(api.ImportProgress) {})
	if err != nil || report.Read != 2 || a.store.View().Exists(hostdb.Hosts, "web1") {
		t.Fatalf("dry run: %+v, %v", report, err)
	}
	for _, who := range []api.Identity{{User: "mallory"}, {}} {
		if _, err := im.Import(t.Context(), who, bytes.NewReader(tar), api.ImportOptions{Log: "import"}, func(api.ImportProgress) {}); !errors.Is(err, hostdb.ErrDenied) {
			t.Errorf("%+v may import: %v", who, err)
		}
	}
	phases := map[string]bool{}
	report, err = im.Import(t.Context(), who, bytes.NewReader(tar), api.ImportOptions{Log: "import"}, func(p api.ImportProgress) { phases[p.Phase] = true })
	if err != nil || !report.Complete || report.Keys.Created != 2 || report.Members.Created != 1 || !phases["writing"] {
		t.Errorf("import: %+v, %v, %v", report, err, phases)
	}
	bad := tarOf(t, map[string]string{"hosts/web2": "Owner: ops\n", "hosts/web3": "a: [\n"})
	report, err = im.Import(t.Context(), who, bytes.NewReader(bad), api.ImportOptions{Log: "import"}, func(api.ImportProgress) {})
	if err == nil || report.Complete || len(report.Problems) == 0 || report.Problems[0].File != "hosts/web3" || a.store.View().Exists(hostdb.Hosts, "web2") {
		t.Errorf("bad YAML: %+v, %v", report, err)
	}
}
