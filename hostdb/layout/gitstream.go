package layout

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"

	"hostmesh/hostdb"
)

// ErrBadGitStream is wrapped by GitReader when a stream is not what GitRepo.Send writes, or ends early.
var ErrBadGitStream = errors.New("bad stream of commits")

// GitStart begins a stream of commits.
type GitStart struct {
	ID    string `cbor:"1,keyasint"` // of the branch: GitBranch.ID
	After string `cbor:"2,keyasint"` // commit whose state HostDB has; "" for none
	Head  string `cbor:"3,keyasint"` // the last commit of the stream
	Total int    `cbor:"4,keyasint"` // commits in the stream
	// Marker is what HostDB had noted of this history when the sender asked: an import meanwhile is then seen.
	Marker string `cbor:"5,keyasint"`
	// Waiting are the member lists that name what was not there, as they stand at After.
	Waiting []GitKey `cbor:"6,keyasint"`
}

// GitCommit is one commit with what it changes.
type GitCommit struct {
	ID      string `cbor:"1,keyasint"`
	Author  string `cbor:"2,keyasint"`
	Email   string `cbor:"3,keyasint"`
	Seconds int64  `cbor:"4,keyasint"` // when it was written, unix
	Zone    int    `cbor:"5,keyasint"` // minutes east of UTC
	Log     string `cbor:"6,keyasint"` // without newlines at its end
	// Merge says that the commit has several parents: what it changes is told against the first.
	Merge bool `cbor:"7,keyasint"`
	// Problems are those of paths, which make no key.
	Problems []Problem `cbor:"8,keyasint"`
	Keys     []GitKey  `cbor:"-"`
	Count    int       `cbor:"9,keyasint"` // of Keys, which follow
}

// GitKey is what a commit does to the files of one key.
type GitKey struct {
	NS   string `cbor:"1,keyasint"`
	Key  string `cbor:"2,keyasint"`
	From string `cbor:"3,keyasint"` // the key's name before the commit, when it was renamed
	// Of a key whose data the commit touches, all files are told, changed or not: it may be readable only now.
	Data    GitFile `cbor:"4,keyasint"`
	Members GitFile `cbor:"5,keyasint"`
	Perms   GitFile `cbor:"6,keyasint"`
}

// check refuses names that are none, .system above all: no repository has a say there.
func (k *GitKey) check() error {
	names := []string{k.NS, k.Key}
	if k.From != "" {
		names = append(names, k.From)
	}
	for i, name := range names {
		if err := hostdb.CheckName(name); err != nil && (i != 1 || name != hostdb.DefaultKey) {
			return fmt.Errorf("%w: %w", ErrBadGitStream, err)
		}
	}
	if k.Key == hostdb.DefaultKey && (k.From != "" || k.Data.told() || k.Members.told()) {
		return fmt.Errorf("%w: %s/%s has an access list alone", ErrBadGitStream, k.NS, k.Key)
	}
	return nil
}

// GitFile is a file before and after a commit.
type GitFile struct {
	Changed bool    `cbor:"1,keyasint"`
	Old     GitBlob `cbor:"2,keyasint"`
	New     GitBlob `cbor:"3,keyasint"`
}

func (f GitFile) told() bool { return f.Changed || f.Old.There || f.New.There }

// GitBlob is one version of a file.
type GitBlob struct {
	There bool   `cbor:"1,keyasint"`
	Text  []byte `cbor:"2,keyasint"`
	Bad   string `cbor:"3,keyasint"` // why it is no file that can be read; Text is empty
}

// maxFrame bounds one item of the stream: two versions of a longest member list, and what stands beside it.
const maxFrame = 2*maxMembersFile + 8<<20

// maxCommit bounds what one commit brings: it becomes one operation, which is held in memory.
const maxCommit = 512 << 20

// gitWriter writes a stream of commits: GitStart, each GitCommit followed by its keys, and an empty item.
type gitWriter struct{ w *bufio.Writer }

