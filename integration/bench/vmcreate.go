package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hostmesh/integration/guest"
	"hostmesh/integration/libvirtd"
	"hostmesh/node/api"
)

// created is what the child of vmcreate measured, in turns.
type created struct{ Ours, Bare []time.Duration }

// vmCreate sets the way from a wish in HostDB to a machine that runs beside bare libvirt's define and start of the same XML.
func (b *bench) vmCreate(ctx context.Context) error {
	if os.Getuid() != 0 {
		return errors.New("libvirtd starts as root alone: run it as root")
	}
	if _, err := guest.FetchKernel(); err != nil { // where there is a network
		return err
	}
	dir, err := os.MkdirTemp(b.dir, "v")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, b.self, "-child", "vmcreate", b.binary, dir, strconv.Itoa(b.count(30, 4)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	text, err := output(cmd)
	if err != nil {
		return err
	}
	var got created
	if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Ours) == 0 {
		return fmt.Errorf("the child said %q: %w", text, err)
	}
	more := make([]time.Duration, len(got.Ours))
	for i := range more {
		more[i] = got.Ours[i] - got.Bare[i]
	}
	b.table.add(row{
		what:     "vm: wish in HostDB -> domain runs",
		measured: fmt.Sprintf("p50 %s, p99 %s (n=%d)", ms(median(got.Ours)), ms(quantile(got.Ours, 0.99)), len(got.Ours)),
		budget:   "< 150 ms more than define+start",
		peer:     fmt.Sprintf("%s more (p99 %s) than bare libvirt's %s", ms(median(more)), ms(quantile(more, 0.99)), ms(median(got.Bare))),
		met:      when(median(more) < 150*time.Millisecond),
	})
	b.table.note("vmcreate: qemu:///system of a libvirtd of its own; the clock starts when HostDB's write is asked for, at the agent of the box, and ends when that agent tells " +
		"that the machine runs: placing, lease log, address, overlay and console are within. Bare is define and start by one virsh that is connected, of the XML of our machine " +
		"with another identity and an overlay that is there. The image is there for both.")
	return nil
}

