package layout

import (
	"fmt"
	"io/fs"
	"path"

	"hostmesh/hostdb"
)

// Export is a View as a directory, in memory: data in canonical form, member lists with their comments, access lists;
// not .system, and no key whose name cannot be that of a file (see nameable). os.CopyFS writes it, WriteTar sends it, and Read reads it back. Texts are shared with the View.
func Export(view hostdb.View) (fs.FS, error) {
	t := newTree()
	for _, ns := range view.Namespaces() {
		if ns == hostdb.System || !nameable(ns, hostdb.DefaultKey) {
			continue
		}
		if err := exportNamespace(t, view, ns); err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
	}
	return t.seal(), nil
}

// nameable reports whether a key has a place in the layout. One that HostDB would not let anybody make may come from another
// node all the same: its name could lead out of the directory, or say something else to git.
func nameable(ns, key string) bool {
	return hostdb.CheckName(ns) == nil && (key == hostdb.DefaultKey || hostdb.CheckName(key) == nil)
}

func exportNamespace(t *tree, view hostdb.View, ns string) error {
	if _, err := t.dir(ns); err != nil {
		return err
	}
	if acl, ok := view.Perms(ns, hostdb.DefaultKey); ok {
		name := path.Join(ns, permsDir, hostdb.DefaultKey)
		if err := t.add(name, acl.YAML(), view.PermsModified(ns, hostdb.DefaultKey)); err != nil {
			return err
		}
	}
	for key := range view.Keys(ns) {
		item, _ := view.Get(ns, key)
		if item == (hostdb.Item{}) || !nameable(ns, key) { // the first is tags/all, which nobody has written
			continue
		}
		if err := t.add(path.Join(ns, key), item.YAML(), item.Modified()); err != nil {
			return err
		}
		if list := view.DirectMembers(ns, key); len(list) > 0 {
			text := hostdb.FormatMembers(list) + "\n"
			if err := t.add(path.Join(ns, membersDir, key), text, item.MembersModified()); err != nil {
				return err
			}
		}
		if acl, ok := view.Perms(ns, key); ok {
			if err := t.add(path.Join(ns, permsDir, key), acl.YAML(), item.PermsModified()); err != nil {
				return err
			}
		}
	}
	return nil
}
