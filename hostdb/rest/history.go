package rest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"hostmesh/hostdb"
)

// The bounds of meta=revisions. Clients that ask for more get a header that says so.
const (
	defaultRevisions = 50 // as upstream
	maxRevisions     = 10_000
)

// zoned is how history shows a moment to people, as git does.
const zoned = "2006-01-02 15:04:05 -0700"

// revisionItem is a revision in JSON.
type revisionItem struct {
	Revision string      `json:"revision"`
	User     string      `json:"user"`
	Time     string      `json:"time"` // RFC 3339
	Log      string      `json:"log"`
	Node     string      `json:"node,omitempty"`
	Source   *sourceItem `json:"source,omitempty"`
}

// sourceItem says where a revision came from that was first made elsewhere.
type sourceItem struct {
	Email string `json:"email,omitempty"`
	Ref   string `json:"ref,omitempty"`
}

// blameItem is a line of blame in JSON.
type blameItem struct {
	Revision string `json:"revision"`
	User     string `json:"user"`
	Time     string `json:"time"` // RFC 3339
	Line     int    `json:"line"`
	Text     string `json:"text"`
}

// revisions are what wrote the target, newest first. What is not there any more has a history all the same.
func (c *call) revisions() (answer, error) {
	q := hostdb.RevisionQuery{Scope: c.scope(), Limit: defaultRevisions}
	if n, given, err := c.limit(); err != nil {
		return answer{}, err
	} else if given {
		q.Limit = min(n, maxRevisions)
	}
	if c.past() {
		q.Before = next(c.cut)
	}
	if text := c.params.get("before"); text != "" {
		before, err := hostdb.ParseStamp(text)
		if err != nil {
			return answer{}, err
		}
		if q.Before.IsZero() || before.Less(q.Before) {
			q.Before = before
		}
	}
	list, more, err := c.Store.Revisions(c.r.Context(), q)
	if err != nil {
		return answer{}, err
	}
	if len(list) == 0 {
		if err := c.hasHistory(q.Scope); err != nil {
			return answer{}, err
		}
	}
	if more {
		c.w.Header()["Hostmesh-More"] = moreYes
	}
	a := answer{format: asLines, items: make([]any, 0, len(list))}
	lines := make([]string, 0, len(list))
	for _, r := range list {
		lines = append(lines, revisionLine(r))
		a.items = append(a.items, itemOf(r))
		if r.At.After(a.mtime) {
			a.mtime = r.At
		}
	}
	a.text = strings.Join(lines, "\n")
	return a, nil
}

var moreYes = []string{"yes"}

// hasHistory is the error of a plain GET when the target neither is there nor ever was.
func (c *call) hasHistory(scope hostdb.Scope) error {
	_, gone := c.read()
	if gone == nil {
		return nil
	}
	list, _, err := c.Store.Revisions(c.r.Context(), hostdb.RevisionQuery{Scope: scope, Limit: 1})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return gone
	}
	return nil
}

// scope is the target as history knows it.
func (c *call) scope() hostdb.Scope {
	t := &c.target
	s := hostdb.Scope{NS: t.ns, Key: t.key}
	switch t.kind {
	case kindKey:
		s.What = hostdb.Data
	case kindPath:
		s.What, s.Path = hostdb.Data, t.path
	case kindMembers:
		s.What = hostdb.Members
	case kindMember:
		s.What, s.Member = hostdb.Members, t.member
	case kindPerms:
		s.What = hostdb.Perms
	}
	return s
}

// next is the lowest stamp after s.
func next(s hostdb.Stamp) hostdb.Stamp {
	if s.Origin++; s.Origin == 0 {
		s.Time++
	}
	return s
}

func revisionLine(r hostdb.Revision) string {
	return r.ID.String() + " - " + oneLine(r.User, maxPhrase) + ", " + r.At.In(zoneOf(r)).Format(zoned) + " : " + oneLine(r.Log, hostdb.MaxLog)
}

func itemOf(r hostdb.Revision) revisionItem {
	item := revisionItem{Revision: r.ID.String(), User: r.User, Time: r.At.In(zoneOf(r)).Format(time.RFC3339Nano), Log: r.Log, Node: r.Node}
	if r.Source != nil {
		item.Source = &sourceItem{Email: r.Source.Email, Ref: r.Source.Ref}
	}
	return item
}

// zoneOf is the zone that a revision's author lived in, if it says so; else UTC, which is the same on every node.
func zoneOf(r hostdb.Revision) *time.Location {
	const day = 24 * 60
	if r.Source == nil || r.Source.Zone < -day || r.Source.Zone > day {
		return time.UTC
	}
	return time.FixedZone("", r.Source.Zone*60)
}

// blame tells who last wrote each line of the data, the raw members or the perms.
func (c *call) blame() (answer, error) {
	t := &c.target
	if t.kind == kindRoot || t.kind == kindNamespace {
		return answer{}, fail(codeNotAllowed, "A list cannot be blamed: /"+t.String()+" was written by nobody")
	}
	a, err := c.read()
	if err != nil {
		return answer{}, err
	}
	scope := c.scope()
	scope.Member = "" // a line of the list
	lines, err := c.Store.Blame(c.r.Context(), c.view, scope)
	if err != nil && !errors.Is(err, hostdb.ErrNotFound) { // what is there without anybody's writing, as tags/all, has no lines
		return answer{}, err
	}
	a = answer{format: asBlame, mtime: a.mtime, items: []any{}}
	var b strings.Builder
	idWidth, userWidth := 0, 0
	for _, l := range lines {
		idWidth = max(idWidth, len(l.Revision.String()))
		userWidth = max(userWidth, utf8.RuneCountInString(oneLine(l.User, maxPhrase)))
	}
	numberWidth := len(strconv.Itoa(len(lines)))
	for i, l := range lines {
		if t.kind == kindMember && strings.TrimSpace(l.Text) != t.member {
			continue
		}
		at := ""
		if !l.At.IsZero() {
			at = l.At.UTC().Format(zoned)
		}
		fmt.Fprintf(&b, "%-*s (%-*s %-*s %*d) %s\n", idWidth, l.Revision, userWidth, oneLine(l.User, maxPhrase), len(zoned), at, numberWidth, i+1, l.Text)
		item := blameItem{Revision: l.Revision.String(), User: l.User, Line: i + 1, Text: l.Text}
		if at != "" {
			item.Time = l.At.UTC().Format(time.RFC3339Nano)
		}
		a.items = append(a.items, item)
	}
	a.text = b.String()
	return a, nil
}
