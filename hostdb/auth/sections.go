package auth

import "hostmesh/hostdb"

// AllowChange decides about a write that turns the data of ns/key from before into after; either may be not there. Who may
// write the data may do so unless a section that changes is closed to them; who may write some sections may write the whole
// if nothing else changes. A section is a top-level mapping key. The error wraps hostdb.ErrDenied.
func (id Identity) AllowChange(v hostdb.View, ns, key string, before, after hostdb.Document) error {
	if id.Admin {
		return nil
	}
	refused := id.Allow(v, ns, key, hostdb.Data)
	changed := changedSections(before, after)
	if refused != nil && (len(changed) == 0 || !before.IsMapping() || !after.IsMapping()) {
		return refused
	}
	for _, name := range changed {
		if err := id.Allow(v, ns, key, hostdb.Section(name)); err != nil {
			if refused != nil {
				return refused
			}
			return err
		}
	}
	return nil
}

// AllowPath decides about a write inside the data of ns/key, at a path whose first step is a section. newname is what a
// rename makes of the last step, "" for other writes.
func (id Identity) AllowPath(v hostdb.View, ns, key string, path []string, newname string) error {
	if len(path) == 0 {
		return id.Allow(v, ns, key, hostdb.Data)
	}
	if err := id.Allow(v, ns, key, hostdb.Section(path[0])); err != nil {
		return err
	}
	if newname != "" && len(path) == 1 {
		return id.Allow(v, ns, key, hostdb.Section(newname))
	}
	return nil
}

// changedSections are the top-level mapping keys that two documents do not have alike.
func changedSections(before, after hostdb.Document) []string {
	var names []string
	for name, old := range before.Keys() {
		if !old.Equal(after.At(name)) {
			names = append(names, name)
		}
	}
	for name := range after.Keys() {
		if !before.At(name).Exists() {
			names = append(names, name)
		}
	}
	return names
}