// createVMs is the child of vmCreate: alone in its network, it prints what it measured.
func createVMs(binary, dir string, turns int) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("none", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("own /sys: %w", err)
	}
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"link", "add", "br0", "type", "bridge"}, {"link", "set", "br0", "up"}} {
		if _, err := output(exec.Command("ip", args...)); err != nil {
			return err
		}
	}
	d, err := libvirtd.Start("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	vms, err := os.MkdirTemp("", "hmvm-") // the emulator is another user, who must get there
	if err != nil {
		return err
	}
	defer os.RemoveAll(vms)
	if err := os.Chmod(vms, 0o711); err != nil { //nolint:gosec // see above
		return err
	}
	b := &bench{binary: binary, dir: dir, agentLines: fmt.Sprintf("libvirt: '%s'\nvm: {dir: %s, shutdown: 1s}\n", d.URI(), vms)}
	m, err := b.newMesh(ctx, 1)
	if err != nil {
		return err
	}
	defer m.close()
	a := m.agents[0]
	if err := m.networkForVMs(ctx, "br0", "{Memory: 512GiB, CPUs: 512, Disk: 512GiB}"); err != nil {
		return err
	}
	g, err := guest.Build(dir)
	if err != nil {
		return err
	}
	if err := a.addImage(ctx, dir, "--kernel", g.Kernel, "--initrd", g.Initrd, "--cmdline", guest.Cmdline("{hostname}", "{ip}", "{gateway}", "{netmask}")); err != nil {
		return err
	}
	c, err := api.NewClient(api.ClientConfig{Socket: a.socket()})
	if err != nil {
		return err
	}
	defer c.Close()
	events, err := watchVMs(ctx, c)
	if err != nil {
		return err
	}
	shell, err := newVirsh(d.URI())
	if err != nil {
		return err
	}
	defer shell.close()

	var out created
	for i := -1; i < turns; i++ { // the first is not counted: the image comes, a block is granted
		name := fmt.Sprintf("ours%d.bench", i+1)
		ours := func() error {
			begin := time.Now()
			if _, err := c.CreateVM(ctx, api.VMWish{Name: name, Image: "tiny", Subnet: "net", Memory: "128MiB", Disk: "16MiB", Log: "bench"}); err != nil {
				return err
			}
			if _, err := events.until(ctx, func(vm api.VM) bool { return vm.Name == name && vm.Phase == "running" }); err != nil {
				return fmt.Errorf("%s: %w\n%s", name, err, a.lastLines())
			}
			if i >= 0 {
				out.Ours = append(out.Ours, time.Since(begin))
			}
			return nil
		}
		var model string // the machine whose XML the bare one has
		if i >= 0 {
			model = "ours0.bench"
		}
		bare := func() error {
			if model == "" {
				return nil
			}
			took, err := bareVM(ctx, d, shell, c, model, vms, dir)
			if err == nil {
				out.Bare = append(out.Bare, took)
			}
			return err
		}
		first, second := ours, bare
		if i%2 == 0 {
			first, second = bare, ours
		}
		if err := errors.Join(first(), second()); err != nil {
			return err
		}
		if _, err := c.SetVMPower(ctx, name, api.VMPower{Log: "bench"}); err != nil { // it costs no processor in later turns
			return err
		}
		if _, err := events.until(ctx, func(vm api.VM) bool { return vm.Name == name && vm.Phase == "stopped" }); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// bareVM defines and starts what another machine is, under another identity, and takes it away again.
func bareVM(ctx context.Context, d *libvirtd.Daemon, shell *virsh, c *api.Client, model, vms, dir string) (time.Duration, error) {
	vm, err := c.VM(ctx, model)
	if err != nil {
		return 0, err
	}
	text, err := d.Virsh(ctx, "dumpxml", "--inactive", vm.UUID)
	if err != nil {
		return 0, err
	}
	const uuid, name = "00000000-0000-4000-8000-000000000bad", "bare"
	own, theirs := filepath.Join(vms, vm.UUID+".qcow2"), filepath.Join(vms, uuid+".qcow2")
	info, err := output(exec.CommandContext(ctx, "qemu-img", "info", "-U", "--output=json", own))
	if err != nil {
		return 0, err
	}
	var base struct {
		File string `json:"full-backing-filename"`
	}
	if err := json.Unmarshal([]byte(info), &base); err != nil {
		return 0, err
	}
	if _, err := output(exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-b", base.File, "-F", "qcow2", theirs, "16M")); err != nil {
		return 0, err
	}
	defer os.Remove(theirs)
	begin, end := strings.Index(text, "<metadata>"), strings.Index(text, "</metadata>")
	if begin < 0 || end < begin {
		return 0, fmt.Errorf("there is no metadata in %s", text)
	}
	text = text[:begin] + text[end+len("</metadata>"):] // the agent is not to take it for its own
	text = strings.NewReplacer(vm.UUID, uuid, "<name>"+model+"</name>", "<name>"+name+"</name>", vm.MAC, "52:00:00:00:0b:ad").Replace(text)
	file := filepath.Join(dir, "bare.xml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := shell.do("define "+file, "start "+name); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, shell.do("destroy "+name, "undefine "+name)
}

// virsh is one that stays connected and does what it is told.
type virsh struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	n   int
}

func newVirsh(uri string) (*virsh, error) {
	v := &virsh{cmd: exec.Command("stdbuf", "-o0", "virsh", "-q", "-c", uri)}
	var err error
	if v.in, err = v.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	v.cmd.Stderr = v.cmd.Stdout
	v.out = bufio.NewReader(out)
	if err := v.cmd.Start(); err != nil {
		return nil, err
	}
	return v, v.do("uri") // it is connected
}

// do gives it commands, and returns when all are done.
func (v *virsh) do(commands ...string) error {
	v.n++
	mark := fmt.Sprintf("done-%d-", v.n)
	if _, err := io.WriteString(v.in, strings.Join(commands, "\n")+"\necho "+mark+"\n"); err != nil {
		return fmt.Errorf("virsh: %w", err)
	}
	var said strings.Builder // with what it was told, which it repeats
	for !strings.Contains(said.String(), "\n"+mark) {
		c, err := v.out.ReadByte()
		if err != nil {
			return fmt.Errorf("virsh: %w: %s", err, said.String())
		}
		said.WriteByte(c)
	}
	if strings.Contains(said.String(), "error:") {
		return fmt.Errorf("virsh %s: %s", strings.Join(commands, "; "), said.String())
	}
	return nil
}

func (v *virsh) close() {
	_ = v.in.Close()
	_ = v.cmd.Wait()
}
