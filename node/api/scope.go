package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"hostmesh/hostdb"
)

// ParseScope reads an id as people write it: NAMESPACE[/KEY[/members[/MEMBER] | /perms | /PATH/IN/DATA...]]. Slashes around
// it are ignored, and "" is everything. Its errors wrap hostdb's sentinels.
func ParseScope(id string) (hostdb.Scope, error) {
	var sc hostdb.Scope
	id = strings.Trim(id, "/")
	if id == "" {
		return sc, nil
	}
	parts := strings.Split(id, "/")
	for _, p := range parts {
		if p == "" {
			return sc, fmt.Errorf("%w: %q has an empty part: two slashes follow each other", hostdb.ErrBadName, id)
		}
	}
	sc.NS = parts[0]
	if err := hostdb.CheckName(sc.NS); err != nil { // System's among them: it begins with a dot
		return hostdb.Scope{}, err
	}
	if len(parts) == 1 {
		return sc, nil
	}
	sc.Key = parts[1]
	if err := hostdb.CheckName(sc.Key); err != nil && sc.Key != hostdb.DefaultKey {
		return hostdb.Scope{}, err
	}
	if len(parts) == 2 {
		return sc, nil
	}
	switch rest := parts[2:]; rest[0] {
	case "members":
		sc.What, sc.Member = hostdb.Members, strings.Join(rest[1:], "/")
		if sc.Member != "" {
			if err := hostdb.CheckName(strings.TrimPrefix(sc.Member, "@")); err != nil {
				return hostdb.Scope{}, err
			}
		}
	case "perms":
		if len(rest) > 1 {
			return hostdb.Scope{}, fmt.Errorf("%w: %q: an access list is read and written as a whole", hostdb.ErrNotAllowed, id)
		}
		sc.What = hostdb.Perms
	default:
		sc.What, sc.Path = hostdb.Data, rest
	}
	return sc, nil
}

// ScopeID is the id that ParseScope reads as sc.
func ScopeID(sc hostdb.Scope) string {
	parts := append(make([]string, 0, 4+len(sc.Path)), sc.NS)
	switch {
	case sc.Key == "":
	case sc.What == "" || sc.What == hostdb.Data:
		parts = append(append(parts, sc.Key), sc.Path...)
	case sc.Member != "":
		parts = append(parts, sc.Key, "members", sc.Member)
	default:
		parts = append(parts, sc.Key, string(sc.What))
	}
	return strings.Join(parts, "/")
}

// keyScope is the scope of an id that must name a key, or a part of one.
func keyScope(id string) (hostdb.Scope, error) {
	sc, err := ParseScope(id)
	switch {
	case err != nil:
		return sc, historyProblem(err)
	case sc.Key == "":
		return sc, problem(http.StatusBadRequest, fmt.Sprintf("%q names no key: expected NAMESPACE/KEY, or a part of a key such as NAMESPACE/KEY/members", id))
	}
	return sc, nil
}

// historyProblem is problemOf, but that what others wrote over is named place by place.
func historyProblem(err error) *huma.ErrorModel {
	p := problemOf(err)
	if over, ok := asWrittenOver(err); ok {
		for _, place := range over.Places {
			p.Add(&huma.ErrorDetail{Message: "written over since", Location: place})
		}
		p.Detail = "others have written since over what this revision did; with force that is taken back too"
	}
	return p
}
