package layout

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"hostmesh/hostdb"
)

// gitObjects reads objects and compares trees.
type gitObjects struct {
	cat, diff *gitPipe
}

func (r *GitRepo) objects(ctx context.Context) (*gitObjects, error) {
	cat, err := r.pipe(ctx, "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	diff, err := r.pipe(ctx, "diff-tree", "--stdin", "-r", "--raw", "-z", "--no-abbrev", "--no-renames", "--no-ext-diff", "--no-textconv")
	if err != nil {
		cat.close()
		return nil, err
	}
	return &gitObjects{cat, diff}, nil
}

func (o *gitObjects) close() {
	o.cat.close()
	o.diff.close()
}

// object is the content of an object of at most limit bytes. Of a larger one only the size comes.
func (o *gitObjects) object(ctx context.Context, id, kind string, limit int) (text []byte, size int, err error) {
	if _, err := fmt.Fprintln(o.cat.in, id); err != nil {
		return nil, 0, o.cat.fail(ctx, err)
	}
	line, err := o.cat.out.ReadString('\n')
	if err != nil {
		return nil, 0, o.cat.fail(ctx, err)
	}
	head := strings.Fields(line)
	if len(head) == 2 && head[1] == "missing" {
		return nil, 0, fmt.Errorf("%w: %s: object %s is missing: look at it with git fsck", ErrBadRepository, o.cat.repo.Dir, id)
	}
	if len(head) != 3 || head[1] != kind {
		return nil, 0, fmt.Errorf("%w: %s: object %s is no %s: look at it with git fsck", ErrBadRepository, o.cat.repo.Dir, id, kind)
	}
	if size, err = strconv.Atoi(head[2]); err != nil {
		return nil, 0, o.cat.fail(ctx, err)
	}
	if size > limit {
		if _, err := o.cat.out.Discard(size + 1); err != nil {
			return nil, 0, o.cat.fail(ctx, err)
		}
		return nil, size, nil
	}
	text = make([]byte, size)
	if _, err := io.ReadFull(o.cat.out, text); err != nil {
		return nil, 0, o.cat.fail(ctx, err)
	}
	if _, err := o.cat.out.ReadByte(); err != nil { // the newline after it
		return nil, 0, o.cat.fail(ctx, err)
	}
	return text, size, nil
}

// rawDiff is a path that differs between two trees.
type rawDiff struct {
	path             string
	oldMode, newMode string // 000000: it is not there
	oldID, newID     string
}

// endOfDiff is echoed by git, which knows no such tree, after the answer before it.
const endOfDiff = "end"

// compare lists the files that differ between two trees.
func (o *gitObjects) compare(ctx context.Context, from, to string) ([]rawDiff, error) {
	if from == to {
		return nil, nil
	}
	if _, err := fmt.Fprintf(o.diff.in, "%s %s\n%s\n", from, to, endOfDiff); err != nil {
		return nil, o.diff.fail(ctx, err)
	}
	line, err := o.diff.out.ReadString('\n')
	if err != nil || line != from+" "+to+"\n" {
		return nil, o.diff.fail(ctx, orError(err, "it answers %q", line))
	}
	var out []rawDiff
	for {
		first, err := o.diff.out.Peek(1)
		if err != nil {
			return nil, o.diff.fail(ctx, err)
		}
		if first[0] != ':' {
			line, err := o.diff.out.ReadString('\n')
			if err != nil || line != endOfDiff+"\n" {
				return nil, o.diff.fail(ctx, orError(err, "it answers %q", line))
			}
			return out, nil
		}
		meta, err := o.diff.out.ReadString(0)
		if err != nil {
			return nil, o.diff.fail(ctx, err)
		}
		path, err := o.diff.out.ReadString(0)
		if err != nil {
			return nil, o.diff.fail(ctx, err)
		}
		f := strings.Fields(strings.TrimSuffix(meta[1:], "\x00"))
		if len(f) != 5 {
			return nil, o.diff.fail(ctx, fmt.Errorf("it answers %q", meta))
		}
		out = append(out, rawDiff{strings.TrimSuffix(path, "\x00"), f[0], f[1], f[2], f[3]})
	}
}

func orError(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fmt.Errorf(format, args...)
}

// Modes of entries of a tree.
const (
	modeNone      = "000000"
	modeLink      = "120000"
	modeSubmodule = "160000"
)

// blob reads one version of a file that the layout gives a place.
func (o *gitObjects) blob(ctx context.Context, mode, id string, limit int) (GitBlob, error) {
	switch mode {
	case modeNone:
		return GitBlob{}, nil
	case modeLink:
		return GitBlob{There: true, Bad: "a symbolic link: put a copy in its place"}, nil
	case modeSubmodule:
		return GitBlob{There: true, Bad: "another repository stands where a file is expected"}, nil
	}
	text, size, err := o.object(ctx, id, "blob", limit)
	if err != nil {
		return GitBlob{}, err
	}
	if size > limit {
		return GitBlob{There: true, Bad: tooLarge(int64(size), limit).Error()}, nil
	}
	return GitBlob{There: true, Text: text}, nil
}

// commit reads a commit. parents is how many it has.
func (o *gitObjects) commit(ctx context.Context, id string) (c GitCommit, tree string, err error) {
	const limit = 16 << 20 // of a message that somebody piped a file into
	text, size, err := o.object(ctx, id, "commit", limit)
	if err != nil {
		return GitCommit{}, "", err
	}
	if size > limit {
		return GitCommit{}, "", fmt.Errorf("%w: %s: commit %s has %d bytes", ErrBadRepository, o.cat.repo.Dir, id, size)
	}
	c.ID = id
	head, message, _ := bytes.Cut(text, []byte("\n\n"))
	parents, encoding := 0, ""
	for line := range strings.SplitSeq(string(head), "\n") {
		field, value, _ := strings.Cut(line, " ")
		switch field {
		case "tree":
			tree = value
		case "parent":
			parents++
		case "encoding":
			encoding = value
		}
	}
	for line := range strings.SplitSeq(string(head), "\n") {
		if value, ok := strings.CutPrefix(line, "author "); ok {
			c.Author, c.Email, c.Seconds, c.Zone = parseIdent(decodeText(value, encoding))
			break
		}
	}
	if tree == "" {
		return GitCommit{}, "", fmt.Errorf("%w: %s: commit %s has no tree", ErrBadRepository, o.cat.repo.Dir, id)
	}
	c.Merge = parents > 1
	c.Log = logText(decodeText(string(message), encoding))
	return c, tree, nil
}

// logText is a message as HostDB keeps it: without newlines at the end, and within its limit.
func logText(text string) string {
	text = strings.TrimRight(text, "\n")
	if len(text) <= hostdb.MaxLog {
		return text
	}
	const more = "\n[...]"
	cut := hostdb.MaxLog - len(more)
	for cut > 0 && text[cut]&0xc0 == 0x80 {
		cut--
	}
	return text[:cut] + more
}

// decodeText makes UTF-8 of what a commit holds, which may say that it is in another encoding.
func decodeText(text, encoding string) string {
	switch strings.ToLower(encoding) {
	case "iso-8859-1", "iso8859-1", "latin1", "latin-1", "iso-8859-15":
		runes := make([]rune, 0, len(text))
		for i := range len(text) {
			runes = append(runes, rune(text[i]))
		}
		text = string(runes)
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "\ufffd")
}

// parseIdent reads the author of a commit: NAME <EMAIL> SECONDS ZONE. Old repositories have worse; what cannot be read
// is zero.
func parseIdent(line string) (name, email string, seconds int64, zone int) {
	open, end := strings.IndexByte(line, '<'), strings.LastIndexByte(line, '>')
	if open < 0 || end < open {
		return strings.TrimSpace(line), "", 0, 0
	}
	name, email = strings.TrimSpace(line[:open]), line[open+1:end]
	when := strings.Fields(line[end+1:])
	if len(when) > 0 {
		seconds, _ = strconv.ParseInt(when[0], 10, 64)
	}
	if len(when) > 1 {
		zone = parseZone(when[1])
	}
	if name == "" {
		name, _, _ = strings.Cut(email, "@")
	}
	return name, email, seconds, zone
}

// maxZone is the farthest from UTC that git takes.
const maxZone = 14 * 60

// parseZone reads +0530 as minutes; 0 for what is no zone of this earth.
func parseZone(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	sign := 1
	if n < 0 {
		sign, n = -1, -n
	}
	if minutes := n/100*60 + n%100; minutes <= maxZone && n%100 < 60 {
		return sign * minutes
	}
	return 0
}

// formatZone is what parseZone reads.
func formatZone(minutes int) string {
	sign := '+'
	if minutes < 0 {
		sign, minutes = '-', -minutes
	}
	if minutes > maxZone {
		minutes = 0
	}
	return fmt.Sprintf("%c%02d%02d", sign, minutes/60, minutes%60)
}
