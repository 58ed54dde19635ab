package lease

import "testing"

func TestKindOf(t *testing.T) {
	for key, want := range map[string]string{
		"vm/machine/0acfbcca": "vm/machine", "name/vm/web7": "name/vm", "grant/subnet/prod/10.1.128.0/27": "grant/subnet", "vm/destroys": "vm", "plain": "plain", "": "",
	} {
		if got := kindOf(key); got != want {
			t.Errorf("kindOf(%q) = %q, want %q", key, got, want)
		}
	}
}
