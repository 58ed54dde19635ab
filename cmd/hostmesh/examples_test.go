package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// notRun are examples in help texts that a test cannot run, with the reason.
var notRun = map[string]string{
	"hostmesh watch": "runs until it is stopped; the scripts do",
	"hostmesh watch hosts/web --where 'Status == \"maintenance\"'":                                     "runs until it is stopped; the scripts do",
	"hostmesh watch tags --from 24h --what members":                                                    "runs until it is stopped; the scripts do",
	"hostmesh watch -o json --data | jq -r '.documents[]?.id'":                                         "runs until it is stopped, and needs jq",
	"hostmesh db txn -f takeover.yaml --dry-run":                                                       "needs the file; the scripts have one",
	"hostmesh db txn -f takeover.yaml -m \"web9 takes over\"":                                          "needs the file; the scripts have one",
	"hostmesh agent --dev --data-dir /tmp/hostmesh":                                                    "runs until it is stopped; the scripts do",
	"hostmesh agent --addr 10.1.0.11 --key-file /etc/hostmesh/mesh.key":                                "not an address of this box",
	"hostmesh agent --addr 10.1.0.12 --join 10.1.0.11 --key-file /etc/hostmesh/mesh.key":               "not an address of this box",
	"hostmesh agent --check":                                                                           "looks at this box's configuration",
	"hostmesh init --data-dir /var/lib/hostmesh --key-file /etc/hostmesh/mesh.key":                     "changes this box",
	"hostmesh keygen /etc/hostmesh/mesh.key":                                                           "changes this box",
	"hostmesh keygen | ssh box2 'umask 077; cat > /etc/hostmesh/mesh.key'":                             "needs box2",
	"hostmesh status --server https://10.1.0.12:7951 --ca web-ca.crt --token-file token":               "needs another box",
	"hostmesh login --server https://10.1.0.12:7951 --ca web-ca.crt":                                   "needs another box",
	"hostmesh login --server https://10.1.0.12:7951 --user alice --password-stdin < password":          "needs another box",
	"hostmesh logout --server https://10.1.0.12:7951":                                                  "forgets a session of this user",
	"hostmesh whoami --server https://10.1.0.12:7951 --ca web-ca.crt":                                  "needs another box",
	"hostmesh db backup - | ssh safe.example.com 'cat > hostmesh.backup'":                              "needs another box",
	"hostmesh db restore monday.backup --data-dir /var/lib/hostmesh --key-file /etc/hostmesh/mesh.key": "changes this box; package integration does it",
	"hostmesh node remove box12.dc1.example.com -m \"sold\"":                                           "asks on a terminal; package integration removes one",
	"hostmesh node remove 0123456789abcdef0123456789abcdef --yes":                                      "needs another box; package integration removes one",
	"hostmesh duties explain mirror":                                                                   "needs a mirror; the pages have one",
	"hostmesh duties move mirror box12.dc1.example.com":                                                "needs other boxes; package integration has some",
	"hostmesh duties found":                                                                              "needs a datacenter without a group",
	"hostmesh duties found --home":                                                                       "needs a mesh without a group",
	"hostmesh duties recover":                                                                            "asks on a terminal",
	"hostmesh duties recover --yes":                                                                      "refused while the voters live",
	"hostmesh duties excuse box12.dc1.example.com":                                                       "needs another box",
	"hostmesh node drain box12.dc1.example.com -m \"new memory\"":                                        "needs other boxes; package integration has some",
	"hostmesh node drain box12.dc1.example.com -m \"new memory\" --no-wait":                              "needs other boxes; package integration has some",
	"hostmesh node undrain box12.dc1.example.com":                                                        "needs other boxes; package integration has some",
	"hostmesh status -o json | jq .problems":                                                             "needs jq",
	"hostmesh db digest --server http://127.0.0.12:7950 | diff - <(hostmesh db digest)":                  "needs the demo",
	"ln -s hostmesh /usr/local/bin/hostdb":                                                               "changes this box",
	"hostmesh passwd alice >> users.yaml":                                                                "asks on a terminal",
	"hostmesh user set alice --allow 10.0.0.0/8 --group ops":                                             "asks on a terminal",
	"pass show hostmesh/robot | hostmesh user set robot --password-stdin --allow 10.1.0.53":              "needs pass",
	"hostmesh db import /var/lib/hostdb/namespaces --dry-run":                                            "needs Flipkart's HostDB on this box",
	"hostmesh db import /var/lib/hostdb/namespaces --keep-going -m \"from the old HostDB\"":              "needs Flipkart's HostDB on this box",
	"hostmesh db import --git /var/lib/hostdb/namespaces":                                                "needs Flipkart's HostDB on this box; the scripts have a repository",
	"hostmesh dns zone dc1.example.com > db.dc1 && named-checkzone dc1.example.com db.dc1":               "needs bind9-utils; package integration runs it",
	"hostmesh dns diff --against 10.1.0.53 dc1.example.com":                                              "needs another server; package integration compares",
	"hostmesh dns diff --against ns1.example.com:5353 --key old dc1.example.com":                         "needs another server; package integration compares",
	"hostmesh image add debian-13 https://images.example.com/debian-13.qcow2 --sha256 SUM -m \"try it\"": "needs a server of images; package integration has one",
	"hostmesh image remove debian-11 -m \"nothing uses it\"":                                             "refused, because hosts of the inventory name it; package integration removes one",
	"hostmesh vm capacity --without box3.dc1.example.com":                                                "ends with 1 where machines have no other box, as those of the inventory",
	"hostmesh vm capacity --without rack:r12 -o json":                                                    "ends with 1 where machines have no other box, as those of the inventory",
	"hostmesh image push debian-12 box30 box31":                                                          "needs other boxes; package integration has some",
	"hostmesh vm console web7 --follow":                                                                  "runs until it is stopped",
	"hostmesh vm events --follow":                                                                        "runs until it is stopped",
	"hostmesh vm purge web7":                                                                             "asks on a terminal",
	"hostmesh dns import /etc/bind/db.10.1 --zone 1.10.in-addr.arpa --dry-run":                           "needs another server's file",
	"hostmesh lb watch":                                                                 "runs until it is stopped; a test does",
	"hostmesh lb watch warehouse-web-dc1 -o json":                                       "runs until it is stopped; a test does",
	"hostmesh mysql ack shop-db -m \"new disks\"":                                       "needs database servers; package integration has some",
	"hostmesh mysql check shop-db":                                                      "needs database servers; package integration has some",
	"hostmesh mysql check shop-db --grants":                                             "needs database servers; package integration has some",
	"hostmesh mysql clone shop-db - db4.dc1.example.com":                                "needs database servers; package integration has some",
	"hostmesh mysql explain shop-db":                                                    "needs database servers; package integration has some",
	"hostmesh mysql failover shop-db":                                                   "needs database servers; package integration has some",
	"hostmesh mysql failover shop-db --force -m \"rack 12 burnt down\"":                 "needs database servers; package integration has some",
	"hostmesh mysql history shop-db":                                                    "needs database servers; package integration has some",
	"hostmesh mysql pause shop-db -m \"new disks\"":                                     "needs database servers; package integration has some",
	"hostmesh mysql rejoin shop-db db1.dc1.example.com":                                 "needs database servers; package integration has some",
	"hostmesh mysql resume shop-db -m \"new disks\"":                                    "needs database servers; package integration has some",
	"hostmesh mysql setup shop-db":                                                      "needs database servers; package integration has some",
	"hostmesh mysql setup shop-db --primary db1.dc1.example.com --apply -m \"adopted\"": "needs database servers; package integration has some",
	"hostmesh mysql status shop-db -o json":                                             "needs database servers; package integration has some",
	"hostmesh mysql switchover shop-db":                                                 "needs database servers; package integration has some",
	"hostmesh mysql switchover shop-db --to db2.dc1.example.com -m \"kernel update\"":   "needs database servers; package integration has some",
}

