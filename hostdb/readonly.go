package hostdb

// SettingsKey is the key of System that holds what is true for the whole mesh.
const SettingsKey = "settings"

const readOnlyField = "ReadOnly"

// ReadOnly reports whether the mesh is in read-only mode, and what whoever switched it on said.
func (v View) ReadOnly() (on bool, why string) {
	d := v.Data(System, SettingsKey).At(readOnlyField)
	return d.Exists() && !d.IsNull(), d.Text()
}

// SetReadOnly switches read-only mode on or off, on every node that this write reaches. The Request needs EvenReadOnly.
func (tx *Tx) SetReadOnly(on bool, why string) error {
	if !tx.Exists(System, SettingsKey) {
		if err := tx.Put(System, SettingsKey, Document{}); err != nil {
			return err
		}
	}
	var doc Document
	if on {
		doc = NewDocument(Leaf{Value: Text(why)})
	} else {
		doc = NewDocument(Leaf{Value: Null})
	}
	return tx.PutPath(System, SettingsKey, []string{readOnlyField}, doc)
}

// WasDeleted reports whether a key is not there and was once.
func (v View) WasDeleted(ns, key string) bool {
	e, _ := v.snap().entries.get(id(ns, key))
	return e != nil && !e.exists() && !e.deleted.IsZero()
}
