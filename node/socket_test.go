package node

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hostmesh/hostdb/auth"
)

// sleeper is a process that does nothing, with one more variable in its environment.
func sleeper(t *testing.T, variable string) int32 {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	cmd.Env = append(os.Environ(), variable)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return int32(cmd.Process.Pid)
}

func TestIdentityOfPeer(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := user.LookupId("65534")
	if err != nil {
		t.Fatal(err)
	}
	const unknown = 2_000_000_001
	for _, c := range []struct {
		name string
		cred unix.Ucred
		want auth.Identity
	}{
		{"root", unix.Ucred{Uid: 0, Pid: sleeper(t, "X=1")}, auth.Identity{User: "root", Admin: true}},
		{"root by sudo", unix.Ucred{Uid: 0, Pid: sleeper(t, "SUDO_USER=alice")}, auth.Identity{User: "root(alice)", Admin: true}},
		{"a name that is none", unix.Ucred{Uid: 0, Pid: sleeper(t, "SUDO_USER=a\nb")}, auth.Identity{User: "root", Admin: true}},
		{"a process that is gone", unix.Ucred{Uid: 0, Pid: 1 << 30}, auth.Identity{User: "root", Admin: true}},
		{"the agent's own user", unix.Ucred{Uid: uint32(os.Getuid()), Pid: sleeper(t, "X=1")}, auth.Identity{User: me.Username, Admin: true}},
		{"somebody", unix.Ucred{Uid: 65534, Pid: sleeper(t, "SUDO_USER=alice")}, auth.Identity{User: nobody.Username}},
		{"somebody without a name", unix.Ucred{Uid: unknown}, auth.Identity{User: "uid:" + strconv.Itoa(unknown)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := identityOfPeer(&c.cred)
			if got.User != c.want.User || got.Admin != c.want.Admin || got.Via != "socket" {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	if g, err := user.LookupGroupId(nobody.Gid); err == nil && !slices.Contains(identityOfPeer(&unix.Ucred{Uid: 65534}).Groups, g.Name) {
		t.Errorf("nobody is not in %s", g.Name)
	}
}

func TestPeerContext(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	ln, err := listenSocket(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	who, ok := peerContext(context.Background(), server).Value(peerKey{}).(func() auth.Identity)
	if !ok {
		t.Fatal("nobody is known behind the socket")
	}
	if id := who(); !id.Admin || id.User == "" {
		t.Errorf("got %+v, want ourselves", id)
	}
	pipe, _ := net.Pipe()
	defer pipe.Close()
	if peerContext(context.Background(), pipe).Value(peerKey{}) != nil {
		t.Error("somebody is known behind a connection that is no socket")
	}
}

func TestListenSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	first, err := listenSocket(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	first.Listener.(*net.UnixListener).SetUnlinkOnClose(false)
	first.Close() // as after kill -9, the file stays
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	second, err := listenSocket(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("a dead agent's socket is in the way: %v", err)
	}
	second.Close()
	if _, err := listenSocket(filepath.Join(shortDir(t), strings.Repeat("x", 120)), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "data_dir") {
		t.Errorf("a path that is too long: %v", err)
	}
}
