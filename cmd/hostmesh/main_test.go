package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hostmesh": main, hostdbName: main})
}

// patience is how long a test waits for something that happens at once on an idle box.
const patience = 30 * time.Second

// loopback gives each agent of the tests an address of its own, so that the default ports are free there.
var loopback = func() func() string {
	var last atomic.Uint32
	net := 64 + rand.IntN(128)
	host := rand.IntN(256)
	return func() string { return fmt.Sprintf("127.%d.%d.%d", net, host, 1+last.Add(1)) }
}()

// golden compares got with testdata/name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got), -update rewrites it:\n%s", name, diff)
	}
}

func inventory(t testing.TB) string {
	dir, err := filepath.Abs("../../examples/inventory")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("ADDR", loopback())
			env.Setenv("INVENTORY", inventory(t))
			env.Setenv("HOSTMESH_SOCKET", filepath.Join(env.WorkDir, "d", socketName))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "eventually": eventually},
	})
}

// exits CODE COMMAND...: the command ends with that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// eventually COMMAND...: the command succeeds, if not now then soon.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: eventually COMMAND...")
	}
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%v: %v", args, err)
		}
	}
}

// everyCommand calls f for each command of the program but those that cobra brings.
func everyCommand(f func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		f(cmd)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).rootCommand())
}

// TestHelp fixes what people read, and that every command has all of it.
func TestHelp(t *testing.T) {
	var all bytes.Buffer
	everyCommand(func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		if cmd.Short == "" || cmd.Long == "" {
			t.Errorf("%s: help is missing", path)
		}
		if !cmd.HasSubCommands() && !strings.Contains(cmd.Example, path) {
			t.Errorf("%s: its help has no example of it", path)
		}
		for line := range strings.SplitSeq(cmd.Long, "\n") {
			if len(line) > 80 && strings.Contains(cmd.Long, "\n") {
				t.Errorf("%s: a line of its help is longer than a terminal is wide: %s", path, line)
			}
		}
		var out, stderr bytes.Buffer
		args := append(strings.Fields(path)[1:], "--help")
		if code := run(t.Context(), args, nil, strings.NewReader(""), &out, &stderr); code != exitDone || stderr.Len() > 0 {
			t.Errorf("%s --help: exit code %d: %s", path, code, &stderr)
		}
		fmt.Fprintf(&all, "$ %s --help\n%s\n", path, &out)
	})
	golden(t, "help.txt", all.Bytes())
}
