package layout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// tree is a directory in memory: an fs.FS of texts. It is filled by one goroutine, then read by any number.
type tree struct {
	root  *node
	nodes int // without the root
}

// node is a file or a directory, and its own fs.FileInfo and fs.DirEntry.
type node struct {
	name     string
	text     string           // of a file; may be shared with whoever gave it
	modified time.Time        // zero: unknown
	children map[string]*node // nil for a file
	sorted   []fs.DirEntry    // of children, once the tree is complete
}

func newTree() *tree { return &tree{root: &node{name: ".", children: map[string]*node{}}} }

var errClash = errors.New("stands twice, or as a file and as a directory")

// dir makes a directory and those above it.
func (t *tree) dir(name string) (*node, error) {
	at := t.root
	if name == "." {
		return at, nil
	}
	for step := range strings.SplitSeq(name, "/") {
		next := at.children[step]
		if next == nil {
			next = &node{name: step, children: map[string]*node{}}
			at.children[step] = next
			t.nodes++
		}
		if next.children == nil {
			return nil, fmt.Errorf("%q %w", name, errClash)
		}
		at = next
	}
	return at, nil
}

// add makes a file, and the directories above it.
func (t *tree) add(name, text string, modified time.Time) error {
	parent, err := t.dir(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if parent.children[base] != nil {
		return fmt.Errorf("%q %w", name, errClash)
	}
	parent.children[base] = &node{name: base, text: text, modified: modified}
	t.nodes++
	return nil
}

// seal sorts the directories. The tree is not changed any more.
func (t *tree) seal() fs.FS {
	var walk func(*node)
	walk = func(n *node) {
		for _, c := range n.children {
			n.sorted = append(n.sorted, c)
			walk(c)
		}
		slices.SortFunc(n.sorted, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	walk(t.root)
	return t
}

func (t *tree) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	at := t.root
	if name == "." {
		return at, nil
	}
	for step := range strings.SplitSeq(name, "/") {
		if at = at.children[step]; at == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return at, nil
}

// Open implements fs.FS.
func (t *tree) Open(name string) (fs.File, error) {
	n, err := t.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.IsDir() {
		return &openDir{n, n.sorted}, nil
	}
	return &openFile{n, strings.NewReader(n.text)}, nil
}

// Stat implements fs.StatFS.
func (t *tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (n *node) Name() string               { return n.name }
func (n *node) IsDir() bool                { return n.children != nil }
func (n *node) Size() int64                { return int64(len(n.text)) }
func (n *node) ModTime() time.Time         { return n.modified }
func (n *node) Sys() any                   { return nil }
func (n *node) Type() fs.FileMode          { return n.Mode().Type() }
func (n *node) Info() (fs.FileInfo, error) { return n, nil }
func (n *node) Mode() fs.FileMode {
	if n.IsDir() {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

type openFile struct {
	n *node
	*strings.Reader
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.n, nil }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	n    *node
	rest []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.n, nil }
func (d *openDir) Close() error               { return nil }
func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.n.name, Err: errors.New("is a directory")}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.rest)
	} else if len(d.rest) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.rest))
	out := slices.Clone(d.rest[:n])
	d.rest = d.rest[n:]
	return out, nil
}
