package mariadbtest

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// TestServer has a server live, be frozen, killed, and started again.
func TestServer(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{})
	if got := s.Global("read_only"); got != "ON" {
		t.Errorf("read_only is %s at the start", got)
	}
	s.Exec("CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
	pid := s.PID()
	if pid == 0 {
		t.Fatal("no process")
	}
	s.Kill()
	if s.Running() || s.PID() != 0 {
		t.Error("it runs after it was killed")
	}
	s.Restart("--read-only=0")
	if got := s.Text("SELECT i FROM d.t"); got != "1" || s.Global("read_only") != "OFF" {
		t.Errorf("after a crash the row is %q, read_only %s", got, s.Global("read_only"))
	}
	s.Stop()
}

// TestBoxes has two servers in namespaces, one of which follows the other over a link.
func TestBoxes(t *testing.T) {
	if !InNamespaces(t) {
		return
	}
	b := NewBoxes(t, 2)
	one, two := b.Start(1, Options{Writable: true}), b.Start(2, Options{})
	one.Exec("CREATE DATABASE d")
	two.Exec("CHANGE MASTER TO MASTER_HOST='"+one.Addr+"', MASTER_PORT=3306, MASTER_USER='hostmesh_repl', MASTER_PASSWORD='replica''s', MASTER_USE_GTID=slave_pos",
		"START SLAVE")
	two.Await("d", "SHOW DATABASES LIKE 'd'")
	b.Down(1)
	b.Up(1)
	one.Exec("CREATE DATABASE e")
	two.Await("e", "SHOW DATABASES LIKE 'e'")
}
