package node

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"hostmesh/hostdb"
	"hostmesh/hostdb/auth"
)

// identityOfPeer says who is behind a connection of the local socket. Root and the agent's own user are administrators;
// everybody else is the user of that name, in the groups that this box knows.
func identityOfPeer(cred *unix.Ucred) auth.Identity {
	id := auth.Identity{Via: "socket", User: fmt.Sprintf("uid:%d", cred.Uid)}
	u, err := user.LookupId(strconv.FormatUint(uint64(cred.Uid), 10))
	if err == nil {
		id.User = u.Username
	}
	switch {
	case cred.Uid == 0:
		id.Admin = true
		if name := sudoUser(cred.Pid); name != "" {
			id.User = "root(" + name + ")"
		}
	case int(cred.Uid) == os.Getuid():
		id.Admin = true
	case err == nil:
		gids, _ := u.GroupIds() // without groups there is less that is allowed
		for _, gid := range gids {
			if g, err := user.LookupGroupId(gid); err == nil {
				id.Groups = append(id.Groups, g.Name)
			}
		}
	}
	return id
}

// sudoUser is who became root to make a request, for history to show; "" when that is not known. Only root can write
// what root's process says here, so it names a person as well as sudo's own log does.
func sudoUser(pid int32) string {
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return ""
	}
	for pair := range bytes.SplitSeq(environ, []byte{0}) {
		if name, ok := bytes.CutPrefix(pair, []byte("SUDO_USER=")); ok && hostdb.CheckName(string(name)) == nil {
			return string(name)
		}
	}
	return ""
}

type peerKey struct{}

// peerContext remembers who is behind a connection of the local socket. Looking it up may ask a directory, so that is
// left to the first request: this is called by the goroutine that accepts.
func peerContext(ctx context.Context, c net.Conn) context.Context {
	cred, err := peerCred(c)
	if err != nil {
		return ctx // nobody, who may read what everybody may
	}
	return context.WithValue(ctx, peerKey{}, sync.OnceValue(func() auth.Identity { return identityOfPeer(cred) }))
}

// peerCred asks the kernel who connected (SO_PEERCRED of unix(7)).
func peerCred(c net.Conn) (cred *unix.Ucred, err error) {
	for {
		below, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = below.NetConn()
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("%T is no connection of a local socket", c)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil, err
	}
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return nil, cerr
	}
	return cred, err
}

// withPeer gives requests of the local socket the identity of their peer.
func withPeer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if who, ok := r.Context().Value(peerKey{}).(func() auth.Identity); ok {
			r = r.WithContext(auth.WithIdentity(r.Context(), who()))
		}
		next.ServeHTTP(w, r)
	})
}
