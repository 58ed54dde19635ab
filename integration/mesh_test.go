package integration

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hostmesh/hostdb/auth"
	"hostmesh/node/api"
)

// eventually is how long a test waits for what agents do in their own time. It is generous: a test must not fail
// because its machine is busy. What it really took is logged.
const eventually = 45 * time.Second

// built is where executables are built; TestMain makes and removes it.
var built string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if built, err = os.MkdirTemp("", "hostmesh-built-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(built)
		return m.Run()
	}())
}

// hostmesh is the executable under test: HOSTMESH_BINARY, else one that is built once.
var hostmesh = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("HOSTMESH_BINARY"); path != "" {
		return filepath.Abs(path)
	}
	return build("hostmesh", nil, "libvirt_dlopen")
})

func build(name string, environ []string, tags string) (string, error) {
	path := filepath.Join(built, name)
	cmd := exec.Command("go", "build", "-tags", tags, "-o", path, "hostmesh/cmd/hostmesh")
	cmd.Env = append(os.Environ(), environ...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return path, nil
}

// binary is hostmesh for a test that cannot do without.
func binary(t *testing.T) string {
	t.Helper()
	path, err := hostmesh()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// site is a mesh under test: its key, its users, and its boxes.
type site struct {
	t        *testing.T
	dir      string
	keyFile  string
	users    string // the users file
	password string // of its one user, who is in the group ops
	token    string // a session of that user, for writes over HTTP
	boxes    []*box
}

// box is one agent: a process on an address that only this test has.
type box struct {
	site       *site
	name, addr string
	dir        string   // data directory
	binary     string   //
	under      []string // what the agent is started by, such as ip netns exec; mostly nothing
	settings   []string // further lines of its agent.yaml
	api        *api.Client
	web        *http.Client

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone; nil before the first start
}

// newSite makes the directories and files of a mesh with n boxes. Nothing runs yet, and no mesh is founded.
func newSite(t *testing.T, n int) *site {
	t.Helper()
	s := &site{t: t, dir: shortDir(t), password: rand.Text()}
	s.keyFile = filepath.Join(s.dir, "mesh.key")
	hash, err := auth.HashPassword(s.password)
	if err != nil {
		t.Fatal(err)
	}
	s.users = s.write("users.yaml", fmt.Sprintf("ann: {password: '%s', allow: [127.0.0.0/8], groups: [ops]}\n", hash))
	for range n {
		s.newBox(loopback(t))
	}
	return s
}

// newBox adds a box. It does not run yet.
func (s *site) newBox(addr string) *box {
	s.t.Helper()
	name := fmt.Sprintf("box%d", len(s.boxes)+1)
	b := &box{site: s, name: name + ".test", addr: addr, dir: filepath.Join(s.dir, name), binary: binary(s.t)}
	var err error
	if b.api, err = api.NewClient(api.ClientConfig{Socket: b.socket()}); err != nil {
		s.t.Fatal(err)
	}
	b.web = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	s.boxes = append(s.boxes, b)
	s.t.Cleanup(func() {
		b.kill()
		b.api.Close()
		b.web.CloseIdleConnections()
		if s.t.Failed() {
			s.t.Logf("log of %s, its end:\n%s", b.name, lastLines(withoutGossip(b.log()), 25))
		}
	})
	return b
}

// shortDir is a directory for sockets, whose paths are bounded; t.TempDir is too long for that.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hmi-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// loopback is an address of 127.0.1.0/24 that no other test has while this one runs, in this process or another: all
// of an agent's ports are free on it. The mark is a port that no agent uses.
func loopback(t *testing.T) string {
	t.Helper()
	for i := 1; i < 255; i++ {
		addr := fmt.Sprintf("127.0.1.%d", i)
		mark, err := net.ListenPacket("udp", addr+":7900")
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { mark.Close() })
		return addr
	}
	t.Fatal("every address of 127.0.1.0/24 is taken by another test")
	return ""
}

func (s *site) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// start founds the mesh, starts every box, waits until each sees all alive, and lets the group ops write.
func (s *site) start() {
	s.t.Helper()
	s.boxes[0].found()
	for i, b := range s.boxes {
		if i > 0 {
			b.settings = append(b.settings, "join: ["+s.boxes[0].addr+"]")
		}
		b.start()
	}
	s.allAlive()
	s.openToOps()
}

// openToOps lets the user of the site write, and gives it a session.
func (s *site) openToOps() {
	s.t.Helper()
	b := s.boxes[0]
	for _, ns := range []string{"hosts", "tags"} {
		if _, err := b.api.Put(s.t.Context(), ns+"/.default/perms", []byte("ops: {data: RW, members: RW}\n"), "who may write"); err != nil {
			s.t.Fatal(err)
		}
	}
	s.equal(s.running()...)
	s.token = b.login()
}

// running are the boxes whose agent runs.
func (s *site) running() []*box {
	var out []*box
	for _, b := range s.boxes {
		if b.running() {
			out = append(out, b)
		}
	}
	return out
}

// allAlive waits until every box that runs sees all of them alive.
func (s *site) allAlive() time.Duration {
	s.t.Helper()
	all := s.running()
	return s.wait("all see each other alive", func() error {
		for _, b := range all {
			members, err := b.api.Members(s.t.Context())
			if err != nil {
				return err
			}
			alive := 0
			for _, m := range members {
				if m.State == "alive" {
					alive++
				}
			}
			if alive != len(all) {
				return fmt.Errorf("%s sees %d of %d alive", b.name, alive, len(all))
			}
		}
		return nil
	})
}

// sees waits until b sees the other in a state.
func (b *box) sees(other *box, state string) time.Duration {
	b.site.t.Helper()
	return b.site.wait(fmt.Sprintf("%s sees %s %s", b.name, other.name, state), func() error {
		members, err := b.api.Members(b.site.t.Context())
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.Name == other.name {
				if m.State == state {
					return nil
				}
				return fmt.Errorf("it sees it %s", m.State)
			}
		}
		return fmt.Errorf("it does not know it")
	})
}

