package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	vmguest "hostmesh/integration/guest"
)

// guestPatience bounds one life of a virtual machine. It is emulated, on a machine that may have more to do.
const guestPatience = 4 * time.Minute

// TestPowerCut runs an agent in a virtual machine and takes its power away while four clients write: by a reset that the machine
// gives itself in the middle of it, which throws away all that its kernel had not written to the disk, and by killing
// the emulator. Each start on the same disk must have all that was acknowledged before, exactly.
//
// HOSTMESH_POWER_CUTS sets how many cuts there are; without it two.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	cuts := 2
	if text := os.Getenv("HOSTMESH_POWER_CUTS"); text != "" {
		var err error
		if cuts, err = strconv.Atoi(text); err != nil {
			t.Fatalf("HOSTMESH_POWER_CUTS=%s: %v", text, err)
		}
	}
	g := newGuest(t)
	for i := range cuts {
		g.life(i, 20+rand.IntN(120), i%2 == 1)
	}
	g.life(cuts, -1, false)
	t.Logf("%d writes were acknowledged and are there after %d cuts", len(g.ledger), cuts)
}

// guest is a virtual machine with a disk that outlives its lives.
type guest struct {
	t                    *testing.T
	dir                  string
	kernel, initrd, disk string
	ledger               map[string]string // hosts that were acknowledged: what they hold
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	kernel, err := vmguest.FetchKernel()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, dir: t.TempDir(), ledger: map[string]string{}, kernel: kernel.Image}

	files := map[string]string{"init": "hostmesh/integration/powercut", "hostmesh": "hostmesh/cmd/hostmesh"}
	for name, pkg := range files {
		path := filepath.Join(g.dir, name)
		cmd := exec.Command("go", "build", "-tags", "nolibvirt", "-ldflags", "-s -w", "-o", path, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		g.must(cmd)
		files[name] = path
	}
	maps.Copy(files, kernel.Files(vmguest.DiskModules))
	image, err := vmguest.Archive(files)
	if err != nil {
		t.Fatal(err)
	}
	g.initrd = filepath.Join(g.dir, "initrd")
	if err := os.WriteFile(g.initrd, image, 0o600); err != nil {
		t.Fatal(err)
	}
	g.disk = filepath.Join(g.dir, "disk")
	sparse(t, g.disk, 1<<30)
	g.must(exec.Command("mkfs.ext4", "-q", "-F", g.disk))
	return g
}

func (g *guest) must(cmd *exec.Cmd) {
	g.t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		g.t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// sparse makes a file of a size that takes no room.
func sparse(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// life starts the machine, checks what it finds, and lets it write until its power is cut: by itself after so many
// acknowledgements, or from outside. With after -1 it is asked only what it finds.
func (g *guest) life(boot, after int, outside bool) {
	g.t.Helper()
	t := g.t
	order := after
	if outside {
		order = 0
	}
	console := filepath.Join(g.dir, fmt.Sprintf("console-%d", boot))
	cmd := exec.Command("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-machine", "pc,accel=tcg", "-m", "768", "-smp", "2",
		"-kernel", g.kernel, "-initrd", g.initrd,
		"-append", fmt.Sprintf("console=ttyS0 quiet panic=-1 powercut.boot=%d powercut.after=%d", boot, order),
		"-drive", "if=virtio,format=raw,cache=writethrough,file="+g.disk,
		"-serial", "file:"+console, "-serial", "stdio")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := sync.OnceFunc(func() { _ = cmd.Process.Kill() }) // it may have ended
	defer func() { kill(); _ = cmd.Wait() }()
	late := time.AfterFunc(guestPatience, kill)
	defer late.Stop()

	has, ready, end, acked := map[string]string{}, false, "", 0
	var log []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var words []string
		if json.Unmarshal(lines.Bytes(), &words) != nil || len(words) == 0 {
			continue // the line that was cut
		}
		switch words[0] {
		case "has":
			has[words[1]] = words[2]
		case "ready":
			ready = true
			t.Logf("start %d: ready after %s with %d hosts", boot, time.Since(begin).Round(time.Millisecond), len(has))
			g.check(boot, has)
		case "command":
			g.command(words, len(has))
		case "ack":
			g.ledger[words[1]] = words[2]
			if acked++; outside && acked == after {
				kill() // what it had said until then counts too
			}
		case "log":
			log = append(log, words[1])
		case "end":
			end = words[1]
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatalf("start %d: %v", boot, err)
	}
	switch {
	case !ready:
		text, _ := os.ReadFile(console) // to look at only
		t.Fatalf("start %d: the machine came to nothing: %s\n%s\n%s\n%s", boot, end, stderr.String(), lastLines(string(text), 20), strings.Join(log, "\n"))
	case after < 0 && end != "<nil>", after >= 0 && end != "":
		t.Fatalf("start %d: it ended by itself: %q\n%s", boot, end, strings.Join(log, "\n"))
	case after > 0 && acked == 0, outside && acked < after: // what the port had not sent yet went with a reset
		t.Fatalf("start %d: %d acknowledgements in %s, want %d\n%s", boot, acked, guestPatience, after, strings.Join(log, "\n"))
	}
	t.Logf("start %d: %d acknowledged, gone after %s", boot, acked, time.Since(begin).Round(time.Millisecond))
}

// check compares what the machine has with all that was ever acknowledged.
func (g *guest) check(boot int, has map[string]string) {
	g.t.Helper()
	lost := 0
	for name, content := range g.ledger {
		if has[name] != content {
			lost++
			g.t.Errorf("start %d: %s was acknowledged as %s and is %q", boot, name, content, has[name])
		}
	}
	if lost > 0 {
		g.t.Fatalf("start %d: %d of %d acknowledged writes are lost", boot, lost, len(g.ledger))
	}
}

// command looks at what the command line said in the machine.
func (g *guest) command(words []string, hosts int) {
	g.t.Helper()
	name, status, out := words[1], words[2], words[3]
	want := "Owner: "
	if name == "status" {
		want = fmt.Sprintf("%d hosts", hosts)
	}
	if status != "<nil>" || !strings.Contains(out, want) {
		g.t.Errorf("hostmesh %s: %s, want %q in\n%s", name, status, want, out)
	}
}
