package node

import (
	"fmt"
	"slices"
	"strings"

	"hostmesh/hostdb"
	"hostmesh/hostdb/section"
	"hostmesh/mesh"
	"hostmesh/node/api"
)

// memberProblems are those of what this node has of HostDB and the mesh. An agent on loopback is there to try things: no host of HostDB has an agent then.
func (a *Agent) memberProblems() []api.Problem {
	if a.onLoopback() {
		return nil
	}
	return memberProblems(a.store.View(), a.mesh.View())
}

// memberProblems are members of database clusters of which the mesh knows no agent, or one that knows of no server: nobody watches their process, ends it, or has the VIP
// there. It is a pure function of the two views.
func memberProblems(db hostdb.View, mv mesh.View) (list []api.Problem) {
	for tag := range db.Keys(hostdb.Tags) {
		my, _ := section.MySQLOf(db.Data(hostdb.Tags, tag))
		if my == nil {
			continue
		}
		for _, host := range db.Members(hostdb.Tags, tag) {
			m, ok := mv.ByName(host)
			if !ok {
				list = append(list, api.Problem{Severity: api.SeverityError, Subject: "mysql",
					Text:   fmt.Sprintf("hosts/%s is a member of the database cluster tags/%s, and no agent of the mesh has this name: it cannot be made a copy, be fenced, or have the VIP", host, tag),
					Remedy: fmt.Sprintf("run hostmesh agent on it, with --name %s, or take it out of the tag", host)})
				continue
			}
			r, reported := mv.Report(m.ID)
			if _, leads := r.MySQL[tag]; m.State == mesh.StateAlive && reported && !leads {
				list = append(list, api.Problem{Severity: api.SeverityError, Subject: "mysql",
					Text:   fmt.Sprintf("the agent on hosts/%s knows of no server of the database cluster tags/%s there", host, tag),
					Remedy: fmt.Sprintf("put credentials.d/%s.yaml, with the part server, on it; hostmesh status there says what is wrong with it", my.Credentials)})
			}
		}
	}
	slices.SortFunc(list, func(a, b api.Problem) int { return strings.Compare(a.Text, b.Text) })
	return list
}
