package layout

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"hostmesh/hostdb"
)

// ErrGitAhead is wrapped by WriteGit when a repository has revisions that this replica has not.
var ErrGitAhead = errors.New("the repository has revisions that are not here")

// Refs that a stream of WriteGit writes. GitRepo.Take moves the branch and the notes there when all of it has come.
const (
	exportRef      = "refs/hostmesh/export"
	exportNotesRef = "refs/hostmesh/notes"
	notesRef       = "refs/notes/hostmesh"
)

// Lines of a note on a commit.
const (
	noteRevision = "Revision: " // the revision that the commit is
	noteState    = "State: "    // on the newest commit: where the next export goes on
)

// committer is who makes the commits of an export; their author is who made the revision.
const committer = "hostmesh <hostmesh@hostmesh>"

// GitHistory is what WriteGit reads of a hostdb.Store.
type GitHistory interface {
	View() hostdb.View
	At(ctx context.Context, cut hostdb.Stamp) (hostdb.View, error)
	Since(ctx context.Context, c hostdb.Cursor, v hostdb.View, max int) ([]hostdb.Revision, hostdb.Cursor, error)
	Replay(ctx context.Context, after hostdb.Stamp, fn func(hostdb.Revision, hostdb.View) error) error
}

// exportState is where an export goes on.
type exportState struct {
	newest hostdb.Stamp // of all that were exported
	cursor hostdb.Cursor
}

func (s exportState) String() string { return s.newest.String() + "/" + s.cursor.String() }

func parseExportState(text string) (s exportState, err error) {
	stamp, cursor, _ := strings.Cut(text, "/")
	if s.newest, err = hostdb.ParseStamp(stamp); err == nil {
		s.cursor, err = hostdb.ParseCursor(cursor)
	}
	if err != nil {
		return exportState{}, fmt.Errorf("%w: %q is not the state of an export", hostdb.ErrInvalid, text)
	}
	return s, nil
}

// WriteGit writes the revisions after a state ("" for all) as input of git fast-import, oldest first, each that changes
// a file as one commit; nothing of .system. It returns how many commits that is. Revisions that came late, with a stamp
// before what was exported already, come first, each with what its keys are now.
func WriteGit(ctx context.Context, w io.Writer, h GitHistory, after string) (commits int, err error) {
	x := &gitExport{h: h, w: bufio.NewWriterSize(w, 256<<10), view: h.View(), known: map[hostdb.Stamp]bool{}, dirty: map[keyName]bool{}}
	if after != "" {
		if x.state, err = parseExportState(after); err != nil {
			return 0, err
		}
		if !x.view.Covers(x.state.cursor) {
			return 0, fmt.Errorf("%w: this node has not caught up yet, or the repository belongs to another mesh", ErrGitAhead)
		}
		x.parent = exportRef
	}
	if _, err := x.w.WriteString("feature done\n"); err != nil {
		return 0, err
	}
	if err := x.look(ctx); err != nil {
		return 0, err
	}
	if len(x.known) > 0 {
		if err := x.replay(ctx); err != nil {
			return len(x.notes), err
		}
	}
	if err := x.finish(); err != nil {
		return len(x.notes), fmt.Errorf("export: %w", err)
	}
	return len(x.notes), nil
}

type keyName struct{ ns, key string }

type gitExport struct {
	h      GitHistory
	w      *bufio.Writer
	view   hostdb.View // up to which is exported
	state  exportState
	parent string // what the next commit goes on; "" for the one before it in the stream

	known map[hostdb.Stamp]bool // revisions that are to be exported
	late  []hostdb.Revision     // those of them with a stamp before state.newest
	dirty map[keyName]bool      // keys that a revision changed which came while this runs
	notes []hostdb.Stamp        // of each commit; its mark is the index + 1
	last  int64                 // time of the last commit, unix
	done  int
}

// sincePage is how many revisions are read at once.
const sincePage = 512

// look finds what there is to export.
func (x *gitExport) look(ctx context.Context) error {
	want := x.view.Cursor().String()
	for c := x.state.cursor; c.String() != want; {
		list, next, err := x.h.Since(ctx, c, x.view, sincePage)
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		for _, rev := range list {
			if len(touchedKeys(rev)) == 0 {
				continue
			}
			x.known[rev.ID] = true
			if rev.ID.Less(x.state.newest) {
				x.late = append(x.late, rev)
			}
		}
		if len(list) == 0 {
			break
		}
		c = next
	}
	x.state.cursor = x.view.Cursor()
	return nil
}

