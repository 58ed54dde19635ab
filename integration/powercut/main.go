// Powercut is the first process of a virtual machine whose power is cut: it runs an agent on a disk, writes through it, and says
// on the second serial port what was acknowledged. Then it ends the machine without a goodbye, or waits for that to be
// done from outside. At its next start it tells first what it finds.
//
// It takes its orders from the kernel's command line: powercut.boot=N, a number that keys of this start carry;
// powercut.after=N, the acknowledgements after which the machine resets itself, 0 for never, -1 for no writes at all.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	agent    = "/hostmesh"
	mount    = "/disk"
	dataDir  = mount + "/hostmesh"
	resetKey = "/proc/sysrq-trigger"
	writers  = 4
)

func main() {
	say := &port{}
	err := run(say)
	say.line("end", fmt.Sprint(err))
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // nothing else can be done about an error
	select {}
}

// port is the serial port to the test.
type port struct {
	mu  sync.Mutex
	out io.Writer
}

// line prints words as one line of JSON, because a line of text may hold anything.
func (p *port) line(words ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, err := json.Marshal(words)
	if err == nil && p.out != nil {
		_, _ = p.out.Write(append(text, '\n')) // who listens sees that nothing comes
	}
}

func run(say *port) error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	out, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	say.out = out
	boot, after, err := orders()
	if err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := os.MkdirAll(mount, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/dev/vda", mount, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	c, ended, err := startAgent(say)
	if err != nil {
		return err
	}
	if err := tell(say, c); err != nil {
		return err
	}
	say.line("ready")
	if after < 0 {
		return nil
	}
	return writeUntilTheEnd(say, c, boot, after, ended)
}

// orders reads the kernel's command line.
func orders() (boot, after int, err error) {
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return 0, 0, err
	}
	for _, word := range strings.Fields(string(text)) {
		for name, to := range map[string]*int{"powercut.boot=": &boot, "powercut.after=": &after} {
			if value, ok := strings.CutPrefix(word, name); ok {
				if *to, err = strconv.Atoi(value); err != nil {
					return 0, 0, fmt.Errorf("order %s: %w", word, err)
				}
			}
		}
	}
	return boot, after, nil
}

// loadModules loads what the disk needs; their names begin with a number, in the order of what needs what.
func loadModules() error {
	names, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return nil
}

// startAgent starts the agent, at the first start of the machine on a mesh of its own, and returns when it is ready.
func startAgent(say *port) (c *client, ended chan error, err error) {
	if _, err := os.Stat(filepath.Join(dataDir, "mesh.json")); errors.Is(err, os.ErrNotExist) {
		if out, err := exec.Command(agent, "init", "--data-dir", dataDir, "--name", "guest.test").CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("init: %w: %s", err, out)
		}
	}
	cmd := exec.Command(agent, "agent", "--name", "guest.test", "--data-dir", dataDir, "--addr", "127.0.0.1",
		"--key-file", filepath.Join(dataDir, "mesh.key"), "--dns", "127.0.0.1:7953")
	cmd.Env = []string{"PATH=/", "HOME=/tmp"}
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	go func() {
		for lines := bufio.NewScanner(log); lines.Scan(); {
			say.line("log", lines.Text())
		}
	}()
	ended = make(chan error, 1)
	go func() { ended <- fmt.Errorf("the agent ended: %w", cmd.Wait()) }()
	c = newClient(filepath.Join(dataDir, "agent.sock"))
	return c, ended, c.ready(ended)
}

// tell says every host that the agent has, and what the command line says.
func tell(say *port, c *client) error {
	list, err := c.get("/v1/hosts")
	if err != nil {
		return err
	}
	names := strings.Fields(list)
	for _, name := range names {
		doc, err := c.get("/v1/hosts/" + name)
		if err != nil {
			return err
		}
		say.line("has", name, content(doc))
	}
	commands := [][]string{{"status"}}
	if len(names) > 0 {
		commands = append(commands, []string{"db", "get", "hosts/" + names[len(names)-1]})
	}
	for _, args := range commands {
		cmd := exec.Command(agent, args...)
		cmd.Env = []string{"PATH=/", "HOME=/tmp", "HOSTMESH_SOCKET=" + c.socket}
		out, err := cmd.CombinedOutput()
		say.line("command", strings.Join(args, " "), fmt.Sprint(err), string(out[:min(len(out), 4000)]))
	}
	return nil
}

// content names what a document says.
func content(doc string) string {
	sum := sha256.Sum256([]byte(strings.TrimSpace(doc)))
	return fmt.Sprintf("%x", sum[:12])
}

// document is the n-th of a writer. Every tenth is large, so that the database turns over its logs.
func document(boot, writer, n int) string {
	size := 40 + n*37%400
	if n%10 == 9 {
		size = 120_000
	}
	return fmt.Sprintf("Owner: %d-%d-%d\nPad: %s\n", boot, writer, n, strings.Repeat("x", size))
}

// writeUntilTheEnd writes from several sides until the machine is gone.
func writeUntilTheEnd(say *port, c *client, boot, after int, ended <-chan error) error {
	reset, err := os.OpenFile(resetKey, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	var acked atomic.Int64
	failed := make(chan error, writers)
	for w := range writers {
		go func() {
			for n := 0; ; n++ {
				name, doc := fmt.Sprintf("h%d-%d-%d", boot, w, n), document(boot, w, n)
				revision, err := c.put("/v1/hosts/"+name, doc)
				if err != nil {
					failed <- err
					return
				}
				say.line("ack", name, content(doc), revision)
				if acked.Add(1) == int64(after) {
					// The others are in the middle of what they do.
					_, _ = reset.WriteString("b") // the next line says that it did not work
					failed <- errors.New("the machine goes on after its reset")
				}
			}
		}()
	}
	select {
	case err := <-failed:
		return err
	case err := <-ended:
		return err
	}
}
