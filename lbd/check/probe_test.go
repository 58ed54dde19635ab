package check

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

func target(t *testing.T, addr string, proto string) Target {
	t.Helper()
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return Target{Addr: ap.Addr(), Port: ap.Port(), Proto: proto, Host: "web1.example.com", Tag: "web", VIP: netip.MustParseAddr("10.1.0.53")}
}

func probe(t *testing.T, p Prober, x Target, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return p.Probe(ctx, x)
}

func wants(t *testing.T, err error, say string) {
	t.Helper()
	if say == "" && err != nil || say != "" && (err == nil || !strings.Contains(err.Error(), say)) {
		t.Errorf("%v; want %q", err, say)
	}
}

// talk is a server that says and hears what it is told.
func talk(t *testing.T, f func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}

// free is an address where nobody listens.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

const patient, short = 30 * time.Second, 300 * time.Millisecond

func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func TestTCP(t *testing.T) {
	wants(t, probe(t, TCP{}, target(t, talk(t, silent), "tcp"), patient), "")
	wants(t, probe(t, TCP{}, target(t, free(t), "tcp"), patient), "connection refused")
}

func TestHTTP(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "web1.example.com" || r.URL.Path != "/" || r.Method != "GET" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		http.Redirect(w, r, "/login", http.StatusFound)
	}))
	defer s.Close()
	wants(t, probe(t, HTTP{}, target(t, s.Listener.Addr().String(), "tcp"), patient), "")
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	defer bad.Close()
	wants(t, probe(t, HTTP{}, target(t, bad.Listener.Addr().String(), "tcp"), patient), "503 Service Unavailable")
	wants(t, probe(t, HTTP{}, target(t, talk(t, silent), "tcp"), short), "no answer in time")
	wants(t, probe(t, HTTP{}, target(t, talk(t, func(net.Conn) {}), "tcp"), patient), "connection") // closed, or reset
	wants(t, probe(t, HTTP{}, target(t, free(t), "tcp"), patient), "connection refused")
}

