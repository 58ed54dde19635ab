package hostdb

// Restore makes a part of a key what it was in then: Data, Members, Perms, or all of it for "". Members that are no hosts
// or keys any more are left out, with a warning. A key that then did not have is deleted (what "") or refused.
func (tx *Tx) Restore(then View, ns, key string, what Resource) error { panic("not yet") }

// Undo takes back what one revision did, of all keys it touched, in one operation. before and after are the states around
// it. What others have written over since is left, and named in an error that wraps ErrWrittenOver, unless force: then
// it is overwritten too.
func (tx *Tx) Undo(rev Revision, before, after View, force bool) error { panic("not yet") }
