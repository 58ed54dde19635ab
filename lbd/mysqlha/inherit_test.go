package mysqlha

import "testing"

func TestACopyInherits(t *testing.T) {
	for _, c := range []struct{ title, copied, donor, position, want string }{
		{"a log that begins with the copy", "", "0-1-90,0-2-40", "0-1-100", "0-1-100,0-2-40"},
		{"the donor has become the primary meanwhile", "", "0-1-90", "0-2-120", "0-1-90,0-2-120"},
		{"a log that has something cannot be told anything", "0-1-100", "0-1-90,0-2-40", "0-1-100", ""},
		{"no transaction yet", "", "", "", ""},
	} {
		got, err := inheritance(Facts{Flavour: MariaDB, Binlog: c.copied}, Facts{Flavour: MariaDB, Binlog: c.donor}, c.position)
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.title, got, err, c.want)
		}
		if c.want == "" {
			continue
		}
		// As the primary it finds nothing errant in those that have what it has.
		extra, err := Errant(Facts{Flavour: MariaDB, ServerID: 2, Binlog: c.donor}, Facts{Flavour: MariaDB, ServerID: 4, Binlog: got + ",0-4-200"}, true)
		if err != nil || !extra.Empty() {
			t.Errorf("%s: %s is errant, %v", c.title, extra, err)
		}
	}
}
