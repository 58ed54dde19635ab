package rest

import (
	"net/url"
	"strings"

	"hostmesh/hostdb"
)

// lookBack makes c read the state that revision= or as-of= asks for. The key of the target becomes what it was called
// then. The version of the answer stays that of the replica: what was then is known only as far as the replica goes.
func (c *call) lookBack() error {
	revision, asOf := c.params.get("revision"), c.params.get("as-of")
	var err error
	switch {
	case revision == "" && asOf == "":
		return nil
	case revision != "" && asOf != "":
		return fail(codeInvalid, "Either revision= or as-of=, not both")
	case revision != "":
		c.cut, err = c.knownRevision(revision)
	default:
		c.cut, err = c.Store.Cut(c.r.Context(), asOf)
	}
	if err != nil {
		return err
	}
	if c.Settled != nil {
		settled := settledNo
		if c.Settled(c.cut) {
			settled = settledYes
		}
		c.w.Header()["Settled"] = settled
	}
	if c.view, err = c.Store.At(c.r.Context(), c.cut); err != nil {
		return err
	}
	if c.params.get("meta") == "" && c.params.get("foreach") != "" {
		return nil // the key of the id is made up
	}
	return c.formerly(&c.target)
}

var (
	settledYes = []string{"yes"}
	settledNo  = []string{"no"}
)

// knownRevision is a revision that this replica holds.
func (c *call) knownRevision(text string) (hostdb.Stamp, error) {
	id, err := hostdb.ParseStamp(strings.TrimSpace(text))
	if err != nil {
		return hostdb.Stamp{}, err
	}
	if _, err := c.Store.Revision(id); err != nil {
		return hostdb.Stamp{}, err
	}
	return id, nil
}

// formerly makes the key of t what it was called in the state that c looks back at, and says so in a header.
func (c *call) formerly(t *target) error {
	if t.key == "" || t.key == hostdb.DefaultKey || c.view.Exists(t.ns, t.key) {
		return nil
	}
	name, ok, err := c.Store.Formerly(c.r.Context(), c.view, c.cut, t.ns, t.key)
	if err != nil {
		return err
	}
	if ok && name != t.key {
		t.key = name
		if t == &c.target {
			c.w.Header()["Hostmesh-Formerly"] = []string{url.PathEscape(t.ns) + "/" + url.PathEscape(name)}
		}
	}
	return nil
}

// past reports whether c reads another state than the newest.
func (c *call) past() bool { return !c.cut.IsZero() }
