package layout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// maxLinks bounds the symbolic links on the way to one file.
const maxLinks = 32

var (
	errOutside = errors.New("a symbolic link leads outside the directory; it is not followed: put a copy in its place")
	errLinks   = errors.New("symbolic links lead in a circle")
)

// resolve follows the symbolic links on the way to name, as long as they stay within fsys, whatever fsys itself
// would do: os.DirFS follows them anywhere.
func resolve(fsys fs.FS, name string) (string, fs.FileInfo, error) {
	at, rest := ".", strings.Split(name, "/")
	links := 0
	info, err := fs.Lstat(fsys, ".")
	for len(rest) > 0 && err == nil {
		step := rest[0]
		rest = rest[1:]
		switch step {
		case "", ".":
			continue
		case "..":
			if at == "." {
				return "", nil, errOutside
			}
			at = path.Dir(at)
			info, err = fs.Lstat(fsys, at)
			continue
		}
		next := path.Join(at, step)
		if info, err = fs.Lstat(fsys, next); err != nil {
			break
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", nil, errLinks
		}
		target, err := fs.ReadLink(fsys, next)
		if err != nil {
			return "", nil, err
		}
		if path.IsAbs(target) {
			return "", nil, errOutside
		}
		rest = append(strings.Split(target, "/"), rest...)
		if info, err = fs.Lstat(fsys, at); err != nil {
			return "", nil, err
		}
	}
	if err != nil {
		return "", nil, err
	}
	return at, info, nil
}

// listed is an entry of a directory, found by readDir.
type listed struct {
	fs.DirEntry
	at string // its path in fsys, without symbolic links above it
}

// readDir lists a directory, sorted by name.
func readDir(fsys fs.FS, name string) ([]listed, error) {
	at, info, err := resolve(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, errors.New("a directory is expected here")
	}
	entries, err := fs.ReadDir(fsys, at)
	if err != nil {
		return nil, err
	}
	out := make([]listed, len(entries))
	for i, e := range entries {
		out[i] = listed{e, path.Join(at, e.Name())}
	}
	return out, nil
}

// leadsToDir reports whether e is a directory, or a symbolic link to one.
func leadsToDir(fsys fs.FS, e listed) (bool, error) {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir(), nil
	}
	_, info, err := resolve(fsys, e.at)
	return err == nil && info.IsDir(), err
}

// readFile reads the regular file of at most limit bytes that e is, or leads to. Nothing else is opened: opening a pipe
// could block. What the directory said of e is believed, since asking again for each costs as much as reading it.
func readFile(fsys fs.FS, e listed, limit int) ([]byte, error) {
	at := e.at
	if e.Type()&fs.ModeSymlink != 0 {
		to, info, err := resolve(fsys, at)
		if err != nil {
			return nil, err
		}
		if err := checkType(info.Mode()); err != nil {
			return nil, err
		}
		at = to
	} else if err := checkType(e.Type()); err != nil {
		return nil, err
	}
	f, err := fsys.Open(at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkType(info.Mode()); err != nil { // it has been replaced since it was listed
		return nil, err
	}
	if info.Size() > int64(limit) {
		return nil, tooLarge(info.Size(), limit)
	}
	text := make([]byte, 0, info.Size()+1)
	for {
		n, err := f.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		if len(text) > limit {
			return nil, tooLarge(int64(len(text)), limit)
		}
		if errors.Is(err, io.EOF) {
			return text, nil
		}
		if err != nil {
			return nil, err
		}
		if len(text) == cap(text) {
			text = append(text, 0)[:len(text)] // it grew since Stat
		}
	}
}

// checkType reports why a file of that type cannot be a key, a member list or an access list.
func checkType(mode fs.FileMode) error {
	switch {
	case mode.IsDir():
		return errors.New("a directory stands where a file is expected; the directory to import is the one that holds hosts and tags")
	case !mode.IsRegular():
		return fmt.Errorf("not a regular file (%s)", mode.Type())
	}
	return nil
}

func tooLarge(size int64, limit int) error {
	return fmt.Errorf("a file of %d bytes: at most %d are allowed", size, limit)
}

// reason is err without the file name that the problem names already.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "cannot be read: permission denied"
	case errors.Is(err, fs.ErrInvalid):
		return "the name is not UTF-8"
	case errors.Is(err, fs.ErrNotExist):
		return "a symbolic link leads to nothing"
	}
	return err.Error()
}
