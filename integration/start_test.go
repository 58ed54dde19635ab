package integration

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// agentOnce runs an agent that should refuse, and returns what it said; one that does not end is killed.
func (s *site) agentOnce(args ...string) (text string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(s.t), append([]string{"agent"}, args...)...)
	cmd.Dir = s.dir
	_, text, code = output(s.t, cmd)
	if ctx.Err() != nil {
		s.t.Fatalf("agent %s: it runs, and should have refused:\n%s", strings.Join(args, " "), text)
	}
	return text, code
}

// refuses checks that an agent with these flags does not start, exits with 1 and says all of this.
func (s *site) refuses(args []string, want ...string) {
	s.t.Helper()
	text, code := s.agentOnce(args...)
	if code != 1 {
		s.t.Errorf("agent %s: exit code %d, want 1\n%s", strings.Join(args, " "), code, text)
	}
	says(s.t, text, want...)
	if n := strings.Count(text, "\n"); n > 4 {
		s.t.Errorf("agent %s: %d lines of complaint hide what is wrong:\n%s", strings.Join(args, " "), n, text)
	}
}

func says(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("it does not say %q:\n%s", w, text)
		}
	}
	if strings.Contains(text, "goroutine ") || strings.Contains(text, "panic") {
		t.Errorf("it crashed:\n%s", text)
	}
}

