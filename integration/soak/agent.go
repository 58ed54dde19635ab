package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"hostmesh/integration/wires"
	"hostmesh/node/api"
)

// agent is one box: a process that is kept running unless a fault wants it dead.
type agent struct {
	soak        *soak
	number      int
	short, name string // a, and a.soak
	box         *wires.Box
	disk        wires.Disk
	api         *api.Client
	http        *http.Client // on the socket, for what api has no call for

	full   atomic.Bool  // a fault filled its disk: it may refuse to start
	acked  atomic.Int64 // writes it acknowledged
	starts atomic.Int64

	mu     sync.Mutex // guards the fields below
	wanted bool
	cmd    *exec.Cmd     // nil before the first start
	ended  chan struct{} // closed when that process is gone
}

func (s *soak) newAgent(i int) (*agent, error) {
	box := wires.NewBox("hms", i)
	short := box.Name
	a := &agent{soak: s, number: i, short: short, name: short + ".soak", box: box}
	a.disk = wires.Disk{Image: filepath.Join(s.dir, short+".img"), Dir: filepath.Join(s.dir, short), Size: s.diskSize()}
	var err error
	if a.api, err = api.NewClient(api.ClientConfig{Socket: a.socket()}); err != nil {
		return nil, err
	}
	a.http = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", a.socket())
	}}}
	return a, os.Mkdir(a.disk.Dir, 0o700)
}

func (a *agent) data() string      { return filepath.Join(a.disk.Dir, "data") }
func (a *agent) socket() string    { return filepath.Join(a.data(), "agent.sock") }
func (a *agent) clockFile() string { return filepath.Join(a.soak.dir, a.short+".clock") }
func (a *agent) log() string       { return filepath.Join(a.soak.logs(), a.short+".log") }

// setClock sets the agent's clock wrong by this much.
func (a *agent) setClock(by time.Duration) error {
	next := a.clockFile() + ".new" // it is read whole, or as it was
	if err := os.WriteFile(next, []byte(by.String()+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(next, a.clockFile())
}

// found makes this box the founder.
func (a *agent) found() error {
	_, err := wires.Output(exec.Command(a.soak.binary, "init", "--data-dir", a.data(), "--key-file", a.soak.keyFile, "--name", a.name))
	return err
}

// run starts the process and does not wait for it to serve. Callers hold mu.
func (a *agent) run() error {
	log, err := os.OpenFile(a.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"agent", "--dev",
		"--name", a.name, "--addr", a.box.Addr, "--data-dir", a.data(), "--key-file", a.soak.keyFile}
	if a.soak.clocks {
		args = append(args, "--clock-offset", a.clockFile())
	}
	var join []string
	for _, b := range a.soak.agents {
		if b != a {
			join = append(join, b.box.Addr)
		}
	}
	args = append(args, "--join", strings.Join(join, ","))
	fmt.Fprintf(log, "--- start %d, %s into the run\n", a.starts.Load()+1, a.soak.clock())
	cmd := a.box.Command(a.soak.binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	a.cmd, a.ended = cmd, make(chan struct{})
	a.starts.Add(1)
	go func(ended chan struct{}) { _ = cmd.Wait(); close(ended) }(a.ended)
	return nil
}

// want says whether the process shall run. One that shall not is killed as by a power cut.
func (a *agent) want(running bool) {
	a.mu.Lock()
	a.wanted = running
	cmd, ended := a.cmd, a.ended
	a.mu.Unlock()
	if !running && cmd != nil {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-ended
	}
}

// keep keeps the process running as wanted until ctx ends. An end that nobody asked for is a defect; on a full disk an
// agent may refuse to start, and then it is started again until it does.
func (a *agent) keep(ctx context.Context) {
	for wires.Pause(ctx, 100*time.Millisecond) {
		a.mu.Lock()
		if !a.wanted {
			a.mu.Unlock()
			continue
		}
		err := a.run()
		cmd, ended := a.cmd, a.ended
		a.mu.Unlock()
		if err != nil {
			a.soak.defect("%s cannot be started: %v", a.name, err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
		a.mu.Lock()
		byItself := a.wanted
		a.mu.Unlock()
		if !byItself {
			continue
		}
		if state := cmd.ProcessState; a.full.Load() && state.ExitCode() == 1 {
			a.soak.say("%s does not run on its full disk: %s", a.name, wires.LastLine(a.log()))
		} else {
			a.soak.defect("%s ended by itself: %s: %s", a.name, state, wires.LastLine(a.log()))
		}
		wires.Pause(ctx, time.Second)
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// signal sends a signal to the process, if it runs.
func (a *agent) signal(sig syscall.Signal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd != nil && !isClosed(a.ended) {
		_ = a.cmd.Process.Signal(sig) // it may end this moment
	}
}

// pid is that of the process that runs; 0 when none does.
func (a *agent) pid() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd == nil || isClosed(a.ended) {
		return 0
	}
	return a.cmd.Process.Pid
}

// serves asks once whether the agent is ready.
func (a *agent) serves(ctx context.Context) error {
	_, err := a.ask(ctx, "/readyz")
	return err
}

func (a *agent) ask(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return string(text), err
}

// sample is what an agent takes, at a moment.
type sample struct {
	at         time.Duration // into the run
	started    int64         // which start of the agent it is of
	rss        int64         // bytes, those of mapped files among them: the kernel takes them back when it needs them
	anon       int64         // bytes of them that are of no file
	goroutines int64
	fds        int64 // without those of the database's tables
	tables     int64
	database   int64 // bytes on disk
	made       int64 // keys that were written once, by then, over all agents
}

// measure takes a sample; ok is false while the agent does not answer.
func (a *agent) measure(ctx context.Context) (sample, bool) {
	pid := a.pid()
	if pid == 0 {
		return sample{}, false
	}
	out := sample{at: a.soak.clock(), started: a.starts.Load()}
	status, err1 := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	fds, err2 := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	metrics, err3 := a.ask(ctx, "/metrics")
	if err := errors.Join(err1, err2, err3); err != nil {
		return sample{}, false
	}
	for line := range strings.Lines(string(status)) {
		name, rest, _ := strings.Cut(line, ":")
		if name != "VmRSS" && name != "RssAnon" {
			continue
		}
		kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64) // the kernel writes numbers
		if name == "VmRSS" {
			out.rss = kb << 10
		} else {
			out.anon = kb << 10
		}
	}
	for _, fd := range fds {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name())) // closed meanwhile: it counts once more
		if strings.HasSuffix(to, ".sst") {
			out.tables++
		} else {
			out.fds++
		}
	}
	out.made = a.soak.made.Load()
	for line := range strings.Lines(metrics) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
		case name == "go_goroutines":
			out.goroutines = int64(n)
		case strings.HasPrefix(name, "hostmesh_hostdb_database_bytes"):
			out.database += int64(n)
		}
	}
	return out, out.rss > 0 && out.anon > 0 && out.goroutines > 0
}
