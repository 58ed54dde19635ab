package section

import (
	"fmt"
	"strings"

	"hostmesh/hostdb"
)

// ProtectedOf reports whether a host must not be destroyed, rebooted or made smaller without an override and a reason.
func ProtectedOf(host hostdb.Document) bool {
	on, err := parseSwitch(strings.TrimSpace(host.Text("Protected")))
	return on && err == nil
}

// protectionError is what a protected host is kept from. It wraps hostdb.ErrProtected.
type protectionError struct{ text string }

func (e *protectionError) Error() string { return e.text }
func (e *protectionError) Unwrap() error { return hostdb.ErrProtected }

// protected refuses to delete a protected host, and to take from its VM. Protection is what stood before the write: to
// end it is a write of its own.
func protected(key string, before, after hostdb.Document) error {
	if !ProtectedOf(before) {
		return nil
	}
	what := ""
	switch was, is := vmOf(before), vmOf(after); {
	case !after.Exists():
		what = "delete it"
	case was == nil:
	case is == nil:
		what = "take away its VM"
	case is.CPUs < was.CPUs:
		what = "make VM/CPUs smaller"
	case is.Memory < was.Memory:
		what = "make VM/Memory smaller"
	case is.Disk < was.Disk:
		what = "make VM/Disk smaller"
	}
	if what == "" {
		return nil
	}
	return &protectionError{fmt.Sprintf("hosts/%s is Protected: to %s, give an override with the reason, or end the protection first", key, what)}
}

// vmOf reads the VM of a host; nil when it has none.
func vmOf(host hostdb.Document) *VM {
	vm, _ := VMOf(host)
	return vm
}
