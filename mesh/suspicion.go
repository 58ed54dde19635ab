package mesh

import "time"

const (
	// suspicionWindow is how long a failure counts as part of one incident.
	suspicionWindow = time.Minute
	// suspicionLeast is how many must fail at once before the share of the mesh matters: two of three boxes may well be
	// dead, and must be replaced.
	suspicionLeast = 3
	// suspicionShare is the part of the mesh (one in five) beyond which we rather doubt ourselves.
	suspicionShare = 5
	// suspicionRack is the least size of a rack that is judged as a whole: its switch is likelier than its boxes.
	suspicionRack = 3
)

// massSuspicion reports whether the failures of the last minute are more likely ours, or a switch's, than the members':
// over 20 % of the members and at least three, or most of a rack of three or more. Only members count that were alive
// within the minute: one that is long dead says nothing about this incident.
func massSuspicion(members []Member, now time.Time) bool {
	type count struct{ all, failed int }
	type rack struct{ dc, rack string }
	var mesh count
	racks := make(map[rack]count)
	for _, m := range members {
		var c count
		switch {
		case m.State == StateAlive:
			c.all = 1
		case m.State == StateFailed && now.Sub(m.Since) < suspicionWindow:
			c.all, c.failed = 1, 1
		default:
			continue
		}
		mesh.all += c.all
		mesh.failed += c.failed
		if m.Rack != "" {
			r := racks[rack{m.Datacenter, m.Rack}]
			r.all += c.all
			r.failed += c.failed
			racks[rack{m.Datacenter, m.Rack}] = r
		}
	}
	if mesh.failed >= suspicionLeast && mesh.failed*suspicionShare > mesh.all {
		return true
	}
	for _, r := range racks {
		if r.all >= suspicionRack && r.failed*2 > r.all {
			return true
		}
	}
	return false
}

// failingNow reports whether a failure is young enough to change the verdict as time passes.
func failingNow(members []Member, now time.Time) bool {
	for _, m := range members {
		if m.State == StateFailed && now.Sub(m.Since) < suspicionWindow {
			return true
		}
	}
	return false
}
