package rest

import (
	"strings"

	"hostmesh/hostdb"
)

// has reports whether If-None-Match names the state that the client would get: it has it already.
func (c *call) has(etag string) bool {
	return len(c.r.Header["If-None-Match"]) > 0 && names(c.r.Header["If-None-Match"], etag)
}

// names reports whether a condition names an ETag. All lines of the header count, as one list.
func names(condition []string, etag string) bool {
	for _, line := range condition {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}

// matches refuses the write when If-Match names another state than v's, or If-None-Match v's. The answer tells the ETag
// that is. Permission goes before it.
func (w *write) matches(v hostdb.View) error {
	want, not := w.r.Header["If-Match"], w.r.Header["If-None-Match"]
	if len(want) == 0 && len(not) == 0 {
		return nil
	}
	t := &w.target
	what := t.resource()
	if t.kind == kindPath {
		what = hostdb.Data
	}
	if !v.HasNamespace(t.ns) {
		return nil // hostdb says so
	}
	if err := w.allow(v, t.ns, t.key, what); err != nil {
		return err
	}
	item, ok := v.Get(t.ns, t.key)
	have := ""
	if ok {
		have = item.ETag(what)
		w.w.Header()["Etag"] = []string{have}
	}
	switch {
	case len(want) > 0 && (!ok || !names(want, have)):
		return fail(codeChanged, "Resource "+t.String()+" is not as If-Match says: read it again")
	case len(not) > 0 && there(v, t) && names(not, have):
		return fail(codeChanged, "Resource "+t.String()+" exists already, and If-None-Match says that it must not")
	}
	return nil
}

// there reports whether what t names was written: what a PUT would replace.
func there(v hostdb.View, t *target) bool {
	switch t.kind {
	case kindPath:
		data := v.Data(t.ns, t.key)
		if data.At(t.path...).Exists() {
			return true
		}
		last := len(t.path) - 1
		for _, item := range data.At(t.path[:last]...).Items() {
			if item.Text() == t.path[last] {
				return true
			}
		}
		return false
	case kindMembers:
		return v.MemberCount(t.ns, t.key) > 0
	case kindMember:
		return hasMember(v, t)
	case kindPerms:
		_, written := v.Perms(t.ns, t.key)
		return written
	}
	return v.Exists(t.ns, t.key)
}