// TestDNSUnbound tries a real resolver, over UDP and TCP.
func TestDNSUnbound(t *testing.T) {
	dir := t.TempDir()
	at := free(t)
	host, port, _ := net.SplitHostPort(at)
	conf := filepath.Join(dir, "unbound.conf")
	text := fmt.Sprintf("server:\n interface: %s@%s\n port: %s\n directory: %q\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\nremote-control:\n control-enable: no\n", host, port, port, dir)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unbound", "-d", "-c", conf)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for _, proto := range []string{"udp", "tcp"} {
		end := time.Now().Add(30 * time.Second)
		for {
			err := probe(t, DNS{}, target(t, at, proto), 2*time.Second)
			if err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %v", proto, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// TestDNSAnswers: what is an answer to the query, and what is not.
func TestDNSAnswers(t *testing.T) {
	answer := func(q []byte, edit func(h *dnsmessage.Header)) []byte {
		var p dnsmessage.Parser
		h, err := p.Start(q)
		if err != nil {
			return nil
		}
		h.Response = true
		edit(&h)
		b := dnsmessage.NewBuilder(nil, h)
		if h.RCode == dnsmessage.RCodeSuccess {
			question, _ := p.Question()
			_ = b.StartQuestions()
			_ = b.Question(question)
		}
		out, _ := b.Finish()
		return out
	}
	for _, tt := range []struct {
		name  string
		say   string
		reply func(q []byte) [][]byte
	}{
		{"empty answer", "", func(q []byte) [][]byte { return [][]byte{answer(q, func(*dnsmessage.Header) {})} }},
		{"refused is an answer", "", func(q []byte) [][]byte {
			return [][]byte{answer(q, func(h *dnsmessage.Header) { h.RCode = dnsmessage.RCodeRefused })}
		}},
		{"servfail", "SERVFAIL", func(q []byte) [][]byte {
			return [][]byte{answer(q, func(h *dnsmessage.Header) { h.RCode = dnsmessage.RCodeServerFailure })}
		}},
		{"strangers first", "", func(q []byte) [][]byte {
			return [][]byte{[]byte("x"), q, answer(q, func(h *dnsmessage.Header) { h.ID++ }), answer(q, func(*dnsmessage.Header) {})}
		}},
		{"strangers alone", "no answer in time", func(q []byte) [][]byte {
			return [][]byte{answer(q, func(h *dnsmessage.Header) { h.ID++ })}
		}},
		{"silence", "no answer in time", func([]byte) [][]byte { return nil }},
	} {
		p, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		first := true
		go func() {
			b := make([]byte, 512)
			for {
				n, from, err := p.ReadFrom(b)
				if err != nil {
					return
				}
				if first && tt.say != "no answer in time" {
					first = false // the first query is lost
					continue
				}
				for _, r := range tt.reply(append([]byte{}, b[:n]...)) {
					_, _ = p.WriteTo(r, from)
				}
			}
		}()
		limit := 4 * time.Second
		if tt.say == "no answer in time" {
			limit = short
		}
		t.Run(tt.name, func(t *testing.T) {
			wants(t, probe(t, DNS{}, target(t, p.LocalAddr().String(), "udp"), limit), tt.say)
		})
		p.Close()
	}
	wants(t, probe(t, DNS{}, target(t, free(t), "udp"), patient), "connection refused")
	wants(t, probe(t, DNS{}, target(t, talk(t, func(c net.Conn) { _, _ = c.Write([]byte{0, 3, 'a', 'b', 'c'}) }), "tcp"), patient), "not a DNS message")
}

// TestMySQL: a greeting is good whatever comes then, too many connections is good with a remark, and all else is bad.
func TestMySQL(t *testing.T) {
	packet := func(seq byte, s string) []byte { return append([]byte{byte(len(s)), byte(len(s) >> 8), 0, seq}, s...) }
	greeting := "\x0a10.11.6-MariaDB\x00" + strings.Repeat("x", 60)
	login := make(chan string, 10)
	read := func(c net.Conn) string {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return err.Error()
		}
		b := make([]byte, head[0])
		_, _ = io.ReadFull(c, b)
		return string(b)
	}
	for _, tt := range []struct {
		name, say string
		serve     func(c net.Conn)
	}{
		{"denied", "", func(c net.Conn) {
			_, _ = c.Write(packet(0, greeting))
			login <- read(c)
			_, _ = c.Write(packet(2, "\xff\x15\x04#28000Access denied"))
		}},
		{"another way to log in", "", func(c net.Conn) {
			_, _ = c.Write(packet(0, greeting))
			read(c)
			_, _ = c.Write(packet(2, "\xfemysql_native_password\x00abc"))
			login <- "switched " + read(c)
			_, _ = c.Write(packet(4, "\xff\x15\x04#28000Access denied"))
		}},
		{"the user exists", "", func(c net.Conn) {
			_, _ = c.Write(packet(0, greeting))
			read(c)
			_, _ = c.Write(packet(2, "\x00\x00\x00"))
			login <- read(c)
		}},
		{"greeting and end", "", func(c net.Conn) { _, _ = c.Write(packet(0, greeting)) }},
		{"saturated", "saturated: Too many connections", func(c net.Conn) { _, _ = c.Write(packet(0, "\xff\x10\x04Too many connections")) }},
		{"blocked", "error 1129: Host is blocked", func(c net.Conn) { _, _ = c.Write(packet(0, "\xff\x69\x04#HY000Host is blocked")) }},
		{"something else", "no greeting", func(c net.Conn) { _, _ = c.Write(packet(0, "SSH-2.0")) }},
		{"a long packet", "none of MySQL's", func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400")) }},
		{"nothing", "closed the connection", func(net.Conn) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := probe(t, MySQL{}, target(t, talk(t, tt.serve), "tcp"), patient)
			wants(t, err, tt.say)
			if isRemark(err) != (tt.name == "saturated") {
				t.Errorf("%v is a remark: %v", err, isRemark(err))
			}
		})
	}
	wants(t, probe(t, MySQL{}, target(t, talk(t, silent), "tcp"), short), "no answer in time")
	got := []string{<-login, <-login, <-login}
	if !strings.Contains(got[0], "hostmesh-check\x00\x00mysql_native_password\x00") || binary.LittleEndian.Uint32([]byte(got[0]))&(1<<9) == 0 {
		t.Errorf("it logged in by %q", got[0])
	}
	if got[1] != "switched " || got[2] != "\x01" {
		t.Errorf("then %q", got[1:])
	}
}

// programs is a checks.d.
func programs(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestProgram(t *testing.T) {
	dir := programs(t, map[string]string{
		"good": "#!/bin/sh\n[ $# = 0 ] && env | sort > env\n",
		"bad":  "#!/bin/sh\necho\necho 'queue is \033[31mfull'; echo more; exit 3\n",
		"mute": "#!/bin/sh\nexit 1\n",
		"much": "#!/bin/sh\nhead -c 10000000 /dev/zero | tr '\\0' x\nexit 1\n",
		"dies": "#!/bin/sh\nkill -9 $$\n",
	})
	t.Setenv("SECRET", "of the agent")
	x := target(t, "10.1.0.7:80", "tcp")
	wants(t, probe(t, Program{Dir: dir, Name: "good"}, x, patient), "")
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HOSTMESH_ADDR=10.1.0.7\n", "HOSTMESH_PORT=80\n", "HOSTMESH_PROTO=tcp\n", "HOSTMESH_HOST=web1.example.com\n", "HOSTMESH_TAG=web\n", "HOSTMESH_VIP=10.1.0.53\n"} {
		if !strings.Contains(string(env), want) {
			t.Errorf("%q is not in %q", want, env)
		}
	}
	if strings.Contains(string(env), "SECRET") {
		t.Error("it sees the agent's environment")
	}
	wants(t, probe(t, Program{Dir: dir, Name: "bad"}, x, patient), "exit status 3: queue is  [31mfull")
	wants(t, probe(t, Program{Dir: dir, Name: "mute"}, x, patient), "it printed nothing")
	wants(t, probe(t, Program{Dir: dir, Name: "dies"}, x, patient), "signal: killed")
	if err := probe(t, Program{Dir: dir, Name: "much"}, x, patient); err == nil || len(err.Error()) > 1000 {
		t.Errorf("much output: %.100v", err)
	}
}

// TestProgramIsKilled: with all that it started, when time is up and when it ends.
func TestProgramIsKilled(t *testing.T) {
	dir := programs(t, map[string]string{
		"hangs":  "#!/bin/sh\necho $$ > hangs.pid\nsleep 1000 & echo $! > hangs.child\nwait\n",
		"leaves": "#!/bin/sh\nsleep 1000 & echo $! > leaves.child\nexit 0\n",
		"flees":  "#!/bin/sh\nsetsid sleep 5 &\nexit 0\n",
	})
	x := target(t, "10.1.0.7:80", "tcp")
	gone := func(file string) {
		t.Helper()
		end := time.Now().Add(30 * time.Second)
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		for {
			// A child whose parent died is reaped by the first process, which may take a moment, or never happen in a container.
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil || strings.Contains(string(stat), ") Z ") {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("process %d of %s lives: %s", pid, file, stat)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if _, err := os.Stat(filepath.Join(dir, "hangs.child")); err == nil {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := (Program{Dir: dir, Name: "hangs"}).Probe(ctx, x); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Error(err)
	}
	gone("hangs.pid")
	wants(t, probe(t, Program{Dir: dir, Name: "leaves"}, x, patient), "")
	gone("leaves.child")
	wants(t, probe(t, Program{Dir: dir, Name: "flees"}, x, patient), "")
}

// TestProgramThatCannotBeKilled: one that the kernel holds is bad all the same, and no second one is begun for its target, until it is gone.
func TestProgramThatCannotBeKilled(t *testing.T) {
	dir := programs(t, map[string]string{"stuck": "#!/bin/sh\necho $HOSTMESH_PORT >> runs\nsleep 1000\n"})
	let := make(chan struct{})
	h := &held{runs: map[run]time.Time{}, gone: func(pid int) { <-let; awaitZombie(pid) }}
	p := Program{Dir: dir, Name: "stuck", held: h}
	x, other := target(t, "10.1.0.7:80", "tcp"), target(t, "10.1.0.7:81", "tcp")
	late := func(x Target) error {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer cancel()
			for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
				if text, err := os.ReadFile(filepath.Join(dir, "runs")); err == nil && strings.Contains(string(text), strconv.Itoa(int(x.Port))) {
					return
				}
			}
		}()
		return p.Probe(ctx, x)
	}
	for _, x := range []Target{x, other} {
		wants(t, late(x), "cannot be killed")
		wants(t, late(x), "a run of")
	}
	if text, err := os.ReadFile(filepath.Join(dir, "runs")); err != nil || string(text) != "80\n81\n" {
		t.Errorf("it was begun %q, %v", text, err)
	}
	close(let)
	for end := time.Now().Add(30 * time.Second); !h.since(run{"stuck", x}).IsZero() || !h.since(run{"stuck", other}).IsZero(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what is gone counts as held")
		}
	}
	if err := late(x); err == nil || !strings.Contains(err.Error(), "it was killed") {
		t.Errorf("once the kernel lets it go: %v", err)
	}
}

// TestUnfitPrograms: what somebody else than root could have put there is not run, and the error says what to do.
func TestUnfitPrograms(t *testing.T) {
	dir := programs(t, map[string]string{"ok": "#!/bin/sh\n", "group": "#!/bin/sh\n", "others": "#!/bin/sh\n", "owned": "#!/bin/sh\n", "plain": "#!/bin/sh\n"})
	err := errors.Join(os.Chmod(dir+"/group", 0o775), os.Chmod(dir+"/others", 0o757), os.Chmod(dir+"/plain", 0o644), os.Chown(dir+"/owned", 65534, 0),
		os.Symlink("/bin/true", dir+"/link"), os.Mkdir(dir+"/dir", 0o755), unix.Mkfifo(dir+"/pipe", 0o755))
	if err != nil {
		t.Fatal(err)
	}
	for name, say := range map[string]string{
		"ok": "", "group": "chmod go-w", "others": "chmod go-w", "plain": "chmod +x", "owned": "chown root", "link": "links are not followed",
		"dir": "no regular file", "pipe": "no regular file", "missing": "put it on every box", "": "no name of a file", ".": "no name of a file", "..": "no name of a file",
		"../ok": "no name of a file", "/bin/true": "no name of a file", ".hidden": "no name of a file", "a\x00b": "no name of a file",
	} {
		_, err := (Program{Dir: dir, Name: name}).Fit()
		wants(t, err, say)
		if err != nil && !errors.Is(err, ErrProgram) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err = (Program{Dir: dir, Name: "ok"}).Fit()
	wants(t, err, "chmod go-w")
}

func TestTypes(t *testing.T) {
	types := Types("/etc/hostmesh/checks.d")
	for kind, want := range map[string]Prober{"tcp": TCP{}, "http": HTTP{}, "dns": DNS{}, "mysql": MySQL{}, "queue": Program{Dir: "/etc/hostmesh/checks.d", Name: "queue"}} {
		got := types(kind)
		if p, ok := got.(Program); ok && p.held != nil {
			p.held = nil
			got = p
		}
		if got != want {
			t.Errorf("%s is %#v", kind, got)
		}
	}
}
