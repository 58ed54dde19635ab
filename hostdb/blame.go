package hostdb

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// BlameLine is one line of a text and who last wrote it.
type BlameLine struct {
	Revision Stamp
	User     string
	At       time.Time
	Text     string // without newline
}

// Blame tells who last wrote each line of the data (at a path, if any), of the raw members or of the perms of a key in v,
// which At may have made. A line that only opens a mapping is as old as the oldest value in it; the lines of a list are as
// old as its last change, because a list is written as a whole. ErrNotFound when there is no such text.
func (s *Store) Blame(ctx context.Context, v View, scope Scope) ([]BlameLine, error) {
	e, _ := v.snap().entries.get(id(scope.NS, scope.Key))
	if scope.NS == System || !e.exists() && (scope.Key != DefaultKey || scope.What != Perms || e == nil) {
		return nil, refuse(ErrNotFound, "%s/%s does not exist", scope.NS, scope.Key)
	}
	var b blame
	switch scope.What {
	case Members:
		b.members(e, v.DirectMembers(scope.NS, scope.Key))
	case Perms:
		b.text(e.acl.YAML(), e.perms.stamp)
	default:
		doc := Item{e}.Data().At(scope.Path...)
		if !doc.Exists() {
			return nil, refuse(ErrNotFound, "%s/%s has nothing at %s", scope.NS, scope.Key, PathOf(scope.Path...))
		}
		b.stamps = make(map[Path]Stamp, len(e.leaves))
		for i, l := range e.leaves {
			b.stamps[l.Path] = e.leafRegs[i].stamp
		}
		b.document(doc, PathOf(scope.Path...), e.created.stamp)
	}
	r, err := s.reading()
	if err != nil {
		return nil, err
	}
	known := map[Stamp]Revision{}
	for i := range b.lines {
		l := &b.lines[i]
		rev, ok := known[l.Revision]
		if !ok {
			op, err := r.operation(l.Revision)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return nil, fmt.Errorf("read revision %s: %w", l.Revision, err)
			}
			if rev = (Revision{At: l.Revision.Time.Wall()}); op != nil {
				rev = r.revision(op)
			}
			known[l.Revision] = rev
		}
		l.User, l.At = rev.User, rev.At
	}
	return b.lines, nil
}

// blame collects the lines of a text with their stamps.
type blame struct {
	lines  []BlameLine
	stamps map[Path]Stamp // of the leaves of the whole document
}

func (b *blame) text(text string, at Stamp) {
	for line := range strings.Lines(text) {
		b.lines = append(b.lines, BlameLine{Revision: at, Text: strings.TrimSuffix(line, "\n")})
	}
}

func (b *blame) members(e *entry, list []Member) {
	for _, m := range list {
		r, _ := e.members.get(m.Name)
		b.text(FormatMembers([]Member{m}), r.stamp)
	}
}

// document takes the text of doc, which stands at path, and finds for its lines the leaves they show. A leaf has as many
// lines beside its mapping key in the whole as alone.
func (b *blame) document(doc Document, path Path, created Stamp) {
	text := strings.Split(strings.TrimSuffix(doc.YAML(), "\n"), "\n")
	take := func(n int, at Stamp) {
		n = min(n, len(text))
		for _, line := range text[:n] {
			b.lines = append(b.lines, BlameLine{Revision: at, Text: line})
		}
		text = text[n:]
	}
	var walk func(doc Document, path Path)
	walk = func(doc Document, path Path) {
		for key, sub := range doc.Keys() {
			at := path.join(Path(key))
			if v, leaf := sub.Value(); leaf {
				alone := NewDocument(Leaf{Path(key), v}).YAML()
				take(strings.Count(alone, "\n"), b.stampOf(at, created))
				continue
			}
			oldest := latest
			for p := range sub.Leaves() {
				if s := b.stampOf(at.join(p), created); s.Less(oldest) {
					oldest = s
				}
			}
			take(1, oldest)
			walk(sub, at)
		}
	}
	if _, leaf := doc.Value(); leaf {
		take(len(text), b.stampOf(path, created))
		return
	}
	walk(doc, path)
}

func (b *blame) stampOf(p Path, created Stamp) Stamp {
	if s, ok := b.stamps[p]; ok {
		return s
	}
	return created
}
