// Package credentials owns the files of credentials.d: by which accounts the agents speak to the servers of a cluster, how those prove who they
// are, and, on a box that has a server of the cluster, how that one is run. The files lie on boxes and nowhere else.
//
// It leaves to others what the accounts may do (mariadb.Grants) and who runs the server (lbd/mysqlha/local).
package credentials

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// File is what one file says. It is not changed after it was read.
type File struct {
	// Admin is the account of the agents, Replication that of replicas at their source, Backup that of clones: Admin, where the file names none.
	Admin, Replication, Backup Account
	// TLS is how servers prove who they are; nil = nothing is encrypted, which Check tells people.
	TLS *TLS
	// Server is the server of the cluster on this box; nil = there is none.
	Server *Server
}

// Account is a user of a server.
type Account struct {
	User     string
	Password Secret
}

// Server is how a server is run.
type Server struct {
	Port uint16 // default 3306
	// Socket is its UNIX socket; "" = none is used. Datadir and PIDFile are needed. Log is its error log; "" = unknown.
	Socket, Datadir, PIDFile, Log string
	// Start is the program and its arguments; how it is to start (its role, read-only, following nobody) is appended.
	Start []string
	// User is whom it runs as: default mysql.
	User string
}

// Errors of Load.
var (
	// ErrNone is returned when there is no such file.
	ErrNone = errors.New("no credentials of that name here")
	// ErrReadable is returned for a file that others than its owner may read or write, or that belongs to somebody else.
	ErrReadable = errors.New("credentials are not safe from others")
	// ErrBad is returned for a file that does not say what it must.
	ErrBad = errors.New("credentials cannot be understood")
)

// maxSize is of a file: the largest sensible one has some hundred bytes.
const maxSize = 64 << 10

// Path is where the credentials of a name lie. The name comes from HostDB, so it must not lead out of dir: ErrBad.
func Path(dir, name string) (string, error) {
	if name == "" || strings.ContainsAny(name, "/\\\x00") || strings.HasPrefix(name, ".") || len(name) > 200 {
		return "", fmt.Errorf("%w: %q names no file: give MySQL.Credentials the name of a file in %s, without .yaml", ErrBad, name, dir)
	}
	return filepath.Join(dir, name+".yaml"), nil
}

// Load reads the credentials of a name: ErrNone, ErrReadable, ErrBad. Errors name the file and the line, and quote no secret.
func Load(dir, name string) (File, error) {
	path, err := Path(dir, name)
	if err != nil {
		return File{}, err
	}
	text, err := read(path)
	if err != nil {
		return File{}, err
	}
	f, err := Parse(text)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func read(path string) (text []byte, err error) {
	// A pipe of that name must not have us wait for a writer.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w: %s does not exist: put the accounts of the cluster there, mode 0600", ErrNone, path)
	case err != nil:
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	// What is asked is what was opened: the name could be another file by then.
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no regular file", ErrBad, path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, so that others may read or change it: chmod 0600 %s, and change the passwords in it", ErrReadable, path, mode, path)
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%w: %s belongs to user %d: chown root %s", ErrReadable, path, sys.Uid, path)
	}
	text, err = io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read credentials %s: %w", path, err)
	}
	if len(text) > maxSize {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrBad, path, maxSize)
	}
	return text, nil
}