func (x *gitExport) replay(ctx context.Context) error {
	before, err := x.h.At(ctx, x.state.newest)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	for _, rev := range x.late {
		if err := x.revision(rev, hostdb.View{}, before, true); err != nil {
			return fmt.Errorf("export revision %s: %w", rev.ID, err)
		}
	}
	err = x.h.Replay(ctx, x.state.newest, func(rev hostdb.Revision, v hostdb.View) error {
		defer func() { before = v }()
		if !x.known[rev.ID] { // it came while this runs: next time
			for _, k := range touchedKeys(rev) {
				x.dirty[k] = true
			}
			return nil
		}
		x.state.newest = rev.ID
		return x.revision(rev, before, v, false)
	})
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// touchedKeys are the keys that a revision has effects on, each once, without those of .system and those that have no place.
func touchedKeys(rev hostdb.Revision) []keyName {
	var out []keyName
	seen := map[keyName]bool{}
	for _, e := range rev.Effects {
		k := keyName{e.NS, e.Key}
		if e.NS == hostdb.System || e.Key == "" || seen[k] {
			continue
		}
		seen[k] = true
		if !nameable(e.NS, e.Key) {
			continue
		}
		out = append(out, k)
	}
	return out
}

// exported is a file of an export.
type exported struct {
	path, text string
	there      bool
}

// exportFiles are the files of a key, those that are not there as well, in a fixed order.
func exportFiles(v hostdb.View, k keyName) (out [3]exported) {
	out[0].path, out[1].path, out[2].path = path.Join(k.ns, k.key), path.Join(k.ns, membersDir, k.key), path.Join(k.ns, permsDir, k.key)
	item, ok := v.Get(k.ns, k.key)
	if ok && item != (hostdb.Item{}) {
		out[0].text, out[0].there = item.YAML(), true
		if list := v.DirectMembers(k.ns, k.key); len(list) > 0 {
			out[1].text, out[1].there = hostdb.FormatMembers(list)+"\n", true
		}
	}
	if out[0].there || k.key == hostdb.DefaultKey {
		if acl, ok := v.Perms(k.ns, k.key); ok {
			out[2].text, out[2].there = acl.YAML(), true
		}
	}
	if k.key == hostdb.DefaultKey {
		out[0].path, out[1].path = "", ""
	}
	return out
}

// revision writes a commit, if there is a difference or force says to write what is there in any case.
func (x *gitExport) revision(rev hostdb.Revision, before, after hostdb.View, force bool) error {
	x.done++
	begun := false
	for _, k := range touchedKeys(rev) {
		was, is := exportFiles(before, k), exportFiles(after, k)
		for i := range is {
			if is[i].path == "" || was[i] == is[i] && !force && !x.dirty[k] {
				continue
			}
			if !begun {
				x.begin(rev)
				begun = true
			}
			if is[i].there {
				fmt.Fprintf(x.w, "M 100644 inline %s\n", quotePath(is[i].path))
				x.data(is[i].text)
			} else {
				fmt.Fprintf(x.w, "D %s\n", quotePath(is[i].path))
			}
		}
	}
	if !begun {
		return nil
	}
	// The writer keeps its first error; a reader that is gone ends the export here.
	_, err := fmt.Fprintf(x.w, "\nprogress %d %d\n", x.done, len(x.known))
	return err
}

// begin writes the head of a commit.
func (x *gitExport) begin(rev hostdb.Revision) {
	name, email, seconds, zone := rev.User, rev.User+"@hostmesh", rev.At.Unix(), 0
	if src := rev.Source; src != nil {
		email, seconds, zone = src.Email, src.Seconds, src.Zone
	}
	seconds = max(seconds, 0) // git knows no time before 1970
	x.notes = append(x.notes, rev.ID)
	x.last = seconds
	when := fmt.Sprintf("%d %s", seconds, formatZone(zone))
	fmt.Fprintf(x.w, "commit %s\nmark :%d\nauthor %s <%s> %s\ncommitter %s %s\n", exportRef, len(x.notes), ident(name), ident(email), when, committer, when)
	log := rev.Log
	if log != "" && !strings.HasSuffix(log, "\n") {
		log += "\n"
	}
	x.data(log)
	if x.parent != "" {
		fmt.Fprintf(x.w, "from %s^0\n", x.parent)
		x.parent = ""
	}
}

func (x *gitExport) data(text string) {
	fmt.Fprintf(x.w, "data %d\n", len(text))
	x.w.WriteString(text)
	x.w.WriteByte('\n')
}

// finish writes the notes.
func (x *gitExport) finish() error {
	if n := len(x.notes); n > 0 {
		fmt.Fprintf(x.w, "commit %s\ncommitter %s %d +0000\n", exportNotesRef, committer, x.last)
		x.data("revisions of HostDB\n")
		if x.state.newest.IsZero() {
			x.state.newest = x.notes[n-1]
		}
		fmt.Fprintf(x.w, "from %s^0\n", exportNotesRef) // GitExport has seen to it that there is one
		for i, id := range x.notes {
			note := noteRevision + id.String() + "\n"
			if i == n-1 {
				note += noteState + x.state.String() + "\n"
			}
			fmt.Fprintf(x.w, "N inline :%d\n", i+1)
			x.data(note)
		}
		x.w.WriteByte('\n')
	}
	x.w.WriteString("done\n")
	return x.w.Flush() // it returns the first error of all writes
}

// ident is text that may stand as a name or address of an author.
func ident(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == '<' || r == '>' || r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, text)
	return strings.TrimSpace(text)
}

// quotePath is a path as fast-import reads it. It is one of nameable names: without control characters.
func quotePath(p string) string {
	if !strings.HasPrefix(p, `"`) {
		return p
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p) + `"`
}
