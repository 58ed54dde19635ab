package main

import (
	"bytes"
	"context"
	"crypto/rand"
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
	"syscall"
	"time"

	"hostmesh/hostdb/auth"
)

// Ports of every agent; each has an address of its own.
const (
	httpPort = "7950"
	dnsPort  = "7953" // 53 would need root
)

// user is who writes over HTTP.
const user = "bench"

// mesh is some agents as processes, with what they share.
type mesh struct {
	b        *bench
	dir      string
	keyFile  string
	users    string
	password string
	token    string
	agents   []*agent
	imported imported
}

// agent is one process.
type agent struct {
	mesh       *mesh
	name, addr string
	dir        string
	mark       net.PacketConn // holds the address
	cmd        *exec.Cmd
	ended      chan struct{} // closed when the process is gone; nil before the first start
}

// newMesh starts n agents that hold nothing yet, and returns when each sees all.
func (b *bench) newMesh(ctx context.Context, n int) (_ *mesh, err error) {
	m := &mesh{b: b, password: rand.Text()}
	if m.dir, err = os.MkdirTemp(b.dir, "m"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	m.keyFile, m.users = filepath.Join(m.dir, "mesh.key"), filepath.Join(m.dir, "users.yaml")
	hash, err := auth.HashPassword(m.password)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("%s: {password: '%s', allow: [127.0.0.0/8], groups: [ops]}\n", user, hash)
	if err := os.WriteFile(m.users, []byte(text), 0o600); err != nil {
		return nil, err
	}
	for i := range n {
		a, err := m.newAgent()
		if err != nil {
			return nil, err
		}
		if i == 0 {
			if _, err := output(exec.CommandContext(ctx, b.binary, "init", "--data-dir", a.dir, "--key-file", m.keyFile, "--name", a.name)); err != nil {
				return nil, err
			}
		}
		if err := a.start(ctx); err != nil {
			return nil, err
		}
		if err := a.ready(ctx); err != nil {
			return nil, err
		}
	}
	return m, m.allAlive(ctx)
}

func (m *mesh) newAgent() (*agent, error) {
	addr, mark, err := loopback()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("node%d", len(m.agents)+1)
	a := &agent{mesh: m, name: name + ".bench", addr: addr, mark: mark, dir: filepath.Join(m.dir, name)}
	m.agents = append(m.agents, a)
	return a, nil
}

// loopback is an address that no other agent of a bench has. The mark holds it: a port that no agent uses.
func loopback() (string, net.PacketConn, error) {
	for i := 1; i < 255; i++ {
		addr := fmt.Sprintf("127.0.2.%d", i)
		mark, err := net.ListenPacket("udp", addr+":7900")
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		return addr, mark, err
	}
	return "", nil, errors.New("every address of 127.0.2.0/24 is taken")
}

// login gets a session; it is valid at every agent.
func (m *mesh) login(ctx context.Context) error {
	form := url.Values{"username": {user}, "password": {m.password}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.agents[0].url("/v1/auth/session"), strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	defer resp.Body.Close()
	token, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		return fmt.Errorf("login: %s: %w", resp.Status, err)
	}
	m.token = strings.TrimSpace(string(token))
	return nil
}

// allAlive waits until each agent sees all.
func (m *mesh) allAlive(ctx context.Context) error {
	for _, a := range m.agents {
		err := until(ctx, 30*time.Second, 10*time.Millisecond, a.name+" sees all agents alive", func() (bool, error) {
			_, body, err := a.get(ctx, "/api/v1/members")
			return strings.Count(string(body), `"alive"`) >= len(m.agents), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// equal waits until all agents have the same digests.
func (m *mesh) equal(ctx context.Context, agents ...*agent) error {
	return until(ctx, 60*time.Second, 2*time.Millisecond, "the digests are equal", func() (bool, error) {
		var first []byte
		for i, a := range agents {
			status, body, err := a.get(ctx, "/api/v1/digest")
			if err != nil || status != http.StatusOK {
				return false, nil // an agent that starts
			}
			if i == 0 {
				first = body
			}
			if !bytes.Equal(first, body) {
				return false, nil
			}
		}
		return true, nil
	})
}

// close ends the agents and removes what they wrote.
func (m *mesh) close() {
	for _, a := range m.agents {
		a.remove()
	}
	_ = os.RemoveAll(m.dir) // the directory above it goes at the end of the run
}

// start starts the process and does not wait for it to serve.
func (a *agent) start(ctx context.Context) error {
	log, err := os.OpenFile(a.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	config := fmt.Sprintf("name: %s\naddr: %s\nkey_file: %s\ndata_dir: %s\nhttp: %s:%s\nhttps: %s:7951\ndns: {listen: '%s:%s', domain: mesh.internal}\n"+
		"labels: {datacenter: dc1, rack: r1}\nauth: {users_file: %s}\n",
		a.name, a.addr, a.mesh.keyFile, a.dir, a.addr, httpPort, a.addr, a.addr, dnsPort, a.mesh.users)
	config += a.mesh.b.agentLines
	if first := a.mesh.agents[0]; a != first {
		config += "join: [" + first.addr + "]\n"
	}
	if err := os.WriteFile(a.dir+".yaml", []byte(config), 0o600); err != nil {
		return err
	}
	a.cmd = exec.Command(a.mesh.b.binary, "agent", "--config", a.dir+".yaml")
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for the bench, which ends its agents
	if err := a.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	a.ended = ended
	go func(cmd *exec.Cmd) { _ = cmd.Wait(); close(ended) }(a.cmd)
	return ctx.Err()
}

// ready waits until the agent says that it serves.
func (a *agent) ready(ctx context.Context) error {
	return until(ctx, 30*time.Second, time.Millisecond, a.name+" serves", func() (bool, error) {
		if !a.running() {
			return false, fmt.Errorf("%s ended by itself: %s\n%s", a.name, a.cmd.ProcessState, a.lastLines())
		}
		status, _, err := a.get(ctx, "/readyz")
		return err == nil && status == http.StatusOK, nil
	})
}

func (a *agent) pid() int { return a.cmd.Process.Pid }

func (a *agent) url(path string) string { return "http://" + a.addr + ":" + httpPort + path }

// get asks once. What is measured uses conn instead.
func (a *agent) get(ctx context.Context, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url(path), nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// importDir runs the command line as an operator would.
func (a *agent) importDir(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, a.mesh.b.binary, "db", "import", dir, "-m", "bench")
	cmd.Env = append(os.Environ(), "HOSTMESH_SOCKET="+filepath.Join(a.dir, "agent.sock"))
	_, err := output(cmd)
	return err
}

func (a *agent) running() bool {
	if a.ended == nil {
		return false
	}
	select {
	case <-a.ended:
		return false
	default:
		return true
	}
}

// kill ends the process as a power cut would.
func (a *agent) kill() {
	if a.running() {
		_ = a.cmd.Process.Kill() // it may have ended this moment
		<-a.ended
	}
}

// remove ends the process, politely first, and gives its address back.
func (a *agent) remove() {
	if a.running() && a.cmd.Process.Signal(syscall.SIGTERM) == nil {
		select {
		case <-a.ended:
		case <-time.After(10 * time.Second):
			a.kill()
		}
	}
	_ = a.mark.Close()
}

func (a *agent) lastLines() string {
	text, err := os.ReadFile(a.dir + ".log")
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// until asks again until the answer is yes.
func until(ctx context.Context, limit, every time.Duration, what string, yes func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, err := yes()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %s", limit, what)
		case <-time.After(every):
		}
	}
}

func output(cmd *exec.Cmd) (string, error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s%s", strings.Join(cmd.Args, " "), err, out, errs.String())
	}
	return string(out), nil
}