func (w gitWriter) item(x any) error {
	b, err := cbor.Marshal(x)
	if err != nil {
		return err
	}
	if len(b) > maxFrame {
		return fmt.Errorf("%d bytes of one key in one commit: at most %d are allowed", len(b), maxFrame)
	}
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(b)))
	if _, err := w.w.Write(head[:]); err != nil {
		return err
	}
	_, err = w.w.Write(b)
	return err
}

func (w gitWriter) commit(c GitCommit) error {
	c.Count = len(c.Keys)
	if err := w.item(c); err != nil {
		return err
	}
	for i := range c.Keys {
		if err := w.item(c.Keys[i]); err != nil {
			return fmt.Errorf("commit %s: %w", c.ID, err)
		}
	}
	return nil
}

func (w gitWriter) end() error {
	if _, err := w.w.Write(make([]byte, 4)); err != nil {
		return err
	}
	return w.w.Flush()
}

// GitReader reads a stream of commits.
type GitReader struct {
	Start GitStart
	r     io.Reader
	done  bool
}

var gitDecoder = func() cbor.DecMode {
	mode, err := cbor.DecOptions{MaxNestedLevels: 8, MaxArrayElements: 1 << 20, MaxMapPairs: 32, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// NewGitReader reads the beginning of a stream. It does not read ahead of what it is asked for, but for r's sake r
// should be buffered.
func NewGitReader(r io.Reader) (*GitReader, error) {
	g := &GitReader{r: r}
	if err := g.item(&g.Start); err != nil {
		return nil, err
	}
	for i := range g.Start.Waiting {
		if err := g.Start.Waiting[i].check(); err != nil {
			return nil, err
		}
	}
	if g.Start.ID == "" || g.Start.Head == "" || g.Start.Total < 0 {
		return nil, fmt.Errorf("%w: it does not say of which history", ErrBadGitStream)
	}
	return g, nil
}

// errStreamEnd is the item that ends a stream.
var errStreamEnd = errors.New("end of the stream")

func (g *GitReader) item(into any) error {
	var head [4]byte
	if _, err := io.ReadFull(g.r, head[:]); err != nil {
		return g.broken(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 {
		return errStreamEnd
	}
	if n > maxFrame {
		return fmt.Errorf("%w: an item of %d bytes", ErrBadGitStream, n)
	}
	// What was promised is not believed before it comes.
	b, err := io.ReadAll(io.LimitReader(g.r, int64(n)))
	if err == nil && len(b) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return g.broken(err)
	}
	if err := gitDecoder.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w: %w", ErrBadGitStream, err)
	}
	return nil
}

func (g *GitReader) broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends before its end: the sender gave up", ErrBadGitStream)
	}
	return fmt.Errorf("%w: %w", ErrBadGitStream, err)
}

// Next is the next commit, io.EOF after the last.
func (g *GitReader) Next() (GitCommit, error) {
	if g.done {
		return GitCommit{}, io.EOF
	}
	var c GitCommit
	if err := g.item(&c); errors.Is(err, errStreamEnd) {
		g.done = true
		return GitCommit{}, io.EOF
	} else if err != nil {
		return GitCommit{}, err
	}
	if c.ID == "" || c.Count < 0 {
		return GitCommit{}, fmt.Errorf("%w: a commit without an id", ErrBadGitStream)
	}
	size := 0
	for range c.Count {
		var k GitKey
		if err := g.item(&k); errors.Is(err, errStreamEnd) {
			return GitCommit{}, fmt.Errorf("%w: commit %s is not whole", ErrBadGitStream, c.ID)
		} else if err != nil {
			return GitCommit{}, err
		}
		if err := k.check(); err != nil {
			return GitCommit{}, fmt.Errorf("%w in commit %s", err, c.ID)
		}
		for _, f := range []GitFile{k.Data, k.Members, k.Perms} {
			size += 256 + len(f.Old.Text) + len(f.New.Text)
		}
		if size > maxCommit {
			return GitCommit{}, fmt.Errorf("%w: commit %s changes more than %d bytes", ErrBadGitStream, c.ID, maxCommit)
		}
		c.Keys = append(c.Keys, k)
	}
	return c, nil
}
