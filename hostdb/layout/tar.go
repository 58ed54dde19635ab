package layout

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"hostmesh/hostdb"
)

// ErrBadTar is wrapped by ReadTar when a stream is not a tar of plain files and directories within the limits.
var ErrBadTar = errors.New("bad tar stream")

// Limits bound what ReadTar takes.
type Limits struct {
	Entries int   // files and directories
	File    int64 // bytes of one file
	Total   int64 // bytes of all files and their names
}

// DefaultLimits are enough for 100,000 hosts, with room.
func DefaultLimits() Limits {
	return Limits{
		Entries: 500_000,        // a key has up to three files
		File:    maxMembersFile, // the largest there is
		Total:   512 << 20,      // all of it is held in memory while it is imported
	}
}

// Bounds of a name. Those of the layout have at most three parts.
const (
	maxTarDepth = 8
	maxTarName  = maxTarDepth * (hostdb.MaxName + 1)
)

// ReadTar unpacks a stream into memory. It takes regular files and directories with relative names that stay within
// the root, each once; what begins with a dot in the root is dropped. A stream that ends early is refused, so that
// part of a directory is never taken for the whole. r is read no further than the end of the archive.
func ReadTar(r io.Reader, limits Limits) (fs.FS, error) {
	end := &tail{r: r}
	tr := tar.NewReader(end)
	t := newTree()
	entries, left := 0, limits.Total
	buf := make([]byte, 32<<10)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			if !end.complete() {
				return nil, badTar("it ends before the end of the archive: the sender gave up")
			}
			return t.seal(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadTar, err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader { // git archive begins with one
			continue
		}
		if entries++; max(entries, t.nodes) > limits.Entries { // directories need no entry of their own
			return nil, badTar("more than %d entries", limits.Entries)
		}
		name, err := tarName(h.Name)
		if err != nil {
			return nil, err
		}
		if left -= int64(len(name)) + max(h.Size, 0); left < 0 {
			return nil, badTar("more than %d bytes in all", limits.Total)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			if skipped(name) {
				continue
			}
			if _, err := t.dir(name); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrBadTar, err)
			}
		case tar.TypeReg:
			if h.Size > limits.File {
				return nil, badTar("%q has %d bytes: at most %d are allowed", name, h.Size, limits.File)
			}
			if skipped(name) {
				continue
			}
			if name == "." {
				return nil, badTar("the root is a file")
			}
			var text strings.Builder
			text.Grow(int(min(h.Size, 64<<10)))
			if _, err := io.CopyBuffer(&text, io.LimitReader(tr, h.Size), buf); err != nil {
				return nil, fmt.Errorf("%w: %q: %w", ErrBadTar, name, err)
			}
			if err := t.add(name, text.String(), h.ModTime); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrBadTar, err)
			}
		default:
			return nil, badTar("%q is neither a file nor a directory", name)
		}
	}
}

func badTar(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadTar, fmt.Sprintf(format, args...))
}

// tarName is the name of an entry as fs.FS has it. Archives made with "tar -c ." have "./" before each.
func tarName(raw string) (string, error) {
	if len(raw) > maxTarName {
		return "", badTar("a name of %d bytes: at most %d are allowed", len(raw), maxTarName)
	}
	name := strings.TrimSuffix(strings.TrimPrefix(raw, "./"), "/")
	if name == "" && (raw == "./" || raw == ".") {
		name = "."
	}
	if strings.Count(name, "/") >= maxTarDepth {
		return "", badTar("%q is nested deeper than %d directories", name, maxTarDepth)
	}
	if !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return "", badTar("the name %q is not allowed: names are relative, in UTF-8, without . and ..", raw)
	}
	return name, nil
}

// skipped reports whether name is no part of the layout, as .git is not.
func skipped(name string) bool { return len(name) > 1 && name[0] == '.' }

// tail passes a stream on and remembers how many NULs it ended with: an archive ends with two blocks of them.
type tail struct {
	r    io.Reader
	nuls int
}

const tarEnd = 1024

func (t *tail) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	i := n
	for i > 0 && p[i-1] == 0 && n-i < tarEnd {
		i--
	}
	if i == 0 {
		t.nuls += n
	} else {
		t.nuls = n - i
	}
	return n, err
}

func (t *tail) complete() bool { return t.nuls >= tarEnd }

// WriteTar packs a directory for ReadTar: namespaces with their keys, .members and .perms, and nothing else that may
// lie about. Symbolic links that stay inside are packed as what they lead to. What cannot be packed is a problem: with
// keepGoing it is left out and returned, otherwise all of it makes a *BadInventoryError, and the archive is left
// without its end, which ReadTar refuses. What is in the files is not looked at.
func WriteTar(w io.Writer, fsys fs.FS, keepGoing bool) (Problems, error) {
	buffered := bufio.NewWriterSize(w, packBuffer)
	p := packer{tw: tar.NewWriter(buffered), fsys: fsys}
	root, err := readDir(fsys, ".")
	if err != nil {
		return Problems{}, fmt.Errorf("pack inventory: %w", err)
	}
	for _, e := range root {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := p.namespace(e); err != nil {
			return p.problems, fmt.Errorf("pack inventory: %w", err)
		}
	}
	p.problems.sort()
	if !keepGoing {
		if err := p.problems.err(); err != nil {
			return p.problems, err
		}
	}
	if err := p.tw.Close(); err != nil {
		return p.problems, fmt.Errorf("pack inventory: %w", err)
	}
	if err := buffered.Flush(); err != nil {
		return p.problems, fmt.Errorf("pack inventory: %w", err)
	}
	return p.problems, nil
}

// packBuffer is how much WriteTar writes at once: files are small, and each write may be one to a socket.
const packBuffer = 256 << 10

type packer struct {
	tw       *tar.Writer
	fsys     fs.FS
	problems Problems
}

// namespace packs an entry of the root if it is a directory.
func (p *packer) namespace(e listed) error {
	isDir, err := leadsToDir(p.fsys, e)
	if err != nil {
		p.problems.fatal(e.Name(), 0, "%s", reason(err))
		return nil
	}
	if !isDir {
		return nil
	}
	return p.dir(e.Name(), hostdb.MaxData)
}

// dir packs a directory with its files. Errors are those of the stream; those of files are problems.
func (p *packer) dir(name string, limit int) error {
	entries, err := readDir(p.fsys, name)
	if err != nil {
		p.problems.fatal(name, 0, "%s", reason(err))
		return nil
	}
	if err := p.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}); err != nil {
		return err
	}
	inNamespace := !strings.Contains(name, "/")
	for _, e := range entries {
		file := path.Join(name, e.Name())
		switch {
		case inNamespace && e.Name() == membersDir:
			err = p.dir(file, maxMembersFile)
		case inNamespace && e.Name() == permsDir:
			err = p.dir(file, hostdb.MaxData)
		case strings.HasPrefix(e.Name(), ".") && (path.Base(name) != permsDir || e.Name() != hostdb.DefaultKey):
		default:
			err = p.file(file, e, limit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) file(name string, e listed, limit int) error {
	text, err := readFile(p.fsys, e, limit)
	if err != nil {
		p.problems.fatal(name, 0, "%s", reason(err))
		return nil
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}
	if err := p.tw.WriteHeader(h); err != nil {
		return err
	}
	_, err = p.tw.Write(text)
	return err
}
