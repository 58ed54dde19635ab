package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"hostmesh/hostdb/auth"
	"hostmesh/node/api"
)

// agent is one hostmesh process.
type agent struct {
	demo       *demo
	name, addr string
	dir        string
	cmd        *exec.Cmd
	ended      chan struct{}
	token      string
}

// freeAddresses are three of the loopback interface on which nobody listens where agents do, so that demos may run beside each other.
func freeAddresses() ([]string, error) {
	var err error
	for n := range 16 {
		var list []string
		err = nil
		for _, last := range []int{11, 12, 13} {
			addr := fmt.Sprintf("127.0.%d.%d", n, last)
			for _, port := range []string{"7946", "7947", "7950", "7951"} {
				l, lerr := net.Listen("tcp", net.JoinHostPort(addr, port))
				if lerr == nil {
					lerr = l.Close()
				}
				err = errors.Join(err, lerr)
			}
			list = append(list, addr)
		}
		if err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("there are no three free addresses in 127.0.0.0/20: %w", err)
}

// freeDNSPort is 53 where this user may have it on an address, which dig asks by default, else 7953.
func freeDNSPort(addr string) string {
	c, err := net.ListenPacket("udp", net.JoinHostPort(addr, "53"))
	if err != nil {
		return "7953"
	}
	c.Close()
	return "53"
}

// writeUsers makes the one user of the demo: a member of the group ops, which the example's access lists trust.
func (d *demo) writeUsers() error {
	d.password = rand.Text()
	hash, err := auth.HashPassword(d.password)
	if err != nil {
		return err
	}
	d.users = filepath.Join(d.dir, "users.yaml")
	text := fmt.Sprintf("demo: {password: '%s', allow: [127.0.0.0/8], groups: [ops]}\n", hash)
	return os.WriteFile(d.users, []byte(text), 0o600)
}

// start runs the agent and returns when it answers that it serves.
func (a *agent) start(ctx context.Context, join string) (time.Duration, error) {
	log, err := os.OpenFile(a.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	config := fmt.Sprintf("name: %s\naddr: %s\nkey_file: %s\ndata_dir: %s\nhttp: %s:7950\nhttps: %s:7951\ndns: {listen: '%s:%s', domain: mesh.internal}\n"+
		"labels: {datacenter: demo, rack: r%s}\nauth: {users_file: %s}\nlibvirt: test:///default\n",
		a.name, a.addr, a.demo.keyFile, a.dir, a.addr, a.addr, a.addr, a.demo.dnsPort, a.addr[len(a.addr)-1:], a.demo.users)
	if join != "" {
		config += "join: [" + join + "]\n"
	}
	file := a.dir + ".yaml"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return 0, err
	}
	begin := time.Now()
	a.cmd = exec.Command(a.demo.binary, "agent", "--config", file)
	a.cmd.Stdout, a.cmd.Stderr = log, log
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := a.cmd.Start(); err != nil {
		return 0, err
	}
	a.ended = make(chan struct{})
	go func() { _ = a.cmd.Wait(); close(a.ended) }()
	err = a.until(ctx, 20*time.Second, "serve", func() (bool, error) {
		select {
		case <-a.ended:
			return false, fmt.Errorf("%s ended by itself: %s", a.name, a.cmd.ProcessState)
		default:
		}
		resp, err := http.Get("http://" + a.addr + ":7950/readyz")
		if err != nil {
			return false, nil
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
	took := time.Since(begin)
	if _, serr := os.Stat(filepath.Join(a.dir, "agent.sock")); err == nil && serr != nil {
		return 0, fmt.Errorf("another process answers at %s, and not %s: %w", a.addr, a.name, serr)
	}
	return took, err
}

// until asks again until the answer is yes.
func (a *agent) until(ctx context.Context, limit time.Duration, what string, yes func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, err := yes()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not %s within %s", a.name, what, limit)
		case <-time.After(2 * time.Millisecond):
		}
	}
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
func (a *agent) kill() error {
	if err := a.cmd.Process.Kill(); err != nil {
		return err
	}
	<-a.ended
	return nil
}

// end stops the process politely, and less so after a while.
func (a *agent) end() error {
	if !a.running() {
		return nil
	}
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-a.ended:
		return nil
	case <-time.After(15 * time.Second):
		return errors.Join(fmt.Errorf("%s did not stop when told to", a.name), a.kill())
	}
}

// hostmesh runs the command line against this agent's socket.
func (a *agent) hostmesh(ctx context.Context, args ...string) (string, error) {
	return output(a.command(ctx, args...))
}

// follow runs it, and returns what it tells of its steps, too.
func (a *agent) follow(ctx context.Context, args ...string) (string, error) {
	cmd := a.command(ctx, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out), nil
}

func (a *agent) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, a.demo.binary, args...)
	cmd.Env = append(os.Environ(), "HOSTMESH_SOCKET="+filepath.Join(a.dir, "agent.sock"))
	return cmd
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

// dig asks this agent's DNS with the real dig.
func (a *agent) dig(ctx context.Context, args ...string) (string, error) {
	all := append([]string{"@" + a.addr, "-p", a.demo.dnsPort, "+short", "+time=1", "+tries=1"}, args...)
	out, err := output(exec.CommandContext(ctx, "dig", all...))
	return strings.TrimSpace(out), err
}

// curl asks this agent's HTTP with the real curl.
func (a *agent) curl(ctx context.Context, path string, args ...string) (string, error) {
	all := append([]string{"-sS", "--fail", "--max-time", "10"}, args...)
	return output(exec.CommandContext(ctx, "curl", append(all, "http://"+a.addr+":7950"+path)...))
}

// login gets a session at this agent; it is valid at every other.
func (a *agent) login(ctx context.Context) (string, error) {
	token, err := a.curl(ctx, "/v1/auth/session", "--data-urlencode", "username=demo", "--data-urlencode", "password="+a.demo.password)
	return strings.TrimSpace(token), err
}

// put writes through this agent as any client would, and returns when it was acknowledged.
func (a *agent) put(id, value, log string) error {
	form := url.Values{"value": {value}, "log": {log}, "session": {a.token}}
	req, err := http.NewRequest(http.MethodPut, "http://"+a.addr+":7950/v1/"+id, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("PUT %s at %s: %s", id, a.name, resp.Status)
	}
	return nil
}

// get reads one value over HTTP.
func (a *agent) get(id string) (string, error) {
	resp, err := http.Get("http://" + a.addr + ":7950/v1/" + id)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", err
	}
	return strings.TrimSpace(string(body)), nil
}

// digest is one line that is equal where HostDB is.
func (a *agent) digest(ctx context.Context) (string, error) {
	text, err := a.curl(ctx, "/api/v1/digest")
	if err != nil {
		return "", err
	}
	var all api.Digests
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return "", fmt.Errorf("digest of %s: %w", a.name, err)
	}
	line := "version " + all.Version
	for _, ns := range slices.Sorted(maps.Keys(all.Namespaces)) {
		line += "  " + ns + " " + all.Namespaces[ns][:12]
	}
	return line, nil
}

func (a *agent) printLogTail(w io.Writer) {
	text, err := os.ReadFile(a.dir + ".log")
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	fmt.Fprintf(w, "\nlast lines of %s:\n%s\n", a.name, strings.Join(lines[max(0, len(lines)-15):], "\n"))
}
