package zone

import (
	"fmt"
	"strings"
	"testing"
)

// What a change of one host costs must not depend on how much stands in the section of a tag that has it.
func TestMemberDoesNotReadSectionAgain(t *testing.T) {
	allocs := func(records int) float64 {
		s := openStore(t)
		var text strings.Builder
		text.WriteString("DNS:\n  Zone: dc1.example.com\n  Records:\n")
		for i := range records {
			fmt.Fprintf(&text, "    r%d: {A: 10.9.%d.%d}\n", i, i/250, i%250)
		}
		put(t, s, "tags/dc1", text.String())
		put(t, s, "hosts/web1.dc1.example.com", "Network: {IP: 10.1.0.1}")
		members(t, s, "dc1", "web1.dc1.example.com")
		m := aMesh()
		z := Compile(s.View(), m, DefaultOptions())
		put(t, s, "hosts/web1.dc1.example.com", "Network: {IP: 10.1.0.2}")
		v := s.View()
		return testing.AllocsPerRun(5, func() { z.Update(v, m) })
	}
	few, many := allocs(1), allocs(2000)
	if many > 2*few+100 {
		t.Fatalf("a change of one host takes %v allocations beside a record, and %v beside 2000", few, many)
	}
}
