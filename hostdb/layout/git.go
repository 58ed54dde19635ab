package layout

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Sentinels of Git repositories. Their errors say what to do.
var (
	// ErrNoRepository is wrapped when there is no Git repository at a path, or no git to read it with.
	ErrNoRepository = errors.New("no Git repository")
	// ErrNoCommit is wrapped when a branch or commit is not in a repository.
	ErrNoCommit = errors.New("no such commit")
	// ErrBadRepository is wrapped when git cannot read or write a repository: it is damaged, or may not be touched.
	ErrBadRepository = errors.New("repository cannot be used")
)

// GitRepo is a Git repository on this box, bare or not. It is used through the git program, which runs without the
// user's configuration, asks nothing, and reaches no other repository. Its methods are safe for concurrent use as far
// as those of git are.
type GitRepo struct {
	Dir string // absolute path of the directory that has HEAD: of a work tree, its .git
}

// GitBranch is a branch with what an import needs to know of it.
type GitBranch struct {
	Name string // short: main
	Head string // commit id
	Root string // the first commit along first parents
	Tree string // of the head
}

// ID names the history that the branch shows, in whatever clone and directory: its name and its first commit.
func (b GitBranch) ID() string { return b.Name + "@" + b.Root }

// OpenGit finds the repository at a path: a work tree, its .git, or a bare one. A directory inside a work tree is none.
func OpenGit(ctx context.Context, path string) (*GitRepo, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrNoRepository, path, err)
	}
	switch info, err := os.Stat(abs); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w at %s: there is no such directory", ErrNoRepository, path)
	case err != nil:
		return nil, fmt.Errorf("%w at %s: %s", ErrNoRepository, path, reason(err))
	case !info.IsDir():
		return nil, fmt.Errorf("%w at %s: it is a file; name the directory", ErrNoRepository, path)
	}
	// What stands in abs itself decides: git alone would look in the directories above, too.
	dir := abs
	if _, err := os.Stat(filepath.Join(abs, ".git")); err == nil {
		dir = filepath.Join(abs, ".git")
	}
	out, err := gitOutput(ctx, dir, nil, "rev-parse", "--absolute-git-dir")
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("%w can be read: the program git is not installed on this box: install the package git", ErrNoRepository)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("%w at %s: git finds none there; name a directory with a .git, or a bare repository (%w)", ErrNoRepository, path, err)
	}
	return &GitRepo{Dir: strings.TrimSuffix(out, "\n")}, nil
}

// CreateGit opens the repository at a path and makes a bare one where nothing is yet, or an empty directory.
func CreateGit(ctx context.Context, path string) (*GitRepo, error) {
	entries, err := os.ReadDir(path)
	switch {
	case err == nil && len(entries) > 0:
		return OpenGit(ctx, path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w at %s: %s", ErrNoRepository, path, reason(err))
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrNoRepository, path, err)
	}
	if err := os.MkdirAll(abs, 0o777); err != nil {
		return nil, fmt.Errorf("make the repository %s: %s", path, reason(err))
	}
	if _, err := gitOutput(ctx, abs, nil, "init", "--quiet", "--bare", "--template=", "--initial-branch="+DefaultBranch, abs); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("%w can be made: the program git is not installed on this box: install the package git", ErrNoRepository)
		}
		return nil, fmt.Errorf("make the repository %s: %w", path, err)
	}
	return OpenGit(ctx, path)
}

// DefaultBranch is the branch of the repositories that hostmesh makes.
const DefaultBranch = "main"

// gitGrace is how long git may take to end after it was told to: half of the time between a holder's own deadline and the next
// one's beginning. What git wrote by then is whole or not there, because only a ref makes it part of the repository.
const gitGrace = 500 * time.Millisecond

// gitCommand is git on the repository dir. Nothing that the user or the box configures has a say in what it does, and
// no repository that a hostile one names is fetched from.
func gitCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", append([]string{
		"-c", "safe.directory=*", // it was named by who runs this, and may belong to the old HostDB's user
		"-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false", "-c", "gc.auto=0",
	}, args...)...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "TZ=UTC0", "GIT_DIR=" + dir,
		"GIT_AUTHOR_NAME=hostmesh", "GIT_AUTHOR_EMAIL=hostmesh@hostmesh", "GIT_COMMITTER_NAME=hostmesh", "GIT_COMMITTER_EMAIL=hostmesh@hostmesh",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0",
		"GIT_NO_REPLACE_OBJECTS=1", "GIT_ALLOW_PROTOCOL=none", "GIT_NO_LAZY_FETCH=1",
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = gitGrace
	return cmd
}

// gitError is what git said, and how it ended.
type gitError struct {
	what   string // the subcommand
	stderr string
	err    error
}

func (e *gitError) Error() string {
	text := strings.TrimPrefix(strings.TrimSpace(e.stderr), "fatal: ")
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		text = text[:i]
	}
	if text == "" {
		text = e.err.Error()
	}
	return "git " + e.what + ": " + text
}

func (e *gitError) Unwrap() error { return e.err }

// exitCode is git's exit code, -1 when it did not end by itself.
func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// gitOutput runs git to its end.
func gitOutput(ctx context.Context, dir string, stdin io.Reader, args ...string) (string, error) {
	cmd := gitCommand(ctx, dir, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &limited{b: &errs}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", &gitError{args[0], errs.String(), err}
	}
	return out.String(), nil
}

// limited keeps the beginning of what git complains of.
type limited struct{ b *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.b.Write(p[:min(len(p), max(0, 4<<10-l.b.Len()))])
	return len(p), nil
}

