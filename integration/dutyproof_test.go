package integration

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDutiesProved holds mesh/lease, as real processes that are killed, frozen, cut off, replaced, filled up and set to a wrong
// time, to what it promises: never two holders, and records that are linearizable. The long run is by hand: make prove FOR=20m.
//
// It needs root, for network namespaces and for file systems that can be full. HOSTMESH_TEST_PROVE is another length than
// 40 s, such as 10m, and HOSTMESH_TEST_PROVE_SEED what a failed run printed as its seed.
func TestDutiesProved(t *testing.T) {
	t.Parallel()
	length, seed := "40s", "0"
	if given := os.Getenv("HOSTMESH_TEST_PROVE"); given != "" {
		length = given
	}
	if given := os.Getenv("HOSTMESH_TEST_PROVE_SEED"); given != "" {
		seed = given
	}
	out, err := prove(t, "-for", length, "-seed", seed)
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for line := range strings.Lines(out) {
		t.Log(strings.TrimRight(line, "\n"))
	}
}

// TestDutiesWithWrongTimes gives the processes times under which a holder goes on when the next one begins. The same checks must see it:
// a proof that nothing can fail is none.
func TestDutiesWithWrongTimes(t *testing.T) {
	t.Parallel()
	out, err := prove(t, "-for", "3m", "-seed", "1", "-wrong", "-faults", "cut-holder,freeze-holder")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out, "VIOLATION, seed 1: a former holder acted") {
		t.Fatalf("%v:\n%s", err, out)
	}
}

func prove(t *testing.T, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "dutyproof")
	if out, err := exec.Command("go", "build", "-tags", "libvirt_dlopen", "-o", path, "hostmesh/integration/dutyproof").CombinedOutput(); err != nil {
		t.Fatalf("build the proof: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"-dir", dir}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it cleans up
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err := cmd.Run()
	return out.String(), err
}
