package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSession is far more than a token has, in bytes.
const maxSession = 16 << 10

// sessionFile is the path of a file that holds the token of a session, alone. Whoever has the token is the user, so the
// file is its owner's only, and one that is not is refused: somebody else may have read it, or put it there.
type sessionFile string

// read returns "" when there is no file.
func (f sessionFile) read() (token string, err error) {
	// A link may lead to a file of somebody else, and a pipe would never end.
	fd, err := unix.Open(string(f), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, unix.ELOOP):
		return "", f.refuse("is a symbolic link")
	case err != nil:
		return "", fmt.Errorf("open the session file %s: %w", f, err)
	}
	file := os.NewFile(uintptr(fd), string(f))
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", fmt.Errorf("look at the session file %s: %w", f, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "", f.refuse("is not a file")
	case int(st.Uid) != os.Geteuid():
		return "", f.refuse("belongs to another user")
	case st.Mode&0o077 != 0:
		return "", f.refuse(fmt.Sprintf("is open to others (mode %04o)", st.Mode&0o777))
	}
	text, err := io.ReadAll(io.LimitReader(file, maxSession+1))
	if err != nil {
		return "", fmt.Errorf("read the session file %s: %w", f, err)
	}
	token = strings.TrimSpace(string(text))
	if len(text) > maxSession || strings.ContainsFunc(token, notOfToken) {
		return "", f.refuse("does not hold the token of a session")
	}
	return token, nil
}

func (f sessionFile) refuse(why string) error {
	return fmt.Errorf("the session file %s %s: remove it, and log in again", f, why)
}

// notOfToken reports whether a token cannot have this character.
func notOfToken(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("._~-", r):
		return false
	}
	return true
}

// write makes the file at once whole, whatever stood in its place. It ends in no newline: Flipkart's client, which may
// share the file, takes all of it for the token.
func (f sessionFile) write(token string) error {
	dir := filepath.Dir(string(f))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep the session: %w", err)
	}
	tmp, err := os.CreateTemp(dir, ".session-*") // 0600
	if err != nil {
		return fmt.Errorf("keep the session: %w", err)
	}
	_, err = tmp.WriteString(token)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), string(f))
	}
	if err != nil {
		_ = os.Remove(tmp.Name()) // what is left of it is private
		return fmt.Errorf("keep the session in %s: %w", f, err)
	}
	return nil
}

// remove reports whether there was one.
func (f sessionFile) remove() (bool, error) {
	err := os.Remove(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove the session: %w", err)
	}
	return true, nil
}
