package mysqlha

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Standing is what is known of which clusters a host leads.
type Standing struct {
	// Tags are those that have a section MySQL: true = the host is a member.
	Tags map[string]bool
	// Said is what the agent on the host says that its servers do, by tag: primary, replica.
	Said map[string]string
	// Records are those of all clusters, by tag; Error is why they cannot be read, "" = they were.
	Records map[string]Record
	Error   string
	// Deleted says that HostDB has no entry of the host any more: which tags it had is not known then.
	Deleted bool
}

// Guard tells why the machine of a host must not be rebooted, stopped or destroyed: it is the primary of a cluster, or whether it is cannot be told. It names the
// clusters, and what to do; "" = nothing speaks against it. It is a pure function.
//
// The record and the agent on the host count each for itself, for either may be late; but a host of which the record says that it was deposed leads nothing.
func Guard(host string, s Standing) string {
	leads, unsure := map[string]bool{}, map[string]bool{}
	for tag, r := range s.Records {
		if _, cluster := s.Tags[tag]; !cluster && !s.Deleted {
			continue // the tag is no cluster any more: nobody could hand over
		}
		if r.Primary == host || r.Intent != nil && r.Intent.To == host {
			leads[tag] = true
		}
	}
	for tag, role := range s.Said {
		if _, deposed := s.Records[tag].Fenced[host]; role == string(AsPrimary) && !deposed {
			leads[tag] = true
		}
	}
	if s.Error != "" {
		for tag, member := range s.Tags {
			if (member || s.Deleted) && !leads[tag] && s.Said[tag] != string(AsReplica) {
				unsure[tag] = true
			}
		}
	}
	back := ""
	if s.Deleted {
		back = fmt.Sprintf("hostmesh vm undelete %s brings its entry back, then ", host)
	}
	switch tags := slices.Sorted(maps.Keys(leads)); {
	case len(tags) == 1:
		return fmt.Sprintf("it is the primary of the database cluster tags/%s: %shostmesh mysql switchover %s has another take the writes", tags[0], back, tags[0])
	case len(tags) > 1:
		return fmt.Sprintf("it is the primary of the database clusters tags/%s: %shostmesh mysql switchover TAG of each has another take the writes", strings.Join(tags, ", tags/"), back)
	}
	if tags := slices.Sorted(maps.Keys(unsure)); len(tags) > 0 {
		return fmt.Sprintf("whether it is the primary of the database cluster tags/%s cannot be told: %s", strings.Join(tags, ", tags/"), s.Error)
	}
	return ""
}