// equal waits until all of these hold the same, and returns how long that took and what they hold.
func (s *site) equal(boxes ...*box) (time.Duration, api.Digests) {
	s.t.Helper()
	var first api.Digests
	took := s.wait("equal digests", func() error {
		texts := make([]string, len(boxes))
		for i, b := range boxes {
			d, err := b.api.Digest(s.t.Context())
			if err != nil {
				return err
			}
			if i == 0 {
				first = d
			}
			text, err := json.Marshal(d)
			if err != nil {
				return err
			}
			texts[i] = string(text)
		}
		for i := range texts {
			if texts[i] != texts[0] {
				return fmt.Errorf("%s has %s, %s has %s", boxes[0].name, texts[0], boxes[i].name, texts[i])
			}
		}
		return nil
	})
	return took, first
}

// wait waits until ok returns nil, and returns how long it took.
func (s *site) wait(what string, ok func() error) time.Duration {
	s.t.Helper()
	return wait(s.t, what, ok)
}

func wait(t *testing.T, what string, ok func() error) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		err := ok()
		if err == nil {
			return time.Since(begin)
		}
		if time.Since(begin) > eventually {
			t.Fatalf("not within %s: %s: %v", eventually, what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// found makes this box the founder of its site's mesh.
func (b *box) found() {
	b.site.t.Helper()
	b.site.must(exec.Command(b.binary, "init", "--data-dir", b.dir, "--key-file", b.site.keyFile, "--name", b.name))
}

// must runs a command that has to succeed, and returns what it printed.
func (s *site) must(cmd *exec.Cmd) string {
	s.t.Helper()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, errs.String())
	}
	return string(out)
}

func (b *box) socket() string { return filepath.Join(b.dir, "agent.sock") }

func (b *box) config() string {
	lines := append([]string{
		"name: " + b.name, "addr: " + b.addr, "key_file: " + b.site.keyFile, "data_dir: " + b.dir,
		"dns: {listen: '" + b.addr + ":7953'}", "auth: {users_file: " + b.site.users + "}",
	}, b.settings...)
	return b.site.write(filepath.Base(b.dir)+".yaml", strings.Join(lines, "\n")+"\n")
}

// start runs the agent and returns when it says that it is ready, and after how long.
func (b *box) start() time.Duration {
	b.site.t.Helper()
	b.launch()
	return b.ready()
}

// launch runs the agent and does not wait. It dies with this test process, whatever happens to that.
func (b *box) launch() {
	b.site.t.Helper()
	t := b.site.t
	if b.running() {
		t.Fatalf("%s runs already", b.name)
	}
	log, err := os.OpenFile(b.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	args := append(append([]string{}, b.under...), b.binary, "agent", "--config", b.config(), "--log-level", "debug")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.cmd, b.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) { _ = cmd.Wait(); close(ended) }(b.ended)
}

// ready waits until the agent says that it is.
func (b *box) ready() time.Duration {
	b.site.t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.socket())
	}}
	c := http.Client{Transport: tr, Timeout: 5 * time.Second}
	return b.site.wait(b.name+" is ready", func() error {
		if !b.running() {
			b.site.t.Fatalf("%s ended by itself: %s\n%s", b.name, b.cmd.ProcessState, lastLines(b.log(), 5))
		}
		resp, err := c.Get("http://socket/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			text, err := io.ReadAll(resp.Body)
			return errors.Join(err, errors.New(string(text)))
		}
		return nil
	})
}

func (b *box) running() bool {
	if b.ended == nil {
		return false
	}
	select {
	case <-b.ended:
		return false
	default:
		return true
	}
}

// signal sends a signal to the agent, and to nothing else.
func (b *box) signal(sig syscall.Signal) {
	b.site.t.Helper()
	if err := b.cmd.Process.Signal(sig); err != nil {
		b.site.t.Fatalf("%s to %s: %v", sig, b.name, err)
	}
}

// kill ends the agent as a power cut would, if it runs; one that is stopped, too.
func (b *box) kill() {
	if b.running() {
		_ = b.cmd.Process.Kill() // it may have ended in between
		<-b.ended
	}
}