// TestRefusalsAtStart: each mistake is refused with what is wrong and what to do, and leaves nothing behind.
func TestRefusalsAtStart(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	b := s.boxes[0]
	b.found()
	empty := filepath.Join(s.dir, "empty")
	open := s.write("open.key", readFile(t, s.keyFile))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	secret := "bm90IGEga2V5IGF0IGFsbA=="
	garbage := s.write("garbage.key", secret+"\n")
	newer := filepath.Join(s.dir, "newer")
	s.must(exec.Command(b.binary, "init", "--data-dir", newer, "--key-file", s.keyFile))
	if err := os.WriteFile(filepath.Join(newer, "format"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(more ...string) []string {
		return append([]string{"--addr", b.addr, "--dns", b.addr + ":7953", "--key-file", s.keyFile, "--data-dir", b.dir, "--name", "x"}, more...)
	}
	for _, x := range []struct {
		name string
		args []string
		want []string
	}{
		{"no key off loopback", []string{"--addr", "10.1.2.3", "--data-dir", empty, "--join", "10.1.2.4"}, []string{"--key-file", "keygen"}},
		{"no key to join with", []string{"--addr", b.addr, "--data-dir", empty, "--join", "127.0.1.254"}, []string{"key_file"}},
		{"empty directory without join", with("--data-dir", empty), []string{empty, "hostmesh init", "--join"}},
		{"no address", []string{"--data-dir", b.dir, "--key-file", s.keyFile}, []string{"--addr"}},
		{"key file for all to read", with("--key-file", open), []string{open, "key_file", "600"}},
		{"key file that is none", with("--key-file", garbage), []string{garbage, "key_file"}},
		{"key file that is not there", with("--key-file", filepath.Join(s.dir, "nowhere.key")), []string{"nowhere.key", "key_file"}},
		{"newer data directory", with("--data-dir", newer), []string{newer, "99", "newer"}},
		{"data directory that is a file", with("--data-dir", open), []string{open}},
		{"address that is none", with("--addr", "300.1.1.1"), []string{"addr", "300.1.1.1"}},
		{"address with a port", with("--addr", b.addr+":7946"), []string{"addr", "port"}},
		{"address of everything", with("--addr", "0.0.0.0"), []string{"addr", "0.0.0.0"}},
		{"address of another box", with("--addr", "192.0.2.1", "--http", "none", "--https", "none", "--dns", "none"), []string{"192.0.2.1", "set addr"}},
		{"plain HTTP off loopback", with("--http", "192.0.2.1:7950"), []string{"http", "http_insecure"}},
		{"https of another box", with("--https", "192.0.2.1:7951"), []string{"https", "192.0.2.1:7951"}},
		{"dns of another box", with("--dns", "192.0.2.1:53"), []string{"dns", "192.0.2.1:53"}},
		{"dns without a port", with("--dns", "127.0.0.1"), []string{"dns.listen", "IP:port"}},
		{"half a certificate", with("--tls-cert", "x"), []string{"tls.cert", "tls.key"}},
		{"domain that is none", with("--domain", "two words"), []string{"dns.domain", "two words"}},
		{"duty that is none", with("--duties", "lb,cook"), []string{"cook", "mysql"}},
		{"users file that is not there", with("--users-file", filepath.Join(s.dir, "nowhere.yaml")), []string{"nowhere.yaml"}},
		{"no such key", []string{"--config", s.write("a.yaml", "name: x\nkey_fiel: x\n")}, []string{"a.yaml", "line 2", "key_fiel", "did you mean key_file?"}},
		{"no such key below", []string{"--config", s.write("b.yaml", "dns:\n  listne: 1.2.3.4:53\n")}, []string{"b.yaml", "line 2", "dns.listen"}},
		{"key set twice", []string{"--config", s.write("c.yaml", "name: x\nname: y\n")}, []string{"c.yaml", "name", "2"}},
		{"no YAML", []string{"--config", s.write("d.yaml", "name: [x\n")}, []string{"d.yaml", "line"}},
		{"no such file", []string{"--config", filepath.Join(s.dir, "nowhere.yaml")}, []string{"nowhere.yaml"}},
		{"join that is no address", with("--join", "not a host"), []string{"join", "not a host"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			sub := *s
			sub.t = t
			sub.refuses(x.args, x.want...)
			text, _ := sub.agentOnce(x.args...)
			if strings.Contains(text, secret) {
				t.Errorf("the content of a key file is shown: %s", text)
			}
		})
	}
	if _, err := os.Stat(empty); err == nil {
		t.Errorf("a refusal left %s behind", empty)
	}
	// None of it hurt the directory that is right.
	b.start()
	if got := b.stop(); got > eventually {
		t.Error(got)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPortInUse: each port that another process has is named with the knob that moves it, and once it is free the
// same agent starts.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	b := s.boxes[0]
	b.found()
	for _, x := range []struct{ network, port, knob string }{
		{"tcp", "7950", "set http "}, {"tcp", "7951", "set https "},
		{"tcp", "7953", "dns.listen"}, {"udp", "7953", "dns.listen"},
		{"tcp", "7946", "--addr"}, {"udp", "7946", "--addr"}, {"tcp", "7947", "--addr"},
	} {
		t.Run(x.network+" "+x.port, func(t *testing.T) {
			addr := net.JoinHostPort(b.addr, x.port)
			var taken interface{ Close() error }
			var err error
			if x.network == "tcp" {
				taken, err = net.Listen("tcp", addr)
			} else {
				taken, err = net.ListenPacket("udp", addr)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			sub := *s
			sub.t = t
			sub.refuses([]string{"--config", b.config()}, b.addr, x.port, "in use", x.knob)
		})
	}
	b.start()
}

// TestDataDirectoryInUse: a second agent on the same directory says who has it, and does the first no harm.
func TestDataDirectoryInUse(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	b := s.boxes[0]
	s.start()
	other := loopback(t)
	s.refuses([]string{"--addr", other, "--dns", other + ":7953", "--data-dir", b.dir, "--key-file", s.keyFile},
		b.dir, fmt.Sprintf("process %d", b.cmd.Process.Pid), "--data-dir")
	b.mustPut("hosts/still-here", "Owner: me\n")
	// The lock of a killed agent is no lock.
	b.kill()
	b.start()
	if got, err := b.get("hosts/still-here"); err != nil || got != "Owner: me" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestCheck: agent --check prints the effective configuration, says what is wrong, and tells no secret.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	b := s.boxes[0]
	b.found()
	check := func(environ []string, args ...string) (string, string, int) {
		cmd := exec.CommandContext(t.Context(), b.binary, append([]string{"agent", "--check", "--config", b.config()}, args...)...)
		cmd.Env = append(os.Environ(), environ...)
		return output(t, cmd)
	}
	out, errs, code := check([]string{"HOSTMESH_RACK=from-variable", "HOSTMESH_DATACENTER=from-variable"}, "--rack", "from-flag")
	if code != 0 || errs != "" {
		t.Errorf("exit code %d, %q", code, errs)
	}
	says(t, out, "name: "+b.name, "addr: "+b.addr, "http: "+b.addr+":7950", "https: "+b.addr+":7951", "listen: "+b.addr+":7953",
		"domain: mesh.internal", "datacenter: from-variable", "rack: from-flag", "users_file: "+s.users)
	for name, secret := range s.secrets() {
		if strings.Contains(out, secret) {
			t.Errorf("%s is printed", name)
		}
	}
	// What is printed is a configuration that says the same.
	again, errs, code := output(t, exec.Command(b.binary, "agent", "--check", "--config", s.write("effective.yaml", out)))
	if code != 0 || again != out {
		t.Errorf("the effective configuration read again: exit code %d, %s\n%s\nwant\n%s", code, errs, again, out)
	}

	for _, bad := range [][]string{
		{"--addr", "192.0.2.1"}, {"--key-file", "/nowhere"}, {"--users-file", "/nowhere"}, {"--tls-cert", "/x", "--tls-key", "/y"},
	} {
		out, errs, code := check(nil, bad...)
		if code != 1 || out != "" || errs == "" {
			t.Errorf("%q: exit code %d, printed %q and %q", bad, code, out, errs)
		}
		for name, secret := range s.secrets() {
			if strings.Contains(errs, secret) {
				t.Errorf("%q: %s is printed", bad, name)
			}
		}
	}
	if _, _, code := check(nil, "--no-such-flag"); code != 2 {
		t.Errorf("a flag that is none: exit code %d, want 2", code)
	}
	// It may be asked while the agent runs.
	b.start()
	if _, errs, code := check(nil); code != 0 {
		t.Errorf("beside a running agent: exit code %d, %s", code, errs)
	}
	if d := b.stop(); d > time.Minute {
		t.Error(d)
	}
}