// TestExamples runs the examples of the help texts as they stand there, with an agent that holds examples/inventory.
func TestExamples(t *testing.T) {
	dir := shortTempDir(t)
	startAgent(t, filepath.Join(dir, "d"), "--libvirt", "test:///default")
	if err := os.Mkdir(filepath.Join(dir, "examples"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(inventory(t), filepath.Join(dir, "examples", "inventory")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "web9.yaml"), []byte("Network: {IP: 10.1.8.19}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "db.lab.test"), []byte("$TTL 60\n@ SOA ns1 root 1 3600 600 86400 5\n@ NS ns1\nns1 A 10.9.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "old.secret"), []byte("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"HOSTMESH_DATA_DIR=" + filepath.Join(dir, "d")}
	do := func(args ...string) (code int, stdout, stderr string) {
		var out, errs bytes.Buffer
		code = run(t.Context(), args, environ, strings.NewReader("Network: {IP: 10.1.8.19}\n"), &out, &errs)
		return code, out.String(), errs.String()
	}
	must := func(args ...string) string {
		t.Helper()
		code, stdout, stderr := do(args...)
		if code != exitDone {
			t.Fatalf("%q: %d\n%s", args, code, stderr)
		}
		return stdout
	}
	newest := func() string {
		t.Helper()
		id := regexp.MustCompile(`[0-9a-f]{16}\.[0-9a-f]{16}`).FindString(must("db", "log", "-n", "1"))
		if id == "" {
			t.Fatal("the log has no revision")
		}
		return id
	}
	must("db", "import", inventory(t))
	imported := newest()
	must("db", "backup", filepath.Join(dir, "monday.backup"))
	vms := guests{t: t, dir: dir, do: do, must: must}
	vms.prepare()
	seen := map[string]bool{}
	for _, line := range examples() {
		func() {
			if seen[line] {
				return
			}
			seen[line] = true
			if notRun[line] != "" {
				return
			}
			// What an earlier example took away, and what no example may find.
			must("db", "read-only", "off", "-m", "reset")
			must("db", "set", "hosts/web9.dc1.example.com", "-", "-m", "reset")
			if code, _, _ := do("db", "get", "hosts/web10.dc1.example.com"); code == exitDone {
				must("db", "delete", "hosts/web10.dc1.example.com", "-m", "reset")
			}
			switch {
			case strings.Contains(line, "dns key add"):
				for _, key := range []string{"xfer", "ns2.example.com"} {
					do("dns", "key", "remove", key) // it may not be there
				}
			case strings.Contains(line, "dns key remove"):
				must("dns", "key", "add", "xfer", "--replace")
			}
			if code, _, _ := do("user", "show", "alice"); code != exitDone {
				must("user", "set", "alice", "--password-stdin")
			}
			vms.before(line)
			must("db", "set", "hosts/web1.dc1.example.com/Expires", fmt.Sprint(2030+len(seen), "-01-01"), "-m", "reset")
			// Examples name a past that this database does not have, and places that belong to the box of whoever runs the test.
			line = strings.NewReplacer("019a0c1f2b3c0000.5f1e2d3c4b5a6978", newest(), "--as-of 24h", "--as-of "+imported,
				"--as-of 2026-01-31", "--as-of "+imported, "members 2h", "members "+imported, " /root/", " "+dir+"/", " /var/lib/hostmesh/", " "+dir+"/",
				"--data-dir /var/lib/hostmesh", "--data-dir "+filepath.Join(dir, "d"), " /var/backups/", " "+dir+"/", " /tmp/trial", " "+dir+"/trial").Replace(line)
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", line)
			cmd.WaitDelay = time.Second // who started it may be gone, and what it started still hold the pipe
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), environ...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", line, errors.Join(err, context.Cause(ctx)), out)
			}
		}()
	}
	for line := range notRun {
		if !seen[line] {
			t.Errorf("notRun speaks of an example that is gone: %s", line)
		}
	}
}

// examples are the commands in the examples of all help texts. Those that approve come last: they take a lot of deletions.
func examples() (list []string) {
	var last []string
	everyCommand(func(cmd *cobra.Command) {
		for line := range strings.Lines(strings.ReplaceAll(cmd.Example, "\\\n", "")) {
			switch line = strings.TrimSpace(line); {
			case line == "" || strings.HasPrefix(line, "#"):
			case strings.HasPrefix(line, "hostmesh approve"):
				last = append(last, line)
			default:
				list = append(list, line)
			}
		}
	})
	return append(list, last...)
}

// shortTempDir is a temporary directory whose sockets have names that are short enough.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// startAgent runs an agent with --dev until the test ends, and returns its address.
func startAgent(t *testing.T, dataDir string, flags ...string) string {
	t.Helper()
	addr := loopback()
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	go func() {
		args := []string{"agent", "--dev", "--data-dir", dataDir, "--addr", addr, "--name", "box1.dc1.example.com"}
		done <- run(ctx, append(args, flags...), nil, strings.NewReader(""), &bytes.Buffer{}, &log)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != exitDone {
			t.Errorf("the agent ended with %d:\n%s", code, &log)
		}
	})
	environ := []string{"HOSTMESH_DATA_DIR=" + dataDir}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		var out, stderr bytes.Buffer
		if run(t.Context(), []string{"status"}, environ, strings.NewReader(""), &out, &stderr) == exitDone {
			return addr
		}
		if time.Now().After(end) {
			t.Fatalf("the agent is not well: %s%s", &out, &stderr)
		}
	}
}