// run is gitOutput for what a sound repository answers.
func (r *GitRepo) run(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	out, err := gitOutput(ctx, r.Dir, stdin, args...)
	if err != nil && ctx.Err() == nil {
		return "", fmt.Errorf("%w: %s: %w", ErrBadRepository, r.Dir, err)
	}
	return out, err
}

// Resolve is the id of the commit that a person names: an id or its beginning, a tag, a branch.
func (r *GitRepo) Resolve(ctx context.Context, name string) (string, error) {
	if name == "" || strings.HasPrefix(name, "-") {
		return "", fmt.Errorf("%w: %q", ErrNoCommit, name)
	}
	out, err := gitOutput(ctx, r.Dir, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}")
	if err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		return "", fmt.Errorf("%w: %s is not in %s", ErrNoCommit, name, r.Dir)
	}
	return lastLine(out), nil
}

// lastLine is the one line that rev-parse prints; with --end-of-options it repeats that before it in some versions.
func lastLine(out string) string {
	out = strings.TrimSuffix(out, "\n")
	return out[strings.LastIndexByte(out, '\n')+1:]
}

// Branch looks at a branch; "" is the one that HEAD names.
func (r *GitRepo) Branch(ctx context.Context, name string) (GitBranch, error) {
	if name == "" {
		out, err := gitOutput(ctx, r.Dir, nil, "symbolic-ref", "--quiet", "--short", "HEAD")
		if err != nil {
			return GitBranch{}, fmt.Errorf("%w: the HEAD of %s names no branch: say which with --branch", ErrNoCommit, r.Dir)
		}
		name = strings.TrimSuffix(out, "\n")
	}
	b := GitBranch{Name: name}
	var err error
	if b.Head, err = r.Resolve(ctx, "refs/heads/"+name); err != nil {
		if ctx.Err() != nil {
			return GitBranch{}, err
		}
		return GitBranch{}, fmt.Errorf("%w: %s has no branch %s with a commit%s", ErrNoCommit, r.Dir, name, r.branches(ctx))
	}
	roots, err := r.run(ctx, nil, "rev-list", "--first-parent", "--max-parents=0", b.Head)
	if err != nil {
		return GitBranch{}, err
	}
	b.Root = lastLine(roots)
	if b.Root == "" {
		return GitBranch{}, fmt.Errorf("%w: %s: branch %s has no first commit", ErrBadRepository, r.Dir, name)
	}
	if _, err := os.Stat(filepath.Join(r.Dir, "shallow")); err == nil {
		return GitBranch{}, fmt.Errorf("%w: %s is a shallow clone: the beginning of its history is missing; get it with: git fetch --unshallow", ErrBadRepository, r.Dir)
	}
	tree, err := r.run(ctx, nil, "rev-parse", "--verify", b.Head+"^{tree}")
	b.Tree = lastLine(tree)
	return b, err
}

// branches lists what there is instead of the branch that is not.
func (r *GitRepo) branches(ctx context.Context) string {
	out, err := gitOutput(ctx, r.Dir, nil, "for-each-ref", "--count=10", "--format=%(refname:short)", "refs/heads/")
	if list := strings.Fields(out); err == nil && len(list) > 0 {
		return "; it has " + strings.Join(list, ", ")
	}
	return ""
}

// Contains reports whether a commit is an ancestor of head, or head itself. One that the repository has not is none.
func (r *GitRepo) Contains(ctx context.Context, head, commit string) (bool, error) {
	if _, err := gitOutput(ctx, r.Dir, nil, "cat-file", "-e", commit+"^{commit}"); err != nil {
		return false, ctx.Err()
	}
	_, err := gitOutput(ctx, r.Dir, nil, "merge-base", "--is-ancestor", commit, head)
	switch {
	case err == nil:
		return true, nil
	case exitCode(err) == 1:
		return false, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	}
	return false, fmt.Errorf("%w: %s: %w", ErrBadRepository, r.Dir, err)
}

// Count is the number of commits from one (not counted; "" for the beginning) to head along first parents.
func (r *GitRepo) Count(ctx context.Context, from, head string) (int, error) {
	args := []string{"rev-list", "--first-parent", "--count", head}
	if from != "" {
		args = append(args, "^"+from)
	}
	out, err := r.run(ctx, nil, args...)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

// gitPipe is a git that answers requests on its standard input, one after the other.
type gitPipe struct {
	repo *GitRepo
	what string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs bytes.Buffer
}

func (r *GitRepo) pipe(ctx context.Context, args ...string) (*gitPipe, error) {
	p := &gitPipe{repo: r, what: args[0], cmd: gitCommand(ctx, r.Dir, args...)}
	p.cmd.Stderr = &limited{b: &p.errs}
	var err error
	var out io.ReadCloser
	if p.in, err = p.cmd.StdinPipe(); err == nil {
		if out, err = p.cmd.StdoutPipe(); err == nil {
			err = p.cmd.Start()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: git %s: %w", ErrBadRepository, r.Dir, args[0], err)
	}
	p.out = bufio.NewReaderSize(out, 64<<10)
	return p, nil
}

// fail ends git and makes an error of what it complained of.
func (p *gitPipe) fail(ctx context.Context, err error) error {
	p.in.Close()
	_ = p.cmd.Wait() // what it said is the reason, else err
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it ended early")
	}
	return fmt.Errorf("%w: %s: %w", ErrBadRepository, p.repo.Dir, &gitError{p.what, p.errs.String(), err})
}

// close ends git.
func (p *gitPipe) close() {
	p.in.Close()
	_ = p.cmd.Wait() // all that was asked has been answered
}
