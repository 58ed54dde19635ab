package mesh_test

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"hostmesh/mesh"
	"hostmesh/mesh/meshtest"
)

// victimEnv makes the test binary a node to be killed: its value is the addresses of itself and of whom it joins.
const victimEnv = "HOSTMESH_MESH_TEST_VICTIM"

func TestMain(m *testing.M) {
	if v := os.Getenv(victimEnv); v != "" {
		if err := victim(v); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func victim(addrs string) error {
	var self, join string
	if _, err := fmt.Sscan(addrs, &self, &join); err != nil {
		return err
	}
	cfg := meshtest.New(1).Config(2)
	cfg.Network, cfg.Addr, cfg.Join = nil, netip.MustParseAddr(self), []string{join}
	m, err := mesh.Open(cfg)
	if err != nil {
		return err
	}
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // ends with the test, however that ends
		m.Close()
	}()
	return m.Run(context.Background())
}

// A process that is killed is seen by the others of three, on real sockets and real time.
func TestKill9(t *testing.T) {
	config := loopback(t)
	nodes := make([]*mesh.Mesh, 2)
	for i := range nodes {
		cfg := config(i)
		cfg.Join = []string{config(0).Addr.String()}
		nodes[i] = meshtest.Run(t, cfg)
	}
	meshtest.WaitAlive(t, nodes...)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s", victimEnv, config(2).Addr, config(0).Addr))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, m := range nodes {
		meshtest.WaitState(t, m, meshtest.ID(2), mesh.StateAlive)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_ = cmd.Wait()
	for i, m := range nodes {
		meshtest.WaitState(t, m, meshtest.ID(2), mesh.StateFailed)
		t.Logf("seen by node %d after %v", i, time.Since(start))
	}
}