// stop ends the agent in order, and returns how long it took.
func (b *box) stop() time.Duration {
	b.site.t.Helper()
	begin := time.Now()
	b.signal(syscall.SIGTERM)
	b.gone()
	if code := b.cmd.ProcessState.ExitCode(); code != 0 {
		b.site.t.Errorf("%s ended with %s after SIGTERM, want exit code 0\n%s", b.name, b.cmd.ProcessState, lastLines(b.log(), 5))
	}
	return time.Since(begin)
}

// gone waits until the process is.
func (b *box) gone() {
	b.site.t.Helper()
	select {
	case <-b.ended:
	case <-time.After(eventually):
		b.site.t.Fatalf("%s still runs", b.name)
	}
}

// hostmesh runs the command line against this box's agent: what it printed, on both outputs, and its exit code.
func (b *box) hostmesh(args ...string) (stdout, stderr string, code int) {
	b.site.t.Helper()
	cmd := exec.Command(b.binary, args...)
	cmd.Env = append(os.Environ(), "HOSTMESH_SOCKET="+b.socket())
	return output(b.site.t, cmd)
}

// output runs a command: what it printed, and its exit code.
func output(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// dig asks this box's DNS with the real dig.
func (b *box) dig(args ...string) string {
	b.site.t.Helper()
	all := append(append([]string{}, b.under...), "dig", "@"+b.addr, "-p", "7953", "+time=2", "+tries=1", "+short")
	cmd := exec.Command(all[0], append(all[1:], args...)...)
	out, err := cmd.Output()
	if err != nil {
		return fmt.Sprintf("dig %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// answers waits until DNS and HTTP at this box say that the host has the address.
func (b *box) answers(host, addr string) (dns, web time.Duration) {
	b.site.t.Helper()
	begin := time.Now()
	b.site.wait(fmt.Sprintf("%s has %s %s by HTTP", b.name, host, addr), func() error {
		got, err := b.get("hosts/" + host + "/Network/IP")
		if err == nil && got != addr {
			err = fmt.Errorf("it says %q", got)
		}
		return err
	})
	web = time.Since(begin)
	b.site.wait(fmt.Sprintf("%s has %s %s by DNS", b.name, host, addr), func() error {
		if got := b.dig(host); got != addr {
			return fmt.Errorf("it says %q", got)
		}
		return nil
	})
	return time.Since(begin), web
}

func (b *box) url(path string) string { return "http://" + b.addr + ":7950" + path }

// login gets a session, which is valid at every box of the site.
func (b *box) login() string {
	b.site.t.Helper()
	status, body, err := b.do(http.MethodPost, "/v1/auth/session", url.Values{"username": {"ann"}, "password": {b.site.password}})
	if err != nil || status != http.StatusCreated && status != http.StatusOK {
		b.site.t.Fatalf("login at %s: %d %q %v", b.name, status, body, err)
	}
	return strings.TrimSpace(body)
}

// put writes as any client would; nil means that it was acknowledged.
func (b *box) put(id, value string) error {
	status, body, err := b.do(http.MethodPut, "/v1/"+id, url.Values{"value": {value}, "log": {"test"}, "session": {b.site.token}})
	if err == nil && status != http.StatusCreated {
		err = fmt.Errorf("PUT %s at %s: %d %s", id, b.name, status, body)
	}
	return err
}

// mustPut is put where nothing else is right.
func (b *box) mustPut(id, value string) {
	b.site.t.Helper()
	if err := b.put(id, value); err != nil {
		b.site.t.Fatal(err)
	}
}

// get reads as any client would.
func (b *box) get(id string) (string, error) {
	resp, err := b.web.Get(b.url("/v1/" + id))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s at %s: %s", id, b.name, resp.Status)
	}
	return strings.TrimSpace(string(body)), err
}

// do posts a form and returns the answer; with an error text of HostDB in place of the body, which is empty then.
func (b *box) do(method, path string, form url.Values) (status int, body string, err error) {
	req, err := http.NewRequest(method, b.url(path), strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := b.web.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode >= 400 {
		text = append(text, resp.Header.Get("Error")...)
	}
	return resp.StatusCode, string(text), err
}

func (b *box) logFile() string { return b.dir + ".log" }

// log is all that the agent logged, over all its starts.
func (b *box) log() string {
	text, err := os.ReadFile(b.logFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.site.t.Error(err)
	}
	return string(text)
}

// logged are the lines of the log that contain all of these.
func (b *box) logged(parts ...string) []string {
	var out []string
lines:
	for line := range strings.Lines(b.log()) {
		for _, p := range parts {
			if !strings.Contains(line, p) {
				continue lines
			}
		}
		out = append(out, strings.TrimSpace(line))
	}
	return out
}

// withoutGossip leaves out what serf and memberlist tell at debug level.
func withoutGossip(log string) string {
	var out strings.Builder
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "level=DEBUG msg=gossip") {
			out.WriteString(line)
		}
	}
	return out.String()
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
