package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSoak lets five agents run for a minute while they are written to and everything is broken that make soak breaks:
// kill -9, frozen processes, partitions, one-way cuts, slow links, full disks, a wrong clock. No acknowledged write may
// be lost, and all must be equal in the end. The long run is by hand: make soak FOR=1h.
//
// It needs root, for network namespaces and for file systems that can be full. HOSTMESH_TEST_SOAK is another length than
// a minute, such as 10m, and HOSTMESH_TEST_SOAK_SEED what a failed run printed as its seed.
func TestSoak(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "soak")
	if out, err := exec.Command("go", "build", "-tags", "libvirt_dlopen", "-o", path, "hostmesh/integration/soak").CombinedOutput(); err != nil {
		t.Fatalf("build the soak: %v\n%s", err, out)
	}
	length, seed := "1m", "0"
	if given := os.Getenv("HOSTMESH_TEST_SOAK"); given != "" {
		length = given
	}
	if given := os.Getenv("HOSTMESH_TEST_SOAK_SEED"); given != "" {
		seed = given
	}
	cmd := exec.CommandContext(t.Context(), path, "-hostmesh", binary(t), "-for", length, "-seed", seed)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it cleans up
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	for line := range strings.Lines(out.String()) {
		t.Log(strings.TrimRight(line, "\n"))
	}
}
