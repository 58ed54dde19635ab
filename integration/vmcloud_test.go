package integration

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	vmguest "hostmesh/integration/guest"
	"hostmesh/node/api"
)

// cloudPatience bounds a start of a guest that is a whole distribution. It is emulated, on a machine that may have more to do.
const cloudPatience = 15 * time.Minute

// cloudMore is set by hand, for a test that takes five minutes: to twice, or to anew for an image that is made anew besides.
const cloudMore = "HOSTMESH_TEST_CLOUD"

// cloudProfile is that of the guest's tag, with a key. What it runs first adds a line to a page at each run, and has the guest serve it for ever.
const cloudProfile = `User: ops
Keys: {ops: %s}
Commands:
  20-serve: |
    cat >/etc/systemd/system/page.service <<'END'
    [Service]
    ExecStart=/usr/bin/python3 -m http.server 80 --directory /srv/page
    [Install]
    WantedBy=multi-user.target
    END
    systemctl enable --now page
  10-page: |
    mkdir -p /srv/page
    echo "run of $(id -un)" >>/srv/page/index.html
`

// TestVirtualMachineFromItsOwnDisk: a machine of a cloud image starts by the loader on its disk, and the cloud-init in it makes of the
// image what HostDB and its box say: its name, who may log in, its address, what is run first, the size of its disk. That happens
// once: the next start finds a larger disk, and leaves the rest. It is for make guest-cloud.
func TestVirtualMachineFromItsOwnDisk(t *testing.T) {
	more := os.Getenv(cloudMore)
	if more == "" {
		t.Log("it is made by make guest-cloud")
		return
	}
	if !withOwnNetAnd(t, func() error { _, err := vmguest.CloudDisk(more == "anew"); return err }, "ssh", "ssh-keygen") {
		return
	}
	disk, err := vmguest.CloudDisk(false)
	if err != nil {
		t.Fatal(err)
	}
	profiles := t.TempDir()
	s := newVMSite(t, 1, ", shutdown: 5m, guests: "+profiles)
	s.patience = cloudPatience
	g := cloudGuest{vmSite: s, name: "web7.lab.test", key: filepath.Join(t.TempDir(), "key")}
	s.must(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ops", "-f", g.key))
	public, err := os.ReadFile(g.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(profiles, "shop.yaml"), fmt.Appendf(nil, cloudProfile, public), 0o600); err != nil {
		t.Fatal(err)
	}
	s.open()
	first := s.boxes[0]
	first.mustPut("tags/shop", "Guest: {Profile: shop, Resolvers: [10.66.0.53], Search: [lab.test]}\n")
	first.says([]string{"image debian added"}, "image", "add", "debian", disk, "-m", "a distribution")

	begin := time.Now()
	first.says(nil, "vm", "create", g.name, "--image", "debian", "--subnet", "prod", "--memory", "512MiB", "--cpus", "2",
		"--disk", "1536MiB", "--tag", "lab", "--tag", "shop", "--wait", "--timeout", "15m")
	vm, err := first.api.VM(t.Context(), g.name)
	if err != nil {
		t.Fatal(err)
	}
	at := s.carrier(vm)
	if xml, err := s.carries[at].Virsh(t.Context(), "dumpxml", vm.UUID); err != nil || strings.Contains(xml, "<kernel>") {
		t.Errorf("it is started with a kernel of the box, or %v:\n%s", err, xml)
	}
	s.console(first, g.name, "GRUB: Linux from this disk", 1)
	page := s.serves(first, g.name, "run of root")
	t.Logf("%s serves %s after it was entered", g.name, time.Since(begin).Round(time.Second))
	g.told(vm, page, 1536<<20)
	// It is stopped as one asks a guest to, and gets a larger disk.
	first.says(nil, "db", "set", "hosts/"+g.name+"/VM/Disk", "2GiB", "-m", "more")
	first.says(nil, "vm", "stop", g.name, "--wait", "--timeout", "15m")
	s.console(first, g.name, "Power down", 1)
	begin = time.Now()
	first.says(nil, "vm", "start", g.name, "--wait", "--timeout", "15m")
	s.console(first, g.name, "GRUB: Linux from this disk", 2)
	page = s.serves(first, g.name, "run of root")
	t.Logf("%s serves %s after its second start", g.name, time.Since(begin).Round(time.Second))
	g.told(vm, page, 2<<30)
}

// cloudGuest is a machine of the image, and who logs in there.
type cloudGuest struct {
	*vmSite
	name, key string
}

// told checks what cloud-init made of the guest.
func (g cloudGuest) told(vm api.VM, page string, disk int64) {
	t := g.t
	t.Helper()
	if n := strings.Count(page, "run of root"); n != 1 {
		t.Errorf("its first commands ran %d times", n)
	}
	addr := netip.MustParseAddr(vm.IP)
	// How cloud-init ended, which it writes last.
	g.patiently("cloud-init is done", func() error {
		text, err := g.ssh(addr, "cat /run/cloud-init/result.json")
		if err == nil && !strings.Contains(text, "DataSourceNoCloud [seed=/dev/sr") || !strings.Contains(text, `"errors": []`) {
			err = fmt.Errorf("it says %s, %w", text, err)
		}
		return err
	})
	for _, c := range []struct{ what, ask, want string }{
		{"host name", "hostname", "web7"},
		{"full name", "hostname --fqdn", g.name},
		{"instance", "cat /var/lib/cloud/data/instance-id", vm.UUID},
		{"user", "sudo id -un", "root"},
		{"address", "ip -o -4 address show scope global | awk '{print $4}'", vm.IP + "/16"},
		{"hardware address", "cat /sys/class/net/eth0/address", vm.MAC},
		{"gateway", "ip -o route show default | awk '{print $3}'", guestGateway},
		{"resolvers", "sed -n 's/^DNS=//p' /run/systemd/netif/state", "10.66.0.53"},
		{"search", "sed -n 's/^DOMAINS=//p' /run/systemd/netif/state", "lab.test"},
		{"disk", "echo $(($(cat /sys/class/block/vda/size) * 512))", strconv.FormatInt(disk, 10)},
		{"partition", "echo $(($(cat /sys/class/block/vda1/size) * 512 >> 20 >= " + strconv.FormatInt(disk>>20-2, 10) + "))", "1"},
		{"file system", "echo $(($(stat -f -c '%b * %S' /) >= " + strconv.FormatInt(disk*9/10, 10) + "))", "1"},
	} {
		if got, err := g.ssh(addr, c.ask); got != c.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", c.what, got, err, c.want)
		}
	}
}

// ssh runs a command in the guest.
func (g cloudGuest) ssh(at netip.Addr, command string) (string, error) {
	cmd := exec.Command("ssh", "-i", g.key, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20", "ops@"+at.String(), command)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK=")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
