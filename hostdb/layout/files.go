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

// readDir lists a directory, sorted by name.
func readDir(fsys fs.FS, name string) ([]fs.DirEntry, error) {
	at, info, err := resolve(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, errors.New("a directory is expected here")
	}
	return fs.ReadDir(fsys, at)
}

// readFile reads a regular file of at most limit bytes. Nothing else is opened: opening a pipe could block.
func readFile(fsys fs.FS, name string, limit int) ([]byte, error) {
	at, info, err := resolve(fsys, name)
	if err != nil {
		return nil, err
	}
	if err := checkFile(info, limit); err != nil {
		return nil, err
	}
	f, err := fsys.Open(at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
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
			text = append(text, 0)[:len(text)] // it grew since Lstat
		}
	}
}

// checkFile reports why a file cannot be a key, a member list or an access list.
func checkFile(info fs.FileInfo, limit int) error {
	switch {
	case info.IsDir():
		return errors.New("a directory stands where a file is expected; the directory to import is the one that holds hosts and tags")
	case !info.Mode().IsRegular():
		return fmt.Errorf("not a regular file (%s)", info.Mode().Type())
	case info.Size() > int64(limit):
		return tooLarge(info.Size(), limit)
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
