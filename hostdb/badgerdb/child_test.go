package badgerdb

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// smallMemTable makes tests see rotations, flushes and compactions with little data. Its batch limit is 128 KiB, and
// values over 32 KiB are stored in parts.
const smallMemTable = 1 << 20

// Some tests need a process to kill, or one that may die. They run the test binary again with these set.
const (
	childTask = "BADGERDB_TEST_CHILD"
	childDir  = "BADGERDB_TEST_DIR"
)

func TestMain(m *testing.M) {
	tasks := map[string]func(dir string) error{
		"memory": memoryChild,
		"use":    useChild,
		"commit": commitChild,
		"store":  storeChild,
	}
	if task := tasks[os.Getenv(childTask)]; task != nil {
		if err := task(os.Getenv(childDir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func childCommand(tb testing.TB, task, dir string) *exec.Cmd {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childTask+"="+task, childDir+"="+dir)
	return cmd
}
