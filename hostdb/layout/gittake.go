package layout

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrNotExport is wrapped when a branch holds commits that no export wrote: it would have to be overwritten.
var ErrNotExport = errors.New("branch was not written by an export")

// GitExport is an export into one branch of a repository, from its beginning to Close.
type GitExport struct {
	// After is where it goes on, for WriteGit; "" for the beginning.
	After string
	// Gate is asked right before the branch is moved; its error is why it must not be. nil = it may be.
	Gate func() error

	repo        *GitRepo
	branch      string // refs/heads/...
	head, notes string // commit ids; "" for none
	lock        *os.File
}

// BeginExport prepares to continue, or to create, a branch of exported revisions. Only one export of a repository runs
// at a time. The caller closes it.
func (r *GitRepo) BeginExport(ctx context.Context, branch string) (_ *GitExport, err error) {
	if _, err := gitOutput(ctx, r.Dir, nil, "check-ref-format", "refs/heads/"+branch); err != nil || strings.HasPrefix(branch, "-") {
		return nil, fmt.Errorf("%w: %q cannot be the name of a branch", ErrNoCommit, branch)
	}
	x := &GitExport{repo: r, branch: "refs/heads/" + branch}
	if x.lock, err = os.OpenFile(filepath.Join(r.Dir, "hostmesh.lock"), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrBadRepository, err)
	}
	defer func() {
		if err != nil {
			x.lock.Close()
		}
	}()
	if err := syscall.Flock(int(x.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%w: %s: another export into it runs", ErrBadRepository, r.Dir)
	}
	if x.head, err = r.ref(ctx, x.branch); err != nil {
		return nil, err
	}
	if x.notes, err = r.ref(ctx, notesRef); err != nil {
		return nil, err
	}
	if x.head != "" {
		if x.After, err = x.state(ctx); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// ref is the commit that a ref names, "" when there is none.
func (r *GitRepo) ref(ctx context.Context, name string) (string, error) {
	out, err := r.run(ctx, nil, "for-each-ref", "--format=%(objectname)", name)
	return strings.TrimSpace(out), err
}

// state reads where the export goes on from the note on the branch's newest commit.
func (x *GitExport) state(ctx context.Context) (string, error) {
	note, err := gitOutput(ctx, x.repo.Dir, nil, "notes", "--ref="+notesRef, "show", x.head)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	for line := range strings.Lines(note) {
		if state, ok := strings.CutPrefix(line, noteState); ok && err == nil {
			return strings.TrimSpace(state), nil
		}
	}
	return "", fmt.Errorf("%w: %s of %s is at commit %s, of which %s says nothing: somebody has committed there, or it is another history. "+
		"Export into another branch (--branch) or repository", ErrNotExport, x.branch, x.repo.Dir, x.head, notesRef)
}

// Take has git read what WriteGit writes, and then moves the branch and the notes, both or none. A stream that ends
// early leaves both as they were. It returns how many commits came. progress is called with revisions done and of all,
// by one goroutine; nil for none.
func (x *GitExport) Take(ctx context.Context, stream io.Reader, progress func(done, total int)) (commits int, err error) {
	if err := x.prepare(ctx); err != nil {
		return 0, err
	}
	if err := x.fastImport(ctx, stream, progress); err != nil {
		return 0, err
	}
	head, err := x.repo.ref(ctx, exportRef)
	if err != nil {
		return 0, err
	}
	notes, err := x.repo.ref(ctx, exportNotesRef)
	if err != nil || head == x.head {
		return 0, err
	}
	if commits, err = x.repo.Count(ctx, x.head, head); err != nil {
		return 0, err
	}
	var script strings.Builder
	fmt.Fprintf(&script, "start\nupdate %s %s %s\nupdate %s %s %s\n", x.branch, head, orZero(x.head, head), notesRef, notes, orZero(x.notes, head))
	fmt.Fprintf(&script, "delete %s\ndelete %s\nprepare\ncommit\n", exportRef, exportNotesRef)
	if x.Gate != nil {
		if err := x.Gate(); err != nil {
			return 0, fmt.Errorf("move %s: %w", x.branch, err)
		}
	}
	// Git compares what the refs were with what they were at the beginning: of two who export, one fails.
	if _, err := x.repo.run(ctx, strings.NewReader(script.String()), "update-ref", "--stdin"); err != nil {
		return 0, fmt.Errorf("move %s: %w", x.branch, err)
	}
	x.head, x.notes = head, notes
	return commits, nil
}

// orZero is a commit id, or the one that says that a ref is not there.
func orZero(id, like string) string {
	if id == "" {
		return strings.Repeat("0", len(like))
	}
	return id
}

// prepare sets the refs that the stream goes on to what the branch and the notes are.
func (x *GitExport) prepare(ctx context.Context) error {
	var script strings.Builder
	base := x.notes
	if base == "" { // the notes go on something in any case
		tree, err := x.repo.run(ctx, strings.NewReader(""), "hash-object", "-t", "tree", "-w", "--stdin")
		if err != nil {
			return err
		}
		if base, err = x.repo.run(ctx, nil, "commit-tree", "-m", "no revisions yet", strings.TrimSpace(tree)); err != nil {
			return err
		}
	}
	fmt.Fprintf(&script, "update %s %s\n", exportNotesRef, strings.TrimSpace(base))
	was, err := x.repo.ref(ctx, exportRef)
	switch {
	case err != nil:
		return err
	case x.head != "":
		fmt.Fprintf(&script, "update %s %s\n", exportRef, x.head)
	case was != "":
		fmt.Fprintf(&script, "delete %s\n", exportRef)
	}
	_, err = x.repo.run(ctx, strings.NewReader(script.String()), "update-ref", "--stdin")
	return err
}

func (x *GitExport) fastImport(ctx context.Context, stream io.Reader, progress func(done, total int)) error {
	cmd := gitCommand(ctx, x.repo.Dir, "fast-import", "--quiet", "--force", "--done", "--date-format=raw")
	var errs bytes.Buffer
	read := &readError{r: stream}
	cmd.Stdin, cmd.Stderr = read, &limited{b: &errs}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("%w: %s: git fast-import: %w", ErrBadRepository, x.repo.Dir, err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var done, total int
		if _, err := fmt.Sscanf(lines.Text(), "progress %d %d", &done, &total); err == nil && progress != nil {
			progress(done, total)
		}
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case read.err != nil:
		return fmt.Errorf("read what is to be exported: %w", read.err)
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrBadRepository, x.repo.Dir, &gitError{"fast-import", errs.String(), err})
	}
	return nil
}

// readError keeps the error of a reader, which exec would mix with git's. It is read after Wait.
type readError struct {
	r   io.Reader
	err error
}

func (r *readError) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// Tidy packs the repository when it has many loose objects. It may take a while.
func (x *GitExport) Tidy(ctx context.Context) error {
	_, err := x.repo.run(ctx, nil, "-c", "gc.auto=6700", "-c", "gc.autoDetach=false", "gc", "--auto", "--quiet")
	return err
}

// Close lets others export into the repository.
func (x *GitExport) Close() error {
	if x.lock == nil {
		return nil
	}
	err := x.lock.Close()
	x.lock = nil
	return err
}
